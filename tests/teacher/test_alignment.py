"""Teachers that read other tokens than their students."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, Tuple

import numpy
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.training.corpus import Corpus

from spacy_skd.structures import LOG_ZERO, ArcScores, ChainScores, ChainSequences, group_sentences
from spacy_skd.structures.parses import Parses, arc_log_probs
from spacy_skd.structures.token_map import map_tokens

POSTERIOR = {"@losses": "spacy-skd.PosteriorKL.v1"}
KL = {"@losses": "spacy-skd.SubstructureKL.v1"}
HARD = {"@losses": "spacy-skd.HardLabels.v1"}
VOCAB = spacy.blank("en").vocab


def both(ner: Dict[str, Any], parser: Dict[str, Any]) -> Dict[str, Any]:
    return {"components.ner.distillation": ner, "components.parser.distillation": parser}


def doc_of(*words: str) -> Doc:
    return Doc(VOCAB, words=list(words), spaces=[False] * len(words))


# The student has "cd" as one, and "fgh" as "fg" and "h"; the teacher "c" and "d", "f" and "gh".
STUDENT = doc_of("a", "b", "cd", "e", "fg", "h", "i")
TEACHER = doc_of("a", "b", "c", "d", "e", "f", "gh", "i")
TEACHER_OF = [0, 1, -1, 4, -1, -1, 7]


def test_tokens_that_are_one_to_one() -> None:
    tokens = map_tokens(STUDENT, TEACHER)
    assert tokens.teacher_of.tolist() == TEACHER_OF
    assert tokens.student_of.tolist() == [0, 1, -1, -1, 3, -1, -1, 6]
    assert tokens.first_of.tolist() == [0, 1, 2, 2, 3, 4, 4, 6]
    empty = map_tokens(doc_of(), doc_of())
    assert empty.teacher_of.shape == empty.first_of.shape == (0,)


@st.composite
def cut_texts(draw: st.DrawFn) -> Tuple[List[str], List[str]]:
    text = draw(st.text("abc", min_size=1, max_size=10))

    def cut() -> List[str]:
        places = sorted(draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=6)))
        ends = [place for place in places if place < len(text)]
        return [text[i:j] for i, j in zip([0, *ends], [*ends, len(text)])]

    return cut(), cut()


@settings(max_examples=100)
@given(cut_texts())
def test_the_same_characters_are_one_to_one(drawn: Tuple[List[str], List[str]]) -> None:
    ours, theirs = drawn
    tokens = map_tokens(doc_of(*ours), doc_of(*theirs))

    def places(words: List[str]) -> List[Tuple[int, int]]:
        ends = numpy.cumsum([len(word) for word in words]).tolist()
        return [(end - len(word), end) for word, end in zip(words, ends)]

    by_place = {place: i for i, place in enumerate(places(theirs))}
    assert tokens.teacher_of.tolist() == [by_place.get(place, -1) for place in places(ours)]
    for j, i in enumerate(tokens.student_of):
        assert i == -1 or tokens.teacher_of[i] == j


def _chain(n: int, k: int = 5) -> ChainScores:
    rng = numpy.random.default_rng(0)
    arrays: Any = [rng.normal(size=s).astype("f") for s in ((n, k), (k, k), (k,), (k,))]
    return ChainScores(*arrays, lengths=[n])


def test_chains() -> None:
    tokens = map_tokens(STUDENT, TEACHER)
    scores = _chain(8)
    actual: Any = scores.aligned([tokens])
    assert actual.lengths == [7]
    for ours, theirs in enumerate(TEACHER_OF):
        expected = scores.emissions[theirs] if theirs >= 0 else 0
        numpy.testing.assert_array_equal(actual.emissions[ours], expected)
    # Bigrams that are the teacher's: "a" at the start, and "b" after "a". "e" follows on others.
    assert actual.known.tolist() == [True, True, False, False, False, False, False]
    assert scores.aligned([map_tokens(TEACHER, TEACHER)]) is scores
    # The last one's potential has the end in it.
    short = _chain(2).aligned([map_tokens(doc_of("ab", "c"), doc_of("ab", "c"))])
    assert short.known is None  # type: ignore[union-attr]


def test_sequences() -> None:
    tags = numpy.arange(16).reshape(2, 8)
    given_ = ChainSequences(tags, numpy.zeros((2, 1)), [8])
    actual: Any = given_.aligned([map_tokens(STUDENT, TEACHER)])
    assert actual.tags.tolist() == [[0, 1, 0, 4, 0, 0, 7], [8, 9, 0, 12, 0, 0, 15]]
    assert actual.known.tolist() == [i >= 0 for i in TEACHER_OF]


def test_parses() -> None:
    # Heads: a -> b, b root, c -> b, d -> c, e root (a sentence of its own on), f -> e, gh -> f,
    # i -> gh; in the second analysis i -> e.
    heads = numpy.array([[1, 1, 1, 2, 4, 4, 5, 6], [1, 1, 1, 2, 4, 4, 5, 4]])
    starts = numpy.zeros((2, 8), dtype=bool)
    starts[:, [0, 4]] = True
    log_probs = numpy.log([[0.75], [0.25]])
    parses = Parses(heads, heads % 3, starts, log_probs, [8])
    actual: Any = parses.aligned([map_tokens(STUDENT, TEACHER)])
    assert actual.heads.tolist() == [[1, 1, -1, 3, -1, -1, -1], [1, 1, -1, 3, -1, -1, 3]]
    assert numpy.flatnonzero(actual.starts[0]).tolist() == [0, 3]
    scores = arc_log_probs(actual, 3, None, 1.0)
    assert scores.known is not None
    assert scores.known.tolist() == [True, True, False, True, False, False, True]
    # What the known analyses say of the last token is that its head is "e".
    (group,), (arcs,) = scores.groups, scores.arcs
    second = group.starts.tolist().index(3)
    assert arcs[second, 3].argmax() == 1 and arcs[second, 3, 1] == 0


def test_arcs() -> None:
    rng = numpy.random.default_rng(0)
    groups = group_sentences(numpy.array([[0, 4], [4, 8]]))
    arcs: List[Any] = [rng.normal(size=g.is_arc.shape).astype("f") for g in groups]
    for block, group in zip(arcs, groups):
        block[~group.is_arc] = 1e9  # has no meaning
        # "i" probably depends on "gh", which the student does not have.
        block[group.starts.tolist().index(4), 3, 3] = 10
    heads: Any = numpy.array([[2, 0], [0, 1], [2, 1], [3, 2], [0, 2], [1, 0], [2, 0], [3, 1]])
    labels: Any = rng.normal(size=(8, 2, 3)).astype("f")
    starts: Any = rng.normal(size=(8, 2)).astype("f")
    scores = ArcScores(starts, groups, arcs, heads, labels)
    actual: Any = scores.aligned([map_tokens(STUDENT, TEACHER)])
    assert actual.known.tolist() == [True, True, False, True, False, False, False]
    sentences = {int(s): int(n) for g in actual.groups for s, n in zip(g.starts, g.lengths)}
    assert sentences == {0: 3, 3: 4}
    first: Any = next(
        block[g.starts.tolist().index(0)]
        for g, block in zip(actual.groups, actual.arcs)
        if 0 in g.starts.tolist()
    )
    theirs = arcs[0][groups[0].starts.tolist().index(0)]
    assert first[0, 0] == theirs[0, 0] and first[0, 2] == theirs[0, 2]  # the root, and "b"
    assert first[0, 3] <= theirs[0, [0, 2, 3, 4]].max() + LOG_ZERO + 1  # "cd", which it has not
    # Labels are those of heads that both have.
    assert actual.heads[[0, 1, 3, 6]].tolist() == [[2, 0], [0, 1], [0, -1], [-1, 1]]
    numpy.testing.assert_array_equal(actual.labels[[0, 1, 3, 6]], labels[[0, 1, 4, 7]])
    numpy.testing.assert_array_equal(actual.starts[[0, 1, 3, 6]], starts[[0, 1, 4, 7]])


def test_a_text_of_which_the_teacher_has_no_token() -> None:
    """A space, to a tokenizer that keeps none."""
    tokens = map_tokens(doc_of(" "), doc_of())
    chain: Any = _chain(0).aligned([tokens])
    assert chain.emissions.shape == (1, 5) and chain.known.tolist() == [False]
    tags = numpy.zeros((2, 0), dtype="i8")
    sequences: Any = ChainSequences(tags, numpy.zeros((2, 1)), [0]).aligned([tokens])
    assert sequences.tags.tolist() == [[0], [0]] and sequences.known.tolist() == [False]
    parses: Any = Parses(tags, tags, tags.astype(bool), numpy.zeros((2, 1)), [0])
    parses = parses.aligned([tokens])
    assert parses.heads.tolist() == parses.labels.tolist() == [[-1], [-1]]
    none: Any = [numpy.zeros((0, *shape), dtype="f") for shape in ((2,), (4,), (4, 3))]
    groups = group_sentences(numpy.zeros((0, 2), dtype="i8"))
    scores = ArcScores(none[0], groups, [], none[1].astype("i8"), none[2])
    arcs: Any = scores.aligned([tokens])
    assert arcs.known.tolist() == [False] and arcs.heads.tolist() == [[-1] * 4]
    assert arcs.labels.shape == (1, 4, 3) and not arcs.starts.any()


# In use


OTHER = {"nlp.lang": "xx"}  # knows no "does" and "n't"


def _examples(nlp: Language, corpus: Path, name: str = "train") -> List[Example]:
    return list(Corpus(corpus / f"{name}.spacy", gold_preproc=False)(nlp))


@pytest.mark.parametrize("kind", ["cnn", "stock"])
def test_another_tokenizer_is_refused(
    kind: str,
    init_student: Callable[..., Language],
    corpus: Path,
    request: pytest.FixtureRequest,
) -> None:
    teacher = request.getfixturevalue(f"{kind}_teacher")
    nlp = init_student({"paths.teacher": str(teacher), **OTHER, **both(HARD, HARD)})
    with pytest.raises(ValueError, match="another tokenizer or language than the student") as error:
        nlp.update(_examples(nlp, corpus))
    message = str(error.value)
    assert "as ['does', \"n't\", 'leave'" in message and "align = true" in message
    assert "\n" not in message
    # Texts that both read alike are no trouble.
    vocab = nlp.vocab
    alike = [Example(Doc(vocab, words=["Ada", "went"]), Doc(vocab, words=["Ada", "went"]))]
    assert nlp.update(alike)["ner_distill"] > 0


@pytest.mark.parametrize(
    ("kind", "ner", "parser"),
    [
        ("cnn", POSTERIOR, KL),
        ("cnn", KL, {"@losses": "spacy-skd.SubstructureMSE.v1"}),
        ("cnn", {"@losses": "spacy-skd.StructuralCE.v1"}, {**POSTERIOR, "tree": True}),
        ("stock", POSTERIOR, KL),
        ("stock", HARD, HARD),
    ],
)
def test_a_student_learns_from_a_teacher_with_another_tokenizer(
    kind: str,
    ner: Dict[str, Any],
    parser: Dict[str, Any],
    init_student: Callable[..., Language],
    corpus: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    teacher = request.getfixturevalue(f"{kind}_teacher")
    settings = {
        "paths.teacher": str(teacher),
        "initialize.before_init.align": True,
        **OTHER,
        **both(ner, parser),
    }
    nlp = init_student(settings)
    for name in ("train", "raw"):
        examples = _examples(nlp, corpus, name)
        assert "doesn't" in [token.text for token in examples[0].predicted]
        losses = nlp.update(examples, sgd=False)  # type: ignore[arg-type]
        assert losses["parser_distill"] > 0
        # A whole sequence that has a gap can't be compared.
        of_sequences = ner["@losses"] not in (POSTERIOR["@losses"], KL["@losses"])
        assert (losses["ner_distill"] == 0) == of_sequences
    cached = {**settings, "paths.teacher_cache": str(tmp_path / "cache.sqlite")}
    for _ in range(2):
        again = init_student(cached).update(_examples(nlp, corpus), sgd=False)  # type: ignore[arg-type]
    plain = init_student(settings).update(_examples(nlp, corpus), sgd=False)  # type: ignore[arg-type]
    for key, value in plain.items():
        assert again[key] == pytest.approx(value, rel=2e-2, abs=1e-3)


def test_gold_sentences_are_kept_to(
    cnn_teacher: Path, init_student: Callable[..., Language], corpus: Path, gold: SimpleNamespace
) -> None:
    nlp = init_student(
        {"paths.teacher": str(cnn_teacher), "initialize.before_init.align": True, **OTHER}
    )
    examples = _examples(nlp, corpus)
    scores: Any = nlp.get_pipe("parser").teacher.scores(examples)
    starts = sorted(int(s) for group in scores.groups for s in group.starts)
    expected, offset = [], 0
    for eg in examples:
        gold_starts = eg.get_aligned_sent_starts()
        expected += [offset + i for i, start in enumerate(gold_starts) if start == 1]
        offset += len(eg.predicted)
    assert starts == expected


def test_an_average_can_t_be_aligned(
    cnn_teacher: Path, init_student: Callable[..., Language]
) -> None:
    paths = [str(cnn_teacher), str(cnn_teacher)]
    with pytest.raises(ValueError, match="can't be aligned with the student's tokens"):
        init_student(
            {
                "initialize.before_init.path": paths,
                "initialize.before_init.align": True,
                **OTHER,
            }
        )
