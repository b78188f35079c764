"""Decoding on the device: the scores stay there, the decoded structures come to the host."""

import numpy
import pytest
from both_sides import to_device
from helpers.layer_checks import draw
from helpers.scores import make_arcs, make_chain
from numpy.testing import assert_array_equal

from spacy_skd.decoding import decode_heads, sentence_spans, viterbi
from spacy_skd.schemes import TagScheme


@pytest.mark.parametrize("lengths", [(4, 0, 1, 7, 4), (40,), (0, 0)])
@pytest.mark.parametrize("is_restricted", [False, True])
def test_viterbi(ops, rng, lengths, is_restricted):
    scheme = TagScheme("BILUO", ["A", "B"])
    scores = make_chain(lengths, len(scheme), rng)
    # The components make masks on the host.
    allowed = numpy.ones((sum(lengths), len(scheme)), dtype=bool) if is_restricted else None
    if is_restricted:
        allowed[::2, 1:] = False
    expected = viterbi(scores, scheme.valid, allowed)
    for mask in (allowed, to_device(allowed)):
        tags = viterbi(to_device(scores), scheme.valid, mask)
        assert isinstance(tags, numpy.ndarray)
        assert_array_equal(tags, expected)


def test_decode_heads(ops, rng):
    scores = make_arcs((3, 1, 12, 5, 5, 5), rng)
    n_exact = 0
    for group, arcs in zip(scores.groups, scores.arcs):
        heads = decode_heads(to_device(group), to_device(arcs))
        assert isinstance(heads, numpy.ndarray)
        assert_array_equal(heads, decode_heads(group, arcs))
        greedy = numpy.where(group.is_arc, arcs, -numpy.inf).argmax(axis=2)
        n_exact += (heads != greedy).any(axis=1).sum()
    # Both ways were taken.
    assert 0 < n_exact < 6


@pytest.mark.parametrize("max_tokens", [100, 3])
def test_sentence_spans(ops, rng, max_tokens):
    starts = draw(rng, 20, 2)
    presets = numpy.zeros((20,), dtype="i1")
    presets[3], presets[4:7] = 1, -1
    expected = sentence_spans(starts, [12, 0, 8], presets, max_tokens)
    spans = sentence_spans(to_device(starts), [12, 0, 8], presets, max_tokens)
    assert isinstance(spans, numpy.ndarray)
    assert_array_equal(spans, expected)
