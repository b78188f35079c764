"""PyTorch, which computes the losses and is needed for training only."""

from importlib.util import find_spec


def require_torch() -> None:
    """Check that PyTorch is installed. To be called before an import of torch.

    `spacy.load` resolves a student's losses on machines without PyTorch, so that modules of losses
    import it inside the functions that compute.

    RAISES (ImportError): If PyTorch is not installed.
    """
    try:
        is_installed = find_spec("torch") is not None
    except ModuleNotFoundError:
        is_installed = False
    if not is_installed:
        raise ImportError(
            "Training a crf_ner or biaffine_parser needs PyTorch, which isn't installed: "
            'pip install "spacy_skd[train]".'
        )
