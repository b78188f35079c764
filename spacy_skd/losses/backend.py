"""The one door to the torch side of this package."""

from importlib import import_module
from typing import Any


def torch_side(module: str) -> Any:
    """Import a module of losses on tensors.

    `spacy.load` resolves a student's losses on machines without PyTorch, so nothing of them is
    imported before one is computed.

    module (str): "chain", "chain_gold" or "arcs".
    RETURNS (Any): The module.
    RAISES (ImportError): If PyTorch is not installed.
    """
    try:
        import_module("torch")
    except ImportError as error:
        raise ImportError(
            "Training a crf_ner or biaffine_parser needs PyTorch, which isn't installed: "
            'pip install "spacy_skd[train]".'
        ) from error
    return import_module(f".{module}", __package__)
