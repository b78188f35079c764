"""Scores to structures: tag sequences and trees."""

from functools import partial
from typing import Any, List

import numpy
import torch
from torchcrf import CRF
from ufal.chu_liu_edmonds import chu_liu_edmonds

from spacy_skd.decoding import decode_heads, viterbi
from spacy_skd.schemes import TagScheme
from spacy_skd.scores import SentenceGroup, group_sentences

from .losses import make_scores
from .pairs import Pair
from .pipelines import references, trained

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
    docs = references("dev", 20_000)
    parser: Any = trained(True).get_pipe("parser")
    prepared = list(trained(True).pipe(doc.text for doc in docs))
    with trained(True).select_pipes(enable="tok2vec"):
        scorer = parser.model.predict(list(trained(True).pipe(doc.text for doc in docs)))
    ends = numpy.cumsum([len(doc) for doc in prepared])
    spans = numpy.array(
        [
            (end - len(doc) + sent.start, end - len(doc) + sent.end)
            for doc, end in zip(prepared, ends, strict=True)
            for sent in doc.sents
        ]
    )
    groups = group_sentences(spans)
    real = scorer.arcs(groups)
    rng = numpy.random.default_rng(0)
    random = [rng.normal(size=arcs.shape).astype("f") for arcs in real]
    return [
        Pair(
            f"spanning trees of {len(spans)} sentences, {name} scores",
            "ufal.chu_liu_edmonds, sentence by sentence",
            partial(_decode, groups, arcs),
            partial(_one_by_one, groups, arcs),
            target=target,
        )
        for name, arcs, target in (("a parser's", real, 3.0), ("random", random, 1.0))
    ]


def _decode(groups: List[SentenceGroup], arcs: List[Any]) -> None:
    for group, scores in zip(groups, arcs, strict=True):
        decode_heads(group, scores)


def _one_by_one(groups: List[SentenceGroup], arcs: List[Any]) -> None:
    """Each sentence's best tree, of any number of roots."""
    for group, scores in zip(groups, arcs, strict=True):
        for row, length in enumerate(group.lengths):
            matrix = numpy.full((length + 1, length + 1), numpy.nan)
            matrix[1:] = scores[row, :length, : length + 1]
            matrix[range(1, length + 1), range(1, length + 1)] = numpy.nan
            chu_liu_edmonds(matrix)
