"""Random potentials of linear chains."""

import numpy
import torch

from helpers.enumeration import Params
from spacy_skd.schemes import TagScheme

SCHEMES = [TagScheme("BIO", ["X", "Y"]), TagScheme("BILUO", ["X"])]


def make_params(n_tokens: int, n_tags: int, seed: int, scale: float = 1.0) -> Params:
    rng = numpy.random.default_rng(seed)
    shapes = [(n_tokens, n_tags), (n_tags, n_tags), (n_tags,), (n_tags,)]
    emissions, transitions, start, end = (
        torch.tensor(rng.normal(size=shape) * scale) for shape in shapes
    )
    return emissions, transitions, start, end


def make_allowed(n_tokens: int, n_tags: int, seed: int) -> torch.Tensor:
    rng = numpy.random.default_rng(seed)
    allowed = torch.tensor(rng.random((n_tokens, n_tags)) < 0.5)
    allowed[:, 0] = True  # O, so that every doc has a sequence
    return allowed
