"""The k best tag sequences against every tag sequence, and the best one in pieces."""

import numpy
import pytest
import torch
from helpers.chain_params import SCHEMES, make_allowed, make_params
from helpers.enumeration import sequences

from spacy_skd.distributions import best_sequences
from spacy_skd.distributions.best_sequences import k_best
from spacy_skd.distributions.chain import potentials
from spacy_skd.schemes import TagScheme


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("k, piece", [(1, 100), (1, 2), (1, 1), (3, 100), (40, 100)])
@pytest.mark.parametrize("is_restricted", [False, True])
def test_k_best_are_the_best_of_every_sequence(
    scheme: TagScheme,
    scale: float,
    k: int,
    piece: int,
    is_restricted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(best_sequences, "_piece_length", lambda *args: piece)
    lengths = [3, 0, 1, 4, 2]
    params = make_params(sum(lengths), len(scheme), 5, scale)
    allowed = make_allowed(sum(lengths), len(scheme), 6) if is_restricted else None
    best, tags = k_best(potentials(*params, lengths, scheme.valid, allowed), k)
    assert best.shape == (len(lengths), k) and tags.shape == (k, sum(lengths))
    end = 0
    for d, length in enumerate(lengths):
        tokens = slice(end, end := end + length)
        if not length:
            assert best[d].tolist() == [0.0] + [-torch.inf] * (k - 1)
            continue
        its_own = None if allowed is None else allowed[tokens]
        actual, scores = sequences((params[0][tokens], *params[1:]), scheme.valid, its_own)
        expected, order = scores.sort(descending=True)
        n = min(k, len(actual))
        torch.testing.assert_close(best[d, :n], expected[:n])
        assert (best[d, n:] == -torch.inf).all()
        assert [tuple(row) for row in tags[:n, tokens].tolist()] == [actual[i] for i in order[:n]]


def test_k_best_of_nothing() -> None:
    scheme = SCHEMES[0]
    best, tags = k_best(potentials(*make_params(0, len(scheme), 1), [0], scheme.valid), 2)
    assert best.tolist() == [[0.0, -torch.inf]] and tags.shape == (2, 0)


@pytest.mark.parametrize("piece", [1, 7, 32, 1000])
@pytest.mark.parametrize("is_restricted", [False, True])
def test_the_best_in_pieces_is_that_of_whole_chains(
    piece: int, is_restricted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where many are equally good: a valid one, of the best score."""
    monkeypatch.setattr(best_sequences, "_piece_length", lambda *args: piece)
    scheme = TagScheme("BILUO", ["X", "Y"])
    lengths = [200, 3, 90, 33, 32, 1]
    emissions, transitions, start, end = make_params(sum(lengths), len(scheme), 3)
    allowed = make_allowed(sum(lengths), len(scheme), 4) if is_restricted else None
    for rounded in (False, True):
        if rounded:
            emissions, transitions = emissions.round(), transitions.round()
        phi = potentials(emissions, transitions, start, end, lengths, scheme.valid, allowed)
        best, tags = k_best(phi, 1)
        expected, expected_tags = k_best(phi, 2)
        torch.testing.assert_close(best[:, 0], expected[:, 0])
        if not rounded:
            assert torch.equal(tags[0], expected_tags[0])
        # What the sequence itself scores.
        path = tags[0]
        scores = phi.unary.gather(1, path[:, None])[:, 0]
        first = numpy.cumsum([0, *lengths[:-1]])
        before = phi.before[0][path.roll(1), path]
        before[first] = phi.before[1, 0][path[first]]
        of_docs = torch.stack([part.sum() for part in (scores + before).split(lengths)])
        torch.testing.assert_close(of_docs, expected[:, 0])


def test_a_doc_without_a_sequence_costs_the_others_nothing() -> None:
    lengths = [80, 100, 40]
    scheme = SCHEMES[1]
    params = make_params(sum(lengths), len(scheme), seed=21)
    allowed = torch.ones(sum(lengths), len(scheme), dtype=torch.bool)
    allowed[100] = False
    best, _ = k_best(potentials(*params, lengths, scheme.valid, allowed), 1)
    assert best.isneginf()[:, 0].tolist() == [False, True, False]
