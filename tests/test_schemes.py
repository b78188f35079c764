import itertools

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from spacy_skd.schemes import TagScheme

NAMES = ["BIO", "BILUO"]
# Labels may look like tags.
LABELS = ["PER", "B-X", "I", "work_of-art"]


@st.composite
def annotated(draw):
    """A scheme, a length in tokens, and entities that do not overlap."""
    scheme = TagScheme(draw(st.sampled_from(NAMES)), LABELS[: draw(st.integers(1, 4))])
    length = draw(st.integers(0, 12))
    entities = []
    begin = 0
    while begin < length:
        if draw(st.booleans()):
            end = draw(st.integers(begin + 1, length))
            entities.append((begin, end, draw(st.sampled_from(scheme.labels))))
            begin = end
        else:
            begin += 1
    return scheme, length, entities


def tags_of(scheme, length, entities):
    tags = [scheme.index["O"]] * length
    for start, end, label in entities:
        tags[start:end] = scheme.entity_tags(label, end - start)
    return tags


def is_well_formed(scheme, tags):
    valid = scheme.valid
    if not len(tags):
        return True
    follows = all(valid.transitions[i, j] for i, j in itertools.pairwise(tags))
    return bool(valid.start[tags[0]] and valid.end[tags[-1]] and follows)


def every_annotation(length, labels):
    """All sets of entities of a text, each an increasing list."""
    if length == 0:
        return [[]]
    actual = [list(entities) for entities in every_annotation(length - 1, labels)]
    for start in range(length):
        for entities in every_annotation(start, labels):
            actual.extend([*entities, (start, length, label)] for label in labels)
    return actual


@given(annotated())
def test_entities_come_back(case):
    scheme, length, entities = case
    tags = tags_of(scheme, length, entities)
    assert is_well_formed(scheme, tags)
    assert scheme.entities(tags) == entities
    assert scheme.entities(numpy.array(tags, dtype="i8")) == entities


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("labels", [["A"], ["A", "B"]])
@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_well_formed_is_what_entities_give(name, labels, length):
    # By definition: a sequence is well-formed if it is how some set of entities is written down.
    scheme = TagScheme(name, labels)
    if len(scheme) ** length > 10_000:
        length = 3
    annotations = every_annotation(length, labels)
    expected = {tuple(tags_of(scheme, length, entities)) for entities in annotations}
    # Each set of entities has a sequence of its own.
    assert len(expected) == len(annotations)
    every = itertools.product(range(len(scheme)), repeat=length)
    assert {tags for tags in every if is_well_formed(scheme, tags)} == expected


@pytest.mark.parametrize("name", NAMES)
def test_no_labels(name):
    scheme = TagScheme(name, [])
    assert scheme.tags == ("O",) and len(scheme) == 1
    assert scheme.valid.transitions.all() and scheme.valid.start.all() and scheme.valid.end.all()
    assert scheme.entities([0, 0]) == scheme.entities([]) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_new_label_leaves_the_others_where_they_were(name):
    before = TagScheme(name, ["B", "A"])
    after = TagScheme(name, ["B", "A", "0"])
    n_tags = len(before)
    assert after.tags[:n_tags] == before.tags
    assert len(after) == n_tags + TagScheme.tags_per_label(name)
    valid = after.valid
    assert_array_equal(valid.transitions[:n_tags, :n_tags], before.valid.transitions)
    assert_array_equal(valid.start[:n_tags], before.valid.start)
    assert_array_equal(valid.end[:n_tags], before.valid.end)


def test_tags():
    assert TagScheme("BIO", ["A", "B"]).tags == ("O", "B-A", "I-A", "B-B", "I-B")
    assert TagScheme("BILUO", ["A"]).tags == ("O", "B-A", "I-A", "L-A", "U-A")
    scheme = TagScheme("BILUO", LABELS)
    assert all(scheme.tags[i] == tag for tag, i in scheme.index.items())


def test_restrict():
    valid = TagScheme("BILUO", ["A", "B"]).valid
    tags = numpy.array([True] * 5 + [False] * 4)
    restricted = valid.restrict(tags)
    alone = TagScheme("BILUO", ["A"]).valid
    assert_array_equal(restricted.transitions[:5, :5], alone.transitions)
    assert_array_equal(restricted.start[:5], alone.start)
    assert_array_equal(restricted.end[:5], alone.end)
    assert not restricted.transitions[5:].any() and not restricted.transitions[:, 5:].any()
    assert not restricted.start[5:].any() and not restricted.end[5:].any()


def distribution(scheme, emissions, transitions, start, end):
    """The probability of each set of entities, by enumeration."""
    length = len(emissions)
    weights = {}
    for entities in every_annotation(length, scheme.labels):
        tags = tags_of(scheme, length, entities)
        score = start[tags[0]] + end[tags[-1]] + emissions[numpy.arange(length), tags].sum()
        score += sum(transitions[i, j] for i, j in itertools.pairwise(tags))
        weights[tuple(entities)] = numpy.exp(score)
    total = sum(weights.values())
    return {entities: weight / total for entities, weight in weights.items()}


@pytest.mark.parametrize("labels", [["A", "B"], ["B", "A"]])
@pytest.mark.parametrize("length", [1, 2, 4])
def test_a_bilou_chain_with_a_bio_teacher_s_scores_has_its_distribution(labels, length):
    rng = numpy.random.default_rng(0)
    teacher = TagScheme("BIO", ["A", "B"])
    student = TagScheme("BILUO", labels)
    n = len(teacher)
    scores = [rng.normal(size=shape) for shape in ((length, n), (n, n), n, n)]
    index = student.index_in(teacher)
    emissions, transitions, start, end = scores
    moved = emissions[:, index], transitions[index][:, index], start[index], end[index]
    expected, computed = distribution(teacher, *scores), distribution(student, *moved)
    assert len(expected) > 1
    for entities, probability in expected.items():
        assert_allclose(computed[entities], probability)


@pytest.mark.parametrize(("ours", "theirs"), [("BIO", "BIO"), ("BILUO", "BILUO"), ("BILUO", "BIO")])
def test_tags_are_matched_by_name(ours, theirs):
    student, teacher = TagScheme(ours, ["A", "NEW", "B"]), TagScheme(theirs, ["B", "OLD", "A"])
    prefixes = {"L": "I", "U": "B"} if ours != theirs else {}
    for tag, i in zip(student.tags, student.index_in(teacher), strict=True):
        if tag.endswith("-NEW"):
            assert i == -1
        else:
            assert teacher.tags[i] == prefixes.get(tag[0], tag[0]) + tag[1:]


def test_a_bio_student_cannot_take_a_bilou_teacher_s_scores():
    with pytest.raises(ValueError, match="A tag of BIO may be one of several of BILUO"):
        TagScheme("BIO", ["A"]).index_in(TagScheme("BILUO", ["A"]))


def test_unknown_scheme():
    with pytest.raises(ValueError, match='Unknown tagging scheme "IOB2": set scheme to "BIO" or'):
        TagScheme("IOB2", ["A"])


def test_equality():
    scheme = TagScheme("BIO", ["A", "B"])
    assert scheme == TagScheme("BIO", ("A", "B"))
    assert hash(scheme) == hash(TagScheme("BIO", ("A", "B")))
    others = [TagScheme("BILUO", ["A", "B"]), TagScheme("BIO", ["B", "A"]), scheme.tags]
    assert all(scheme != other for other in others)
    assert eval(repr(scheme)) == scheme
