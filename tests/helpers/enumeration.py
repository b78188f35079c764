"""Every tag sequence of a doc, and every tree of a sentence."""

from itertools import pairwise, product
from typing import Dict, List, Optional, Tuple

import torch

from spacy_skd.schemes import ValidTags

Params = Tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
Tree = Tuple[int, ...]


def sequences(
    params: Params, valid: ValidTags, allowed: Optional[torch.Tensor] = None
) -> Tuple[List[Tuple[int, ...]], torch.Tensor]:
    """Every tag sequence of one doc that is possible, and their scores."""
    emissions, transitions, start, end = params
    n_tokens, n_tags = emissions.shape
    actual, scores = [], []
    for tags in product(range(n_tags), repeat=n_tokens):
        pairs = list(pairwise(tags))
        if not (
            valid.start[tags[0]]
            and valid.end[tags[-1]]
            and all(valid.transitions[i, j] for i, j in pairs)
            and (allowed is None or all(allowed[t, tag] for t, tag in enumerate(tags)))
        ):
            continue
        actual.append(tags)
        score = start[tags[0]] + end[tags[-1]]
        score = score + sum(emissions[t, tag] for t, tag in enumerate(tags))
        scores.append(score + sum(transitions[i, j] for i, j in pairs))
    return actual, torch.stack(scores) if scores else torch.empty(0)


def choices(length: int) -> List[Tree]:
    """All choices of a head for each token."""
    heads = [[h for h in range(length + 1) if h != d + 1] for d in range(length)]
    return list(product(*heads))


def trees(length: int) -> List[Tree]:
    """All single-root trees: from every token the way leads to the root."""

    def is_tree(heads: Tree) -> bool:
        for d in range(length):
            node = d + 1
            for _ in range(length):
                node = heads[node - 1] if node else 0
            if node:
                return False
        return heads.count(0) == 1

    return [heads for heads in choices(length) if is_tree(heads)]


def weights_of(scores: torch.Tensor, structures: List[Tree]) -> Dict[Tree, torch.Tensor]:
    return {
        heads: torch.stack([scores[d, h] for d, h in enumerate(heads)]).sum()
        for heads in structures
    }
