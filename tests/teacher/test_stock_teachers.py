"""Teachers of spaCy's own components, and of any that set entities or heads."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, List

import numpy
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example

from spacy_skd.pipeline.gold_entities import gold_tags
from spacy_skd.schemes import TagScheme
from spacy_skd.structures import LOG_ZERO, ChainSequences
from spacy_skd.structures.parses import Parses, arc_log_probs, softmax
from spacy_skd.teacher.kinds.annotations import set_entities, set_parses
from spacy_skd.teacher.kinds.beam_search import search
from spacy_skd.teacher.kinds.beams import beam_entities, beam_parses

POSTERIOR = {"@losses": "spacy-skd.PosteriorKL.v1"}
KL = {"@losses": "spacy-skd.SubstructureKL.v1"}
HARD = {"@losses": "spacy-skd.HardLabels.v1"}


def both(ner: Dict[str, Any], parser: Dict[str, Any]) -> Dict[str, Any]:
    return {"components.ner.distillation": ner, "components.parser.distillation": parser}


@pytest.fixture
def docs(stock_teacher: Path, gold: SimpleNamespace) -> Any:
    """The teacher's pipeline, and docs that its tok2vec has read: some empty, or of one token."""
    nlp = spacy.load(stock_teacher)
    made = [Doc(nlp.vocab, words=[t.text for t in doc]) for doc in gold.docs(nlp.vocab)]
    made[3:3] = [Doc(nlp.vocab), Doc(nlp.vocab, words=["Ada"])]
    return nlp, list(nlp.get_pipe("tok2vec").pipe(made))


# Beams


def _all_analyses(pipe: Any, doc: Doc) -> Dict[Any, float]:
    """The probability of each sequence of actions that a doc may have: the product of softmaxes."""
    model = pipe.model.predict([doc])
    names = [pipe.moves.get_class_name(i) for i in range(pipe.moves.n_moves)]
    actual: Dict[Any, float] = {}

    def go(state: Any, actions: Any, log_prob: float) -> None:
        if state.is_final():
            actual[actions] = log_prob
            return
        (scores,) = model.predict([state]).astype("f8")
        for i, name in enumerate(names):
            if pipe.moves.is_valid(state, name):
                following = state.copy()
                pipe.moves.apply_transition(following, name)
                go(
                    following,
                    (*actions, name),
                    log_prob + scores[i] - numpy.logaddexp.reduce(scores),
                )

    go(pipe.moves.init_batch([doc])[0], (), 0.0)
    return actual


@pytest.mark.parametrize("name", ["ner", "parser"])
def test_a_wide_beam_holds_all_analyses_with_their_probabilities(name: str, docs: Any) -> None:
    """Some of a parser's are complete before others are."""
    nlp, read = docs
    pipe = nlp.get_pipe(name)
    words = [[t.text for t in doc] for doc in read[:3]]
    short = [Doc(nlp.vocab, words=ws[i : i + 3]) for ws in words for i in (0, 1)]
    short = list(nlp.get_pipe("tok2vec").pipe(short))
    for doc, analyses in zip(short, search(pipe, short, 5000, 0.0), strict=True):
        expected = _all_analyses(pipe, doc)
        assert len(analyses) == len(expected) > 20
        numpy.testing.assert_allclose(
            [log_prob for log_prob, _ in analyses],
            sorted(expected.values(), reverse=True),
            rtol=1e-4,
            atol=1e-4,
        )
        best = max(expected, key=lambda actions: expected[actions])
        if name == "ner":
            scheme = TagScheme("BILUO", pipe.labels)
            tags = beam_entities([analyses], [doc], scheme).tags[0]
            assert [scheme.tags[tag] for tag in tags] == list(best)
        (narrow,) = search(pipe, [doc], 7, 0.0)
        assert len(narrow) == 7
        assert narrow[0][0] <= analyses[0][0] + 1e-4
        (dense,) = search(pipe, [doc], 5000, 0.1)
        assert len(dense) < len(analyses) and dense[-1][0] >= dense[0][0] + numpy.log(0.1)


@pytest.mark.parametrize("name", ["ner", "parser"])
def test_analyses_are_those_of_spacy_s_own_states(name: str, docs: Any) -> None:
    """What an analysis holds is what spaCy sets on a doc for its best one."""
    nlp, read = docs
    pipe = nlp.get_pipe(name)
    actual = search(pipe, read, 1, 0.0)
    expected = list(pipe.pipe(doc.copy() for doc in read))
    for doc, theirs, ((_, content),) in zip(read, expected, actual, strict=True):
        if name == "ner":
            assert content == [(e.start, e.end, e.label_) for e in theirs.ents]
        else:
            parses = beam_parses([[(0.0, content)]], [doc], pipe.labels)
            assert parses.heads[0].tolist() == [t.head.i for t in theirs]
            assert numpy.flatnonzero(parses.starts[0]).tolist() == [s.start for s in theirs.sents]


def test_the_best_analysis_is_no_worse_than_that_of_a_greedy_search(docs: Any) -> None:
    nlp, read = docs
    for name in ("ner", "parser"):
        pipe = nlp.get_pipe(name)
        for wide, narrow in zip(search(pipe, read, 8, 0.0), search(pipe, read, 1, 0.0)):
            best = max(log_prob for log_prob, _ in wide)
            assert best > narrow[0][0] - 1e-3


def test_what_was_trained_with_a_beam_is_searched_as_spacy_searches_it(docs: Any) -> None:
    nlp, read = docs
    for name in ("ner", "parser"):
        pipe = nlp.get_pipe(name)
        pipe.cfg["beam_width"] = 8
        beams = pipe.beam_parse(read, beam_width=8)
        for doc, analyses, beam in zip(read, search(pipe, read, 8, 0.0), beams, strict=True):
            expected = pipe.moves.get_beam_parses(beam) if len(doc) else []
            for (log_prob, content), (prob, theirs) in zip(analyses, expected):
                assert content == theirs and numpy.exp(log_prob) == pytest.approx(prob)


def test_entities_of_a_beam_are_as_probable_as_spacy_says(docs: Any) -> None:
    nlp, read = docs
    ner = nlp.get_pipe("ner")
    ner.cfg["beam_width"] = 8
    scheme = TagScheme("BILUO", ner.labels)
    actual = beam_entities(search(ner, read, 8, 0.0), read, scheme)
    assert actual.lengths == [len(doc) for doc in read]
    weights = softmax(actual.log_probs)
    expected = ner.scored_ents(ner.beam_parse(read, beam_width=8, beam_density=0.0))
    n_entities, end = 0, 0
    for d, doc in enumerate(read):
        start, end = end, end + len(doc)
        probability: Dict[Any, float] = {}
        for tags, weight in zip(actual.tags[:, start:end], weights[:, d]):
            for entity in scheme.entities(tags) if weight else []:
                probability[entity] = probability.get(entity, 0.0) + weight
        assert probability == pytest.approx(dict(expected[d]))
        n_entities += len(probability)
    assert n_entities > 50 and weights.max(0)[0] < 0.999


def test_arcs_of_a_beam_are_as_probable_as_spacy_says(docs: Any) -> None:
    nlp, read = docs
    parser = nlp.get_pipe("parser")
    parser.cfg["beam_width"] = 8
    labels = parser.labels
    for doc in read:  # sentences are settled
        for token in doc:
            token.is_sent_start = token.i == 0
    actual = beam_parses(search(parser, read, 8, 0.0), read, labels)
    scores = arc_log_probs(actual, len(labels), None, 1.0)
    beams = parser.beam_parse(read, beam_width=8, beam_density=0.0)
    expected, _ = parser.scored_parses(beams)
    arcs = {
        int(start): numpy.exp(block)
        for group, blocks in zip(scores.groups, scores.arcs)
        for start, block in zip(group.starts, blocks)
    }
    offset = n_arcs = 0
    for d, doc in enumerate(read):
        of_root = numpy.ones(len(doc))
        for (child, head), probability in expected[d].items():
            of_root[child] -= probability
            assert arcs[offset][child, head + 1] == pytest.approx(probability, abs=1e-5)
            n_arcs += 1
        for child in range(len(doc)):
            assert arcs[offset][child, 0] == pytest.approx(of_root[child], abs=1e-5)
        offset += len(doc)
    assert n_arcs > 150
    assert numpy.exp(scores.starts)[:, 1].sum() == pytest.approx(sum(len(d) > 0 for d in read))


def test_an_analysis_without_arcs_counts(docs: Any) -> None:
    """spaCy's own list of a beam's analyses leaves it out."""
    nlp, _ = docs
    parser = nlp.get_pipe("parser")
    read = list(nlp.get_pipe("tok2vec").pipe([Doc(nlp.vocab, words=["Ada", "Paris"])]))
    (analyses,) = search(parser, read, 64, 0.0)
    assert 0 < sum(not arcs for _, arcs in analyses) < len(analyses)
    actual = beam_parses([analyses], read, parser.labels)
    for heads, starts, (_, arcs) in zip(actual.heads, actual.starts, analyses):
        assert (heads.tolist() == [0, 1]) == (not arcs)
        assert starts.tolist() == [True, not arcs]


def test_a_narrow_beam_and_a_dense_one_hold_less(docs: Any) -> None:
    nlp, read = docs
    ner = nlp.get_pipe("ner")
    scheme = TagScheme("BILUO", ner.labels)

    def actual(width: int, density: float) -> ChainSequences:
        return beam_entities(search(ner, read, width, density), read, scheme)

    assert len(actual(8, 0.0).tags) == 8
    assert len(actual(3, 0.0).tags) == 3
    dense = actual(8, 0.9)
    assert (dense.log_probs > -numpy.inf).sum() < 8 * len(read)


def test_entities_that_are_set_of_other_labels_are_none(docs: Any) -> None:
    """As by an `entity_ruler` before an `ner` that has not got its label."""
    nlp, read = docs
    ner = nlp.get_pipe("ner")
    labels, doc = ner.labels, next(doc for doc in read if len(doc) > 3)
    known = Span(doc, 3, 4, label=labels[0])
    doc.set_ents([Span(doc, 0, 1, label="TEAM"), known])
    (analyses,) = search(ner, [doc], 8, 0.0)
    assert analyses
    for _, entities in analyses:
        assert (3, 4, labels[0]) in entities
        assert all(start > 0 for start, _, label in entities if label)
    scheme = TagScheme("BILUO", labels)
    actual = beam_entities([analyses], [doc], scheme)
    for tags in actual.tags[actual.log_probs[:, 0] > -numpy.inf]:
        assert (3, 4, labels[0]) in scheme.entities(tags)
        assert all(start > 0 for start, _, _ in scheme.entities(tags))
    # Neither the doc nor the component is another than before.
    assert [ent.label_ for ent in doc.ents] == ["TEAM", labels[0]] and ner.labels == labels


def test_crossing_arcs_are_put_back(docs: Any) -> None:
    """What spaCy's parser writes as "label||label of the head" is a crossing arc."""
    nlp, _ = docs
    words = ["A", "hearing", "is", "scheduled", "on", "it"]
    doc = Doc(nlp.vocab, words=words)

    arcs = [(1, 0, "det"), (2, 1, "nsubj"), (3, 2, "aux"), (4, 5, "pobj")]
    # "on" belongs to "hearing", and was lifted to the verb.
    analyses = [(-0.1, [*arcs, (3, 4, "prep||nsubj")]), (-2.3, [*arcs, (3, 4, "prep")])]
    actual = beam_parses([analyses], [doc], ["det", "nsubj", "aux", "pobj", "prep", "ROOT"])
    assert actual.heads[:, 4].tolist() == [1, 3]
    assert actual.labels[:, 4].tolist() == [4, 4]


# Probabilities of arcs


@st.composite
def parses(draw: st.DrawFn) -> Any:
    """Analyses of docs of some tokens: each token's head is one before it, or it's a root."""
    lengths = draw(st.lists(st.integers(0, 6), min_size=1, max_size=4))
    k, n_labels = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    rng = numpy.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = sum(lengths)
    position = numpy.concatenate([numpy.arange(length) for length in lengths]).astype("i8")
    heads = numpy.zeros((k, n), dtype="i8")
    starts = numpy.zeros((k, n), dtype=bool)
    for a in range(k):
        root = 0
        for t in range(n):
            is_root = position[t] == 0 or rng.random() < 0.3
            root = int(position[t]) if is_root else root
            heads[a, t] = root if is_root else rng.integers(root, position[t])
            starts[a, t] = is_root
    labels = rng.integers(-1, n_labels, size=(k, n))
    log_probs = rng.normal(size=(k, len(lengths))) * 2
    log_probs[1:][rng.random((k - 1, len(lengths))) < 0.2] = -numpy.inf
    return Parses(heads, labels, starts, log_probs, lengths), n_labels


@settings(max_examples=80)
@given(parses(), st.sampled_from([1.0, 2.5]), st.sampled_from([None, 1, 2]))
def test_each_analysis_gives_its_probability_to_its_arcs(
    drawn: Any, temperature: float, n_heads: Any
) -> None:
    actual, n_labels = drawn
    scores = arc_log_probs(actual, n_labels, n_heads, temperature)
    arcs = {}
    for group, blocks in zip(scores.groups, scores.arcs):
        for start, length, block in zip(group.starts, group.lengths, blocks):
            for d in range(length):
                arcs[int(start) + d] = (int(start), numpy.exp(block[d]))
    assert sorted(arcs) == list(range(sum(actual.lengths)))
    offset = 0
    for d, length in enumerate(actual.lengths):
        weights = softmax(actual.log_probs[:, d] / temperature)
        for t in range(offset, offset + length):
            first, probability = arcs[t]
            expected: Dict[int, float] = {}
            by_label: Dict[int, numpy.ndarray] = {}
            for a, weight in enumerate(weights):
                head = offset + int(actual.heads[a, t])
                h = 0 if head == t else head - first + 1
                if head < first or not weight:
                    continue  # it goes out of the best analysis' sentence
                expected[h] = expected.get(h, 0.0) + weight
                if actual.labels[a, t] >= 0:
                    by_label.setdefault(h, numpy.zeros(n_labels))[actual.labels[a, t]] += weight
            total = sum(expected.values())
            for h, weight in expected.items():
                assert probability[h] == pytest.approx(weight / total, abs=1e-5)
            assert probability.sum() == pytest.approx(1, abs=1e-4)
            heads = scores.heads[t][scores.heads[t] >= 0].tolist()
            wanted = sorted(by_label, key=lambda h: -by_label[h].sum())
            assert len(heads) == min(len(wanted), len(wanted) if n_heads is None else n_heads)
            for column, h in enumerate(heads):
                share = by_label[h] / by_label[h].sum()
                numpy.testing.assert_allclose(numpy.exp(scores.labels[t, column]), share, atol=1e-5)
            p_start = float(weights @ actual.starts[:, t])
            assert numpy.exp(scores.starts[t, 1]) == pytest.approx(p_start, abs=1e-4)
        offset += length


@settings(max_examples=40)
@given(parses())
def test_analyses_come_together_as_they_were(drawn: Any) -> None:
    actual, n_labels = drawn
    entries = actual.split(actual.lengths, prune=True)
    order = list(range(len(entries)))[::-1]
    mixed = Parses.join([entries[i] for i in order], actual.in_common())
    again = mixed.split([actual.lengths[i] for i in order], prune=True)
    back = Parses.join(again[::-1], {})
    a, b = (arc_log_probs(p, n_labels, None, 1.0) for p in (actual, back))
    numpy.testing.assert_allclose(a.starts, b.starts, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(a.arcs, b.arcs, strict=True):
        numpy.testing.assert_allclose(ours, theirs, atol=1e-4)


# What a component has set


def test_heads_and_entities_that_are_set(docs: Any) -> None:
    nlp, read = docs
    for name in ("parser", "ner"):
        read = list(nlp.get_pipe(name).pipe(read))
    scheme = TagScheme("BILUO", ["LOC", "PER"])
    chain = set_entities(read, scheme)
    expected = [gold_tags(Example(doc, doc), scheme) for doc in read]
    numpy.testing.assert_array_equal(chain.tags[0], numpy.concatenate(expected))
    actual = set_parses(read, nlp.get_pipe("parser").labels)
    flat = [token for doc in read for token in doc]
    assert actual.heads[0].tolist() == [token.head.i for token in flat]
    assert actual.starts[0].tolist() == [bool(token.is_sent_start) for token in flat]
    assert (actual.labels >= 0).all()
    scores = arc_log_probs(actual, len(nlp.get_pipe("parser").labels), 4, 1.0)
    for group, blocks in zip(scores.groups, scores.arcs):
        for start, length, block in zip(group.starts, group.lengths, blocks):
            for d in range(length):
                token = flat[int(start) + d]
                head = 0 if token.head == token else token.head.i - token.i + d + 1
                assert block[d, head] == 0 and (numpy.delete(block[d], head) == LOG_ZERO).all()


# Learning from them


@pytest.mark.parametrize(
    ("ner", "parser", "gives"),
    [
        (POSTERIOR, KL, ("sequences", "arc_marginals")),
        ({"@losses": "spacy-skd.StructuralCE.v1"}, POSTERIOR, ("sequences", "arc_marginals")),
        ({"@losses": "spacy-skd.TopK.v1", "k": 3}, {"@losses": "spacy-skd.TopK.v1"}, None),
        (HARD, HARD, ("structure", "structure")),
        (HARD, {**HARD, "tree": True}, ("structure", "structure")),
    ],
)
def test_a_student_learns_from_spacys_own(
    ner: Dict[str, Any],
    parser: Dict[str, Any],
    gives: Any,
    stock_teacher: Path,
    init_student: Callable[..., Language],
    gold: SimpleNamespace,
    corpus: Path,
    tmp_path: Path,
) -> None:
    overrides = {
        "paths.teacher": str(stock_teacher),
        "paths.train": str(corpus / "raw.spacy"),
        **both(ner, parser),
    }
    nlp = init_student(overrides)
    heads = [nlp.get_pipe(name).teacher for name in ("ner", "parser")]
    if gives is not None:
        assert tuple(head.gives for head in heads) == gives
    examples = [gold.make_example(doc) for doc in gold.docs(nlp.vocab, ents=False, parse=False)]
    sgd = nlp.create_optimizer()
    sgd.learn_rate = 0.02
    first = nlp.update(examples, sgd=sgd)
    for _ in range(60):
        last = nlp.update(examples, sgd=sgd)
    assert first["ner_gold"] == first["parser_gold"] == 0
    for name in ("ner", "parser"):
        assert last[f"{name}_distill"] < 0.5 * first[f"{name}_distill"]
    # It annotates as its teacher does.
    teacher = spacy.load(stock_teacher)
    same_ents = same_heads = n = 0
    for eg in examples:
        ours, theirs = (p(_unread(eg.predicted, p)) for p in (nlp, teacher))
        same_ents += [(e.start, e.end, e.label_) for e in ours.ents] == [
            (e.start, e.end, e.label_) for e in theirs.ents
        ]
        same_heads += sum(a.head.i == b.head.i for a, b in zip(ours, theirs))
        n += len(ours)
    assert same_ents >= 0.6 * len(examples) and same_heads >= 0.7 * n
    # Through a cache the losses are the same, and the teacher is not loaded a second time.
    cached = {**overrides, "paths.teacher_cache": str(tmp_path / "cache.sqlite")}
    losses = [init_student(cached).update(examples) for _ in range(2)]
    assert losses[0] == losses[1]
    for name in ("ner_distill", "parser_distill"):
        assert losses[0][name] == pytest.approx(first[name], rel=1e-4)
    again = init_student(cached)
    again.update(examples)
    assert again.get_pipe("ner").teacher.pipeline.members[0]._nlp is None


def test_hard_labels_are_those_of_the_greedy_search(
    stock_teacher: Path, init_student: Callable[..., Language], gold: SimpleNamespace
) -> None:
    nlp = init_student({"paths.teacher": str(stock_teacher), **both(HARD, HARD)})
    raw = [gold.make_example(doc) for doc in gold.docs(nlp.vocab, ents=False, parse=False)]
    teacher = spacy.load(stock_teacher)
    annotated: List[Example] = []
    for eg in raw:
        doc = _unread(eg.predicted, nlp)
        theirs = teacher(_unread(eg.predicted, teacher))
        annotated.append(Example(doc, _copy(theirs, nlp)))
    by_teacher = nlp.update(raw, sgd=False)  # type: ignore[arg-type]
    nlp.get_pipe("ner").distillation = nlp.get_pipe("parser").distillation = None
    by_gold = nlp.update(annotated, sgd=False)  # type: ignore[arg-type]
    assert by_teacher["ner_distill"] == pytest.approx(by_gold["ner_gold"], rel=1e-4)
    assert by_teacher["parser_distill"] == pytest.approx(by_gold["parser_gold"], rel=1e-3)


def _unread(doc: Doc, nlp: Language) -> Doc:
    """The same words, norms and spaces in another pipeline's vocabulary."""
    unread = Doc(
        nlp.vocab,
        words=[token.text for token in doc],
        spaces=[bool(token.whitespace_) for token in doc],
    )
    for ours, theirs in zip(unread, doc):
        ours.norm_ = theirs.norm_
    return unread


def _copy(doc: Doc, nlp: Language) -> Doc:
    return Doc(
        nlp.vocab,
        words=[token.text for token in doc],
        heads=[token.head.i for token in doc],
        deps=[token.dep_ for token in doc],
        ents=[f"{t.ent_iob_}-{t.ent_type_}" if t.ent_type_ else "O" for t in doc],
    )


@pytest.mark.parametrize("transformer", ["stock_transformer_teacher", "curated_teacher"])
@pytest.mark.parametrize(("ner", "parser"), [(POSTERIOR, KL), (HARD, HARD), (POSTERIOR, HARD)])
def test_spacys_own_on_a_transformer(
    ner: Dict[str, Any],
    parser: Dict[str, Any],
    transformer: str,
    init_student: Callable[..., Language],
    gold: SimpleNamespace,
    request: pytest.FixtureRequest,
) -> None:
    path = request.getfixturevalue(transformer)
    nlp = init_student({"paths.teacher": str(path), **both(ner, parser)})
    examples = [gold.make_example(doc) for doc in gold.docs(nlp.vocab, ents=False, parse=False)]
    losses = nlp.update(examples)
    assert losses["parser_distill"] > 0
    teacher = nlp.get_pipe("ner").teacher.pipeline.members[0]  # type: ignore[attr-defined]
    assert teacher.nlp.pipe_names == ["transformer", "parser", "ner"]
    # What both components say is what the whole pipeline says.
    whole = spacy.load(path)
    actual: Any = nlp.get_pipe("ner").teacher.scores(examples)  # type: ignore[attr-defined]
    beam = beam_entities if ner is POSTERIOR else None
    docs = [_unread(eg.predicted, whole) for eg in examples]
    for name in ("transformer", "parser"):
        docs = list(whole.get_pipe(name).pipe(docs))
    scheme = TagScheme("BILUO", whole.get_pipe("ner").labels)  # type: ignore[attr-defined]
    if beam is not None:
        expected = beam(search(whole.get_pipe("ner"), docs, 16, 0.0001), docs, scheme)
    else:
        expected = set_entities(list(whole.get_pipe("ner").pipe(docs)), scheme)
    numpy.testing.assert_array_equal(actual.tags, expected.tags)


def test_a_softer_beam(
    stock_teacher: Path, init_student: Callable[..., Language], gold: SimpleNamespace
) -> None:
    spread: List[float] = []
    for temperature in (1.0, 4.0):
        nlp = init_student(
            {
                "paths.teacher": str(stock_teacher),
                **both(POSTERIOR, KL),
                "initialize.before_init.beam_temperature": temperature,
            }
        )
        examples = [gold.make_example(doc) for doc in gold.docs(nlp.vocab)]
        parser, ner = (nlp.get_pipe(name).teacher for name in ("parser", "ner"))
        arcs: Any = parser.scores(examples)
        sequences: Any = ner.scores(examples)
        best = softmax(sequences.log_probs).max(0).mean()
        spread.append(best + numpy.mean([numpy.exp(block).max(2).mean() for block in arcs.arcs]))
    assert spread[1] < spread[0] - 0.1


@pytest.mark.parametrize(
    ("name", "loss", "way_out"),
    [
        ("ner", KL, ["PosteriorKL", "StructuralCE", "TopK", "HardLabels"]),
        ("ner", {"@losses": "spacy-skd.SubstructureMSE.v1"}, ["PosteriorKL"]),
        ("parser", {"@losses": "spacy-skd.SubstructureMSE.v1"}, ["SubstructureKL", "HardLabels"]),
        ("parser", {"@losses": "spacy-skd.StructuralCE.v1", "tree": True}, ["SubstructureKL"]),
    ],
)
def test_pairs_that_make_no_sense(
    name: str,
    loss: Dict[str, Any],
    way_out: List[str],
    stock_teacher: Path,
    init_student: Callable[..., Language],
) -> None:
    settings = both(HARD, HARD)
    settings[f"components.{name}.distillation"] = loss
    with pytest.raises(ValueError, match="can't be computed") as error:
        init_student({"paths.teacher": str(stock_teacher), **settings})
    message = str(error.value)
    assert f'"{name}" is a "{name}"' in message and "\n" not in message
    assert all(f"spacy-skd.{loss_name}.v1" in message for loss_name in way_out)
    assert "SubstructureMSE.v1" not in message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beam_width": 0}, "beam_width is 0"),
        ({"beam_density": 1.0}, "beam_density is 1.0"),
        ({"beam_temperature": 0.0}, "beam_temperature is 0.0"),
    ],
)
def test_settings_of_a_beam_that_make_no_sense(
    settings: Dict[str, Any],
    message: str,
    stock_teacher: Path,
    init_student: Callable[..., Language],
) -> None:
    block = {f"initialize.before_init.{key}": value for key, value in settings.items()}
    with pytest.raises(ValueError, match=message):
        init_student({"paths.teacher": str(stock_teacher), **both(POSTERIOR, KL), **block})


@pytest.fixture
def ruler_teacher(stock_teacher: Path, tmp_path: Path) -> Path:
    """spaCy's own components, and rules that correct its entities."""
    nlp = spacy.load(stock_teacher)
    ruler: Any = nlp.add_pipe("entity_ruler", config={"overwrite_ents": True})
    ruler.add_patterns([{"label": "VERB", "pattern": "like"}, {"label": "PER", "pattern": "Rome"}])
    nlp.to_disk(tmp_path / "ruler")
    return tmp_path / "ruler"


def test_any_component_that_sets_entities(
    ruler_teacher: Path, init_student: Callable[..., Language], gold: SimpleNamespace
) -> None:
    nlp = init_student(
        {
            "paths.teacher": str(ruler_teacher),
            **both(HARD, HARD),
            "initialize.before_init.student_to_teacher": {"ner": "entity_ruler"},
            "initialize.components": {"ner": {"labels": ["LOC", "PER", "VERB"]}},
        }
    )
    examples = [gold.make_example(doc) for doc in gold.docs(nlp.vocab)]
    head = nlp.get_pipe("ner").teacher
    assert head.gives == "structure" and set(head.labels) == {"PER", "VERB"}
    sequences: Any = head.scores(examples)
    entities = head.scheme.entities(sequences.tags[0])
    words = [token.text for eg in examples for token in eg.predicted]
    assert {words[start] for start, _, label in entities if label == "VERB"} == {"like"}
    assert "Rome" in {words[start] for start, _, label in entities if label == "PER"}
    # The `ner` before it has run as well: the ruler's rules name no other person.
    assert {words[start] for start, _, label in entities if label == "PER"} > {"Rome"}
    raw = [gold.make_example(doc) for doc in gold.docs(nlp.vocab, ents=False, parse=False)]
    losses = nlp.update(raw)
    assert losses["ner_distill"] > 0 and losses["parser_distill"] > 0


@Language.component("skd_tests_heads")
def _heads(doc: Doc) -> Doc:
    for token in doc:
        token.head, token.dep_ = doc[0], "ROOT" if token.i == 0 else "dep"
    return doc


def test_any_component_that_sets_heads(
    cnn_teacher: Path, init_student: Callable[..., Language], gold: SimpleNamespace, tmp_path: Path
) -> None:
    nlp = spacy.load(cnn_teacher)
    nlp.add_pipe("skd_tests_heads", name="rules")
    nlp.to_disk(tmp_path / "teacher")
    settings = {
        "paths.teacher": str(tmp_path / "teacher"),
        "components.ner.distillation": POSTERIOR,
        "components.parser.distillation": HARD,
        "initialize.before_init.student_to_teacher": {"parser": "rules"},
    }
    with pytest.raises(ValueError, match='"rules" does not say which labels') as error:
        init_student(settings)
    assert "label_maps" in str(error.value)
    settings["initialize.before_init.label_maps"] = {"parser": {"ROOT": "ROOT", "dep": "nsubj"}}
    student = init_student(settings)
    examples = [gold.make_example(doc) for doc in gold.docs(student.vocab)]
    head = student.get_pipe("parser").teacher
    scores: Any = head.scores(examples)
    for group, blocks in zip(scores.groups, scores.arcs):
        assert (blocks.argmax(2)[:, 1:][group.is_token[:, 1:]] == 1).all()
    # The teacher's own `ner` gives potentials of docs that the rules have not changed.
    assert student.get_pipe("ner").teacher.gives == "potentials"
    losses = student.update(examples)
    assert losses["ner_distill"] > 0 and losses["parser_distill"] > 0


@Language.component("skd_tests_both")
def _both(doc: Doc) -> Doc:
    return _heads(doc) if not len(doc) else _with_entity(_heads(doc))


def _with_entity(doc: Doc) -> Doc:
    doc.ents = [doc.char_span(0, len(doc[0].text), label="PER")]
    return doc


def test_one_component_may_teach_both(
    cnn_teacher: Path, init_student: Callable[..., Language], gold: SimpleNamespace, tmp_path: Path
) -> None:
    nlp = spacy.load(cnn_teacher)
    nlp.add_pipe("skd_tests_both", name="rules")
    nlp.to_disk(tmp_path / "teacher")
    settings = {
        "paths.teacher": str(tmp_path / "teacher"),
        "paths.teacher_cache": str(tmp_path / "cache.sqlite"),
        **both(HARD, HARD),
        "initialize.before_init.student_to_teacher": {"ner": "rules", "parser": "rules"},
    }
    maps = {"parser": {"ROOT": "ROOT", "dep": "nsubj"}}
    key = "initialize.before_init.label_maps"
    examples: List[Example] = []
    for labels in (["PER", "LOC"], ["LOC", "PER"]):
        of_ner = {label: label for label in labels}
        student = init_student({**settings, key: {**maps, "ner": of_ner}})
        examples = [gold.make_example(d) for d in gold.docs(student.vocab, ents=False, parse=False)]
        losses = student.update(examples)
        assert losses["ner_distill"] > 0 and losses["parser_distill"] > 0
        # In the cache, too, labels are what they are, whatever their order.
        head: Any = student.get_pipe("ner").teacher
        names = {name for _, _, name in head.scheme.entities(head.scores(examples).tags[0])}
        assert names == {"PER"}


@Language.component("skd_tests_nothing")
def _nothing(doc: Doc) -> Doc:
    return doc


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("skd_tests_nothing", '"rules" set no heads and deps on "Ada'),
        (
            "merge_entities",
            r"\[\'rules\'\] merges or splits tokens, as in \"Alan T",
        ),
    ],
)
def test_a_component_that_can_t_teach(
    factory: str,
    message: str,
    cnn_teacher: Path,
    init_student: Callable[..., Language],
    gold: SimpleNamespace,
    tmp_path: Path,
) -> None:
    nlp = spacy.load(cnn_teacher)
    nlp.remove_pipe("parser")
    nlp.add_pipe(factory, name="rules")
    nlp.to_disk(tmp_path / "teacher")
    student = init_student(
        {
            "paths.teacher": str(tmp_path / "teacher"),
            **both(HARD, HARD),
            "initialize.before_init.student_to_teacher": {"parser": "rules"},
            "initialize.before_init.label_maps": {"parser": {"nsubj": "nsubj"}},
        }
    )
    with pytest.raises(ValueError, match=message):
        student.update([gold.make_example(doc) for doc in gold.docs(student.vocab)])
