"""Annotation that is missing, incomplete, on other tokens, or wrong: what is learned from it."""

from itertools import pairwise, product
from typing import Any, Dict, List, Optional, Sequence

import numpy
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.training.iob_utils import iob_to_biluo
from spacy.vocab import Vocab

from spacy_skd.pipeline.gold_entities import aligned_tags, gold_tags
from spacy_skd.pipeline.gold_parses import gold_parse, gold_sentence_starts
from spacy_skd.schemes import TagScheme

STARTS, CONTINUES, UNKNOWN = 1, -1, 0


# Entities


def _as_biluo(tags: Sequence[str], scheme: str) -> Optional[List[str]]:
    """What tags of either scheme say, in BILUO; None if they are not well-formed."""
    if scheme == "BIO":
        before = ["O", *tags[:-1]]
        if any(t[0] == "I" and b not in ("B" + t[1:], t) for b, t in zip(before, tags)):
            return None
        return iob_to_biluo(tags)
    for before, tag in zip(["O", *tags], [*tags, "O"]):
        if (before[0] in "BI") != (tag[0] in "IL") or (tag[0] in "IL" and before[2:] != tag[2:]):
            return None
    return list(tags)


def _enumerated_loss(ner: Any, docs: List[Doc], gold: List[List[Optional[str]]]) -> float:
    """- log P of what is known of each doc, by going through all tag sequences."""
    scores = ner.model.predict(docs)
    loss, offset = 0.0, 0
    for known in gold:
        n = len(known)
        emissions = scores.emissions[offset : offset + n]
        offset += n
        all_sequences, agreeing = [], []
        for y in product(range(len(ner.scheme)), repeat=n):
            biluo = _as_biluo([ner.scheme.tags[tag] for tag in y], ner.scheme.name)
            if biluo is None:
                continue
            score = scores.start[y[0]] + scores.end[y[-1]] + emissions[range(n), y].sum()
            score += sum(scores.transitions[i, j] for i, j in pairwise(y))
            all_sequences.append(score)
            if all(k in (None, tag) for k, tag in zip(known, biluo)):
                agreeing.append(score)
        loss += numpy.logaddexp.reduce(all_sequences) - numpy.logaddexp.reduce(agreeing)
    return float(loss)


@settings(max_examples=100)
@pytest.fixture(scope="module")
def vocab() -> Vocab:
    return spacy.blank("en").vocab


@given(
    kinds=st.lists(
        st.sampled_from(["B-X", "B-Y", "I", "O", "", "blocked", "space"]), min_size=0, max_size=8
    ),
    name=st.sampled_from(["BIO", "BILUO"]),
)
def test_tags_of_the_same_tokens_are_what_spacy_aligns(
    vocab: Vocab, kinds: List[str], name: str
) -> None:
    words = ["\n" if kind == "space" else "ab"[i % 2] for i, kind in enumerate(kinds)]
    doc = Doc(vocab, words=words)
    spans: List[Span] = []
    for i, kind in enumerate(kinds):
        if kind[0:1] == "B":
            spans.append(Span(doc, i, i + 1, label=kind[2:]))
        elif kind == "I" and spans and spans[-1].end == i:
            spans[-1] = Span(doc, spans[-1].start, i + 1, label=spans[-1].label_)
    of_kind = {
        what: [doc[i : i + 1] for i, kind in enumerate(kinds) if kind == what]
        for what in ("O", "blocked")
    }
    doc.set_ents(spans, outside=of_kind["O"], blocked=of_kind["blocked"], default="missing")
    scheme = TagScheme(name, ["X"])  # and "Y" is unknown
    eg = Example(Doc(vocab, words=words), doc)
    assert_array_equal(gold_tags(eg, scheme), aligned_tags(eg, scheme))


@pytest.fixture(params=["BIO", "BILUO"])
def random_ner(request: Any, make_nlp: Any) -> Any:
    """An entity recogniser of one label whose transitions are random too."""
    nlp = make_nlp("ner", ner={"scheme": request.param})
    nlp.get_pipe("ner").add_label("X")
    nlp.initialize()
    ner = nlp.get_pipe("ner")
    rng = numpy.random.default_rng(0)
    for name in ("transitions", "start", "end"):
        ner.model.set_param(name, rng.normal(size=ner.model.get_param(name).shape).astype("f"))
    return ner


@pytest.mark.parametrize(
    "known",
    [
        [["O", "B-X", "L-X", "U-X"]],
        [["-", "-", "-", "U-X"]],
        [["-", "U-X", "-", "O"]],
        [["B-X", "L-X", "-", "-"]],
        [["-", "B-X", "I-X", "L-X"]],
        [["O", "-", "-", "-"], ["U-X", "-"], ["-", "O"]],
        [["U-X", "U-X", "-"], ["-"], ["O"]],
    ],
)
def test_missing_entities_are_summed_over(random_ner: Any, known: List[List[str]]) -> None:
    docs = [Doc(random_ner.vocab, words=list("abcd"[: len(tags)])) for tags in known]
    examples = [Example.from_dict(doc, {"entities": tags}) for doc, tags in zip(docs, known)]
    # A doc of which nothing is known has nothing to add.
    expected = _enumerated_loss(
        random_ner, docs, [[None if tag == "-" else tag for tag in tags] for tags in known]
    )
    assert random_ner.update(examples)["ner"] == pytest.approx(expected, rel=1e-4)


def test_missing_and_blocked_tokens_as_a_doc_has_them(random_ner: Any) -> None:
    doc = Doc(random_ner.vocab, words=list("abcd"))
    reference = doc.copy()
    reference.set_ents([reference.char_span(0, 1, "X")], missing=[reference[1:2]])
    expected = _enumerated_loss(random_ner, [doc], [["U-X", None, "O", "O"]])
    loss = random_ner.update([Example(doc, reference)])["ner"]
    assert loss == pytest.approx(expected, rel=1e-4)

    # spaCy can't tell blocked from missing in an aligned reference.
    reference.set_ents([reference.char_span(0, 1, "X")], blocked=[reference[1:2]])
    assert random_ner.update([Example(doc, reference)])["ner"] == pytest.approx(loss)


def test_a_doc_without_entity_annotation_teaches_nothing(random_ner: Any, gradients: Any) -> None:
    doc = Doc(random_ner.vocab, words=list("abcd"))
    assert random_ner.update([Example(doc, doc.copy())])["ner"] == 0
    assert all((grad == 0).all() for grad in gradients(random_ner))
    none = doc.copy()
    none.ents = []
    assert random_ner.update([Example(doc, none)])["ner"] > 0


@pytest.mark.parametrize(
    ("predicted", "known"),
    [
        ("a|bc|d", ["O", None, "O"]),
        ("ab|c|d", ["O", "U-X", "O"]),
        ("a|b|cd", ["O", "O", None]),
        ("abcd", [None]),
    ],
)
def test_entities_on_merged_tokens(
    random_ner: Any, predicted: str, known: List[Optional[str]]
) -> None:
    """An entity counts where both tokenizations have it, and is missing elsewhere."""
    _check_alignment(random_ner, ["a", "b", "c", "d"], ["O", "O", "B-X", "O"], predicted, known)


@pytest.mark.parametrize(
    ("predicted", "known"),
    [
        ("a|bb|c|c", ["O", "O", "B-X", "L-X"]),
        ("a|b|b|cc", ["O", "O", "O", "U-X"]),
        ("a|bb| |cc", ["O", "O", "O", "U-X"]),
        ("abb|c|c", ["O", "B-X", "L-X"]),
        ("a|bbc|c", ["O", None, None]),
    ],
)
def test_entities_on_split_tokens(
    random_ner: Any, predicted: str, known: List[Optional[str]]
) -> None:
    _check_alignment(random_ner, ["a", "bb", "cc"], ["O", "O", "B-X"], predicted, known)


def _check_alignment(
    ner: Any, words: List[str], ents: List[str], predicted: str, known: List[Optional[str]]
) -> None:
    pieces = predicted.split("|")
    doc = Doc(ner.vocab, words=pieces, spaces=[False] * len(pieces))
    reference = Doc(ner.vocab, words=words, spaces=[False] * len(words), ents=ents)
    expected = _enumerated_loss(ner, [doc], [known])
    assert ner.update([Example(doc, reference)])["ner"] == pytest.approx(expected, rel=1e-4)


def test_an_entity_label_that_training_never_saw(random_ner: Any) -> None:
    """It is learned as it comes, as by spaCy's; the loss alone takes it as missing."""
    doc = Doc(random_ner.vocab, words=list("abcd"))
    examples = [
        Example.from_dict(doc.copy(), {"entities": tags})
        for tags in (["U-X", "B-NEW", "L-NEW", "O"], ["U-X", "-", "-", "O"])
    ]
    scores = random_ner.model.predict([doc])
    losses = [random_ner.get_loss([eg], scores)[0] for eg in examples]
    assert losses[0] == losses[1] > 0
    before = random_ner.labels
    random_ner.update(examples)
    assert random_ner.labels == (*before, "NEW")
    assert random_ner.model.predict([doc]).emissions.shape[1] == len(random_ner.scheme)


def test_entities_may_cross_sentences(random_ner: Any) -> None:
    doc = Doc(random_ner.vocab, words=list("abcd"))
    gold = {"entities": ["O", "B-X", "L-X", "O"]}
    expected = random_ner.update([Example.from_dict(doc.copy(), gold)])["ner"]
    gold["sent_starts"] = [1, 0, 1, 0]
    assert random_ner.update([Example.from_dict(doc.copy(), gold)])["ner"] == expected


# Heads, deps, sentence starts


def _example(nlp: Any, words: str, predicted: Optional[str] = None, **gold: Any) -> Example:
    eg = Example.from_dict(Doc(nlp.vocab, words=words.split()), gold)
    if predicted is None:
        return eg
    pieces = predicted.split("|")
    return Example(
        Doc(nlp.vocab, words=pieces, spaces=[False] * len(pieces)),
        Doc(
            nlp.vocab,
            words=[token.text for token in eg.reference],
            spaces=[False] * len(eg.reference),
            heads=gold["heads"],
            deps=gold["deps"],
        ),
    )


def _log_softmax(scores: Any) -> Any:
    return scores - numpy.logaddexp.reduce(scores, axis=-1, keepdims=True)


def _arc_loss(parser: Any, eg: Example, heads: List[Optional[int]], deps: List[Any]) -> float:
    """Cross-entropy of the arcs and labels that are known, for a doc of one sentence."""
    scorer = parser.model.predict([eg.predicted])
    groups = parser._sentences(scorer, [numpy.array([1] + [-1] * (len(eg.predicted) - 1))])
    inside = [0 if head == i else -1 if head is None else head + 1 for i, head in enumerate(heads)]
    scores = scorer.scores(groups, numpy.array(inside)[:, None])
    loss = 0.0
    for i, (head, dep) in enumerate(zip(inside, deps)):
        if head >= 0:
            arcs = numpy.where(
                numpy.arange(len(heads) + 1) == i + 1, -numpy.inf, scores.arcs[0][0, i]
            )
            loss -= float(_log_softmax(arcs)[head])
            if dep in parser.labels:
                loss -= float(_log_softmax(scores.labels[i, 0])[parser.labels.index(dep)])
    return loss


@pytest.fixture
def parser(new_nlp: Any) -> Any:
    return new_nlp("parser").get_pipe("parser")


@pytest.mark.parametrize(
    ("heads", "deps"),
    [
        ([1, 1, 3, 1], ["nsubj", "ROOT", "det", "dobj"]),
        ([1, 1, None, 1], ["nsubj", "ROOT", None, "dobj"]),
        ([1, None, 3, None], ["nsubj", None, "det", None]),
        # As in spaCy, a head without a dep is missing.
        ([1, 1, 3, 1], ["nsubj", "ROOT", None, None]),
        ([1, 1, 3, 1], ["nsubj", "ROOT", "never-seen", "dobj"]),
    ],
)
def test_only_known_arcs_and_labels_count(
    parser: Any, heads: List[Optional[int]], deps: List[Optional[str]]
) -> None:
    eg = _example(parser, "she sees a dog", heads=heads, deps=deps)
    known = [head if dep else None for head, dep in zip(heads, deps)]
    assert_array_equal(gold_parse(eg)[0], [-1 if head is None else head for head in known])
    # Sentence starts are as good as coins before training.
    starts = gold_sentence_starts(eg)[1:]
    expected = _arc_loss(parser, eg, known, deps) + numpy.log(2) * (starts != UNKNOWN).sum()
    assert parser.update([eg])["parser"] == pytest.approx(expected, rel=1e-4)


def test_a_doc_without_a_parse_teaches_sentence_starts_alone(parser: Any) -> None:
    eg = _example(parser, "she sees a dog", sent_starts=[1, -1, 1, 0])
    assert_array_equal(gold_parse(eg)[0], [-1] * 4)
    assert_array_equal(gold_sentence_starts(eg), [1, -1, 1, 0])
    assert parser.update([eg])["parser"] == pytest.approx(numpy.log(2) * 2)
    bare = _example(parser, "she sees a dog")
    assert parser.update([bare])["parser"] == 0


def test_sentence_starts_next_to_missing_heads_are_not_known(parser: Any) -> None:
    """spaCy derives sentence starts from the heads that it has."""

    def starts(heads: List[Optional[int]]) -> List[int]:
        deps = [None if head is None else "dep" for head in heads]
        return gold_sentence_starts(
            _example(parser, "a b c d e f", heads=heads, deps=deps)
        ).tolist()

    complete = [1, -1, -1, 1, -1, -1]
    assert starts([1, 1, 1, 4, 4, 4]) == complete
    # The second sentence's root is missing: nothing says that c and d belong to two sentences.
    assert starts([1, 1, 1, 4, None, 4]) == [1, -1, -1, 0, -1, -1]
    # f may belong to the second sentence or be a third one.
    assert starts([1, 1, 1, 4, 4, None]) == [1, -1, -1, 1, -1, 0]
    # c may be either sentence's. The arc from d leads over it in the last case.
    assert starts([1, 1, None, 4, 4, 4]) == [1, -1, 0, 0, -1, -1]
    assert starts([1, 1, None, 1, 4, 4]) == [1, -1, -1, -1, 1, -1]
    assert starts([None] * 6) == [1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("predicted", "heads", "starts"),
    [
        ("she|sees|dogs|he|runs", [1, 1, 1, 4, 4], [1, -1, -1, 1, -1]),
        # Split tokens: both parts have the head, but heads that were split are not known.
        ("she|sees|do|gs|he|runs", [1, 1, 1, 1, 5, 5], [1, -1, -1, -1, 1, -1]),
        ("she|se|es|dogs|he|runs", [-1, -1, -1, -1, 5, 5], [1, -1, -1, -1, 1, -1]),
        # Merged tokens have no head, but are the head of others.
        ("shesees|dogs|he|runs", [-1, 0, 3, 3], [1, -1, 1, -1]),
        # Where a sentence starts within a token, the token starts it.
        ("she|sees|dogshe|runs", [1, 1, -1, 3], [1, -1, 1, -1]),
        ("sheseesdogsheruns", [-1], [1]),
        # Spaces belong to what is before them, and the first ones to what comes after.
        ("she|sees| |dogs|he| |runs", [1, 1, -1, 1, 6, -1, 6], [1, -1, -1, -1, 1, -1, -1]),
        (" |she|sees|dogs|he|runs", [-1, 2, 2, 2, 5, 5], [1, -1, -1, -1, 1, -1]),
    ],
)
def test_a_parse_on_other_tokens(
    parser: Any, predicted: str, heads: List[int], starts: List[int]
) -> None:
    gold = {"heads": [1, 1, 1, 4, 4], "deps": ["nsubj", "ROOT", "dobj", "nsubj", "ROOT"]}
    eg = _example(parser, "she sees dogs he runs", predicted, **gold)
    assert_array_equal(gold_parse(eg)[0], heads)
    assert [dep is not None for dep in gold_parse(eg)[1]] == [head >= 0 for head in heads]
    assert_array_equal(gold_sentence_starts(eg), starts)
    assert numpy.isfinite(parser.update([eg])["parser"])


@pytest.mark.parametrize("end", [["\n"], ["\t"], [" ", "\n"]])
def test_spaces_at_the_end_on_other_tokens(parser: Any, end: List[str]) -> None:
    """spaCy's alignment then has one more entry than there are tokens."""
    words = ["she", "runs", *end]
    spaces = [True, False, *[True] * len(end)]
    heads, deps = [1] * len(words), ["dep"] * len(words)
    reference = Doc(parser.vocab, words=words, spaces=spaces, heads=heads, deps=deps)
    predicted = spacy.blank("en").make_doc(reference.text)
    predicted = Doc(parser.vocab, words=[t.text for t in predicted], spaces=[True, *[False] * 2])
    eg = Example(predicted, reference)
    assert len(eg.alignment.x2y.lengths) == len(predicted) + 1 == 4
    assert_array_equal(gold_sentence_starts(eg), [1, -1, -1])
    assert numpy.isfinite(parser.update([eg])["parser"])


def test_layers_and_gaps_mixed_in_a_batch_add_up(new_nlp: Any, texts: Any) -> None:
    nlp = new_nlp()
    kinds: List[Dict[str, Any]] = [
        {"entities": texts[0]["entities"]},
        {"heads": texts[0]["heads"], "deps": texts[0]["deps"]},
        {"sent_starts": [1] + [0] * 9},
        {"entities": ["-"] * 4 + texts[0]["entities"][4:]},
        {},
        {key: value for key, value in texts[0].items() if key != "words"},
    ]
    examples = [_example(nlp, " ".join(texts[0]["words"]), **gold) for gold in kinds]
    together = nlp.update(examples, sgd=False, losses={})
    for name in ("ner", "parser"):
        apart = [nlp.update([eg], sgd=False, losses={})[name] for eg in examples]
        assert together[name] == pytest.approx(sum(apart), rel=1e-4)
        assert apart[4] == 0 and all(loss >= 0 for loss in apart)


def test_training_respects_max_tokens(new_nlp: Any, texts: Any) -> None:
    """Arcs from one part of a sentence that was split to another are left out."""
    nlp = new_nlp("parser", parser={"max_tokens": 4})
    parser = nlp.get_pipe("parser")
    gold = {"heads": texts[1]["heads"], "deps": texts[1]["deps"]}
    eg = _example(nlp, " ".join(texts[1]["words"]), **gold)
    loss = parser.update([eg])["parser"]
    assert 0 < loss < new_nlp("parser").get_pipe("parser").update([eg])["parser"]


@pytest.mark.parametrize("heads", [[1, 0, 2, 2], [1, 2, 3, 0], [3, 1, 1, 2]])
def test_gold_heads_that_form_a_cycle(make_nlp: Any, heads: List[int]) -> None:
    nlp = make_nlp("parser")
    eg = _example(nlp, "she sees a dog", heads=heads, deps=["dep"] * 4)
    if heads == [3, 1, 1, 2]:  # a tree, if not a projective one
        nlp.initialize(lambda: [eg])
        return
    with pytest.raises(
        ValueError, match=r'"she sees a dog" form a cycle at token [0123] '
    ) as error:
        nlp.initialize(lambda: [eg])
    assert "correct them in the corpus" in str(error.value)


def test_gold_heads_that_cross_sentences(make_nlp: Any) -> None:
    nlp = make_nlp("parser")
    # Two interleaved trees: spaCy has each root's leftmost descendant start a sentence.
    eg = _example(nlp, "she sees a dog", heads=[2, 1, 2, 1], deps=["dep", "ROOT", "ROOT", "dep"])
    with pytest.raises(ValueError, match=r'cross sentences at token 0 .*"she".*token 2, "a"'):
        nlp.initialize(lambda: [eg])
    # Without c's own head nobody can say so.
    eg = _example(nlp, "she sees a dog", heads=[2, 1, None, 1], deps=["dep", "ROOT", None, "dep"])
    nlp.initialize(lambda: [eg])
    assert nlp.update([eg])["parser"] > 0


def test_several_roots_are_several_sentences(new_nlp: Any) -> None:
    nlp = new_nlp("parser")
    eg = _example(nlp, "she runs he stops", heads=[1, 1, 3, 3], deps=["nsubj", "ROOT"] * 2)
    assert_array_equal(gold_sentence_starts(eg), [1, -1, 1, -1])
    assert nlp.update([eg])["parser"] > 0
