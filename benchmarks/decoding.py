"""Scores to structures: tag sequences and trees."""

from functools import partial
from typing import Any, List

import numpy
import torch
from torchcrf import CRF
from ufal.chu_liu_edmonds import chu_liu_edmonds

from spacy_skd.decoding import decode_heads, viterbi
from spacy_skd.schemes import TagScheme
from spacy_skd.structures import SentenceGroup, group_sentences

from .losses import make_scores
from .pairs import Pair
from .pipelines import references, student

DOCS, TOKENS = 128, 50


def pairs() -> List[Pair]:
    """RETURNS (List[Pair]): The pairs."""
    return [_viterbi_pair(4, target=5.0), _viterbi_pair(18), *_tree_pairs()]


def _viterbi_pair(n_labels: int, **settings: Any) -> Pair:
    scheme = TagScheme("BILUO", [f"L{i}" for i in range(n_labels)])
    scores = make_scores(scheme, 0, DOCS, TOKENS)
    crf = CRF(len(scheme), batch_first=True)
    emissions = torch.tensor(scores.emissions).view(DOCS, TOKENS, len(scheme))
    is_token = torch.ones(DOCS, TOKENS, dtype=torch.bool)
    return Pair(
        f"Viterbi, {DOCS} x {TOKENS} tokens x {len(scheme)} tags",
        "pytorch-crf's decode",
        partial(viterbi, scores, scheme.valid),
        partial(crf.decode, emissions, is_token),
        **settings,
    )


def _tree_pairs() -> List[Pair]:
    docs = list(student().pipe(doc.text for doc in references("dev", 20_000)))
    parser: Any = student().get_pipe("parser")
    scorer = parser.model.predict(docs)
    ends = numpy.cumsum([len(doc) for doc in docs])
    spans = numpy.array(
        [
            (end - len(doc) + sent.start, end - len(doc) + sent.end)
            for doc, end in zip(docs, ends, strict=True)
            for sent in doc.sents
        ]
    )
    groups = group_sentences(spans)
    real = scorer.arcs(groups)
    rng = numpy.random.default_rng(0)
    random = [rng.normal(size=arcs.shape).astype("f") for arcs in real]
    targets = {("a parser's", False): 3.0, ("random", False): 1.0}
    return [
        Pair(
            f"spanning trees of {len(spans)} sentences, one root each, {name} scores",
            f"ufal.chu_liu_edmonds for each, {'one root' if one_root else 'any number of roots'}",
            partial(_decode, groups, arcs),
            partial(_one_by_one, groups, arcs, one_root),
            target=targets.get((name, one_root)),
        )
        for name, arcs in (("a parser's", real), ("random", random))
        for one_root in (False, True)
    ]


def _decode(groups: List[SentenceGroup], arcs: List[Any]) -> None:
    for group, scores in zip(groups, arcs, strict=True):
        decode_heads(group, scores)


def _one_by_one(groups: List[SentenceGroup], arcs: List[Any], one_root: bool) -> None:
    """Each sentence's best tree, of any number of roots, or of one (Stanojević and Cohen 2021)."""
    for group, scores in zip(groups, arcs, strict=True):
        for row, length in enumerate(group.lengths):
            matrix = numpy.full((length + 1, length + 1), numpy.nan)
            matrix[1:] = scores[row, :length, : length + 1]
            matrix[range(1, length + 1), range(1, length + 1)] = numpy.nan
            if one_root:
                matrix[1:, 0] -= length * (numpy.nanmax(matrix[1:]) - numpy.nanmin(matrix[1:])) + 1
            chu_liu_edmonds(matrix)
