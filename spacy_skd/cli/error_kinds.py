"""Count the errors of a pipeline by kind of entity and arc."""

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

import numpy
from spacy.tokens import Doc
from spacy.training import Example
from spacy.vocab import Vocab

# spaCy's attachment scores ignore the same labels.
_UNSCORED_DEPS = {"p", "punct"}

# The upper bounds of the bins for lengths of sentences and of arcs.
_SENTENCES, _ARCS = (5, 10, 20, 40), (1, 2, 5, 10)

# Whether the pipeline predicts the sentence around an entity or arc. These kinds hold other
# entities and arcs in each pipeline.
_BOUNDARIES = "sentence's boundaries"


class Kind(NamedTuple):
    """A kind of entity or arc.

    what (str): "entity" or "arc".
    by (str): The property by which kinds are told apart, e.g. "length".
    value (str): The value of the property.
    """

    what: str
    by: str
    value: str


@dataclass
class Count:
    """The numbers of entities or arcs of a kind: gold, predicted, and both."""

    gold: int = 0
    predicted: int = 0
    correct: int = 0

    @property
    def errors(self) -> int:
        """RETURNS (int): The number of missing and of spurious entities or arcs."""
        return self.gold + self.predicted - 2 * self.correct

    @property
    def f(self) -> float:
        """RETURNS (float): The F score. For arcs it is the accuracy, as each token has one arc."""
        return 2 * self.correct / max(1, self.gold + self.predicted)


Counts = Dict[Kind, Count]


class Seen:
    """The words and entities of a training corpus.

    docs (Iterable[Doc]): The references of the corpus.
    """

    def __init__(self, docs: Iterable[Doc]) -> None:
        self.words: Set[str] = set()
        self.entities: Set[Tuple[str, str]] = set()
        for doc in docs:
            self.words.update(token.lower_ for token in doc)
            self.entities.update((span.text.lower(), span.label_) for span in doc.ents)


def count_kinds(
    examples: Iterable[Example], seen: Optional[Seen] = None, lexicon: Optional[Vocab] = None
) -> Counts:
    """Count entities and labelled arcs by kind.

    examples (Iterable[Example]): Annotated docs and references with the same tokens.
    seen (Optional[Seen]): The training corpus, for kinds by what was seen in training.
    lexicon (Optional[Vocab]): A vocabulary with static vectors, for kinds by whether words have a
        vector. A vocabulary without vectors is ignored.
    RETURNS (Counts): The count of each kind that occurs.
    """
    if lexicon is not None and not lexicon.vectors_length:
        lexicon = None
    counts: Counts = defaultdict(Count)
    for eg in examples:
        context = _Context(eg, seen, lexicon)
        for kinds, is_gold, is_predicted in [*_entities(eg, context), *_arcs(eg, context)]:
            for kind in kinds:
                counts[kind].gold += is_gold
                counts[kind].predicted += is_predicted
                counts[kind].correct += is_gold and is_predicted
    return dict(counts)


def excess(student: Counts, teacher: Counts) -> List[Tuple[int, Kind]]:
    """Find the kinds in which one pipeline makes more errors than another.

    student (Counts): The counts of the first pipeline.
    teacher (Counts): The counts of the second pipeline, on the same corpus.
    RETURNS (List[Tuple[int, Kind]]): The number of additional errors and the kind, the highest
        number first. Kinds that hold other entities and arcs in each pipeline are left out.
    """
    kinds = {kind for kind in [*student, *teacher] if kind.by != _BOUNDARIES}
    nothing = Count()
    more = [
        (student.get(kind, nothing).errors - teacher.get(kind, nothing).errors, kind)
        for kind in kinds
    ]
    return sorted(more, key=lambda pair: (-pair[0], pair[1]))


class _Context:
    """What decides the kinds of the entities and arcs of an example."""

    def __init__(self, eg: Example, seen: Optional[Seen], lexicon: Optional[Vocab]) -> None:
        self.seen = seen
        self.lexicon = lexicon
        n = len(eg.reference)
        gold, predicted = (_sentence_starts(doc) for doc in (eg.reference, eg.predicted))
        self.has_sentences = gold is not None
        starts = gold if gold is not None else [0] if n else []
        ends = [*starts[1:], n]
        self.predicts_sentences = predicted is not None
        sentences = set(zip(predicted, [*predicted[1:], n])) if predicted is not None else set()
        self.sentence_length = numpy.zeros((n,), dtype=int)
        self.is_whole = numpy.zeros((n,), dtype=bool)
        for start, end in zip(starts, ends, strict=True):
            self.sentence_length[start:end] = end - start
            self.is_whole[start:end] = (start, end) in sentences

    def of_token(self, i: int) -> Iterator[Tuple[str, str]]:
        """YIELDS (Tuple[str, str]): The kinds of a token that depend on its sentence."""
        if self.has_sentences:
            yield "sentence length", _bin(int(self.sentence_length[i]), _SENTENCES)
            if self.predicts_sentences:
                yield _BOUNDARIES, "found" if self.is_whole[i] else "not found"


def _sentence_starts(doc: Doc) -> Optional[List[int]]:
    if len(doc) > 1 and not doc.has_annotation("SENT_START"):
        return None
    return [token.i for token in doc if token.is_sent_start or token.i == 0]


_Counted = Iterator[Tuple[List[Kind], bool, bool]]


def _entities(eg: Example, context: _Context) -> _Counted:
    """YIELDS: The kinds of each entity, whether it is gold, and whether it is predicted."""
    gold, predicted = (
        {(span.start, span.end, span.label_) for span in doc.ents}
        for doc in (eg.reference, eg.predicted)
    )
    if not eg.reference.has_annotation("ENT_IOB"):
        return
    for start, end, label in sorted(gold | predicted):
        length = end - start
        kinds = [
            ("all", ""),
            ("length", str(length) if length < 4 else "4 or more"),
            ("label", label),
            *context.of_token(start),
        ]
        span = eg.reference[start:end]
        if context.seen is not None:
            if (span.text.lower(), label) in context.seen.entities:
                kinds.append(("seen in training", "as it is"))
            elif all(token.lower_ in context.seen.words for token in span):
                kinds.append(("seen in training", "its words alone"))
            else:
                kinds.append(("seen in training", "not all of its words"))
        if context.lexicon is not None:
            listed = all(context.lexicon.has_vector(token.text) for token in span)
            kinds.append(
                ("in the lexicon", "all of its words" if listed else "not all of its words")
            )
        entity = (start, end, label)
        yield [Kind("entity", *kind) for kind in kinds], entity in gold, entity in predicted


def _arcs(eg: Example, context: _Context) -> _Counted:
    """YIELDS: The kinds of each gold arc, whether it is gold, and whether it is predicted. A wrong
    arc counts twice: once as missing, once as spurious."""
    if not eg.reference.has_annotation("DEP"):
        return
    for token, other in zip(eg.reference, eg.predicted, strict=True):
        if not token.dep_ or token.dep_.lower() in _UNSCORED_DEPS:
            continue
        distance = abs(token.head.i - token.i)
        kinds = [
            ("all", ""),
            ("length", _bin(distance, _ARCS) if distance else "root"),
            ("label", token.dep_),
            *context.of_token(token.i),
        ]
        if context.seen is not None:
            is_seen = token.lower_ in context.seen.words
            kinds.append(("word seen in training", "yes" if is_seen else "no"))
        if context.lexicon is not None:
            is_listed = context.lexicon.has_vector(token.text)
            kinds.append(("word in the lexicon", "yes" if is_listed else "no"))
        named = [Kind("arc", *kind) for kind in kinds]
        if (other.head.i, other.dep_.lower()) == (token.head.i, token.dep_.lower()):
            yield named, True, True
        else:
            yield named, True, False
            yield named, False, True


def _bin(value: int, bounds: Tuple[int, ...]) -> str:
    i = bisect_left(bounds, value)
    if i == len(bounds):
        return f"more than {bounds[-1]}"
    low = bounds[i - 1] + 1 if i else 1
    return str(bounds[i]) if low == bounds[i] else f"{low} to {bounds[i]}"
