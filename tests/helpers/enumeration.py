"""Every tag sequence of a doc, and every tree of a sentence."""

from functools import cache
from itertools import pairwise, product
from typing import Iterator, List, Optional, Sequence, Tuple

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
    if not n_tokens:
        return [()], start.new_zeros(1)
    possible = [
        tags
        for tags in product(range(n_tags), repeat=n_tokens)
        if valid.start[tags[0]]
        and valid.end[tags[-1]]
        and all(valid.transitions[pair] for pair in pairwise(tags))
        and (allowed is None or all(allowed[t, tag] for t, tag in enumerate(tags)))
    ]
    tags = torch.tensor(possible, dtype=torch.long).reshape(-1, n_tokens)
    scores = start[tags[:, 0]] + end[tags[:, -1]]
    scores = scores + emissions[torch.arange(n_tokens), tags].sum(1)
    return possible, scores + transitions[tags[:, :-1], tags[:, 1:]].sum(1)


def doc_sequences(
    params: Params, lengths: List[int], valid: ValidTags, allowed: Optional[torch.Tensor] = None
) -> Iterator[Tuple[List[Tuple[int, ...]], torch.Tensor]]:
    """`sequences` of one doc after the other."""
    emissions, *shared = params
    masks = [None] * len(lengths) if allowed is None else allowed.split(lengths)
    for doc, mask in zip(emissions.split(lengths), masks):
        yield sequences((doc, *shared), valid, mask)


def choices(length: int) -> List[Tree]:
    """All choices of a head for each token."""
    heads = [[h for h in range(length + 1) if h != d + 1] for d in range(length)]
    return list(product(*heads))


def all_end_at_root(heads: Sequence[int]) -> bool:
    """From every token the path leads to the root."""
    for node in range(1, len(heads) + 1):
        for _ in heads:
            node = heads[node - 1] if node else 0
        if node:
            return False
    return True


def is_tree(heads: Sequence[int]) -> bool:
    return all_end_at_root(heads) and list(heads).count(0) == 1


@cache
def trees(length: int) -> List[Tree]:
    """All single-root trees."""
    return [heads for heads in choices(length) if is_tree(heads)]


def weights_of(scores: torch.Tensor, structures: List[Tree]) -> torch.Tensor:
    """The score of each structure of a sentence, from the scores of arcs."""
    heads = torch.tensor(structures)
    return scores[torch.arange(heads.shape[1]), heads].sum(1)
