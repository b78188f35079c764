"""What kinds of entities and arcs a pipeline gets wrong."""

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

import numpy
from spacy.tokens import Doc
from spacy.training import Example
from spacy.vocab import Vocab

# As in spaCy's scores of heads and deps.
_UNSCORED_DEPS = {"p", "punct"}

# Sentence lengths and arc lengths: the largest of each bin.
_SENTENCES, _ARCS = (5, 10, 20, 40), (1, 2, 5, 10)


# Whether the sentence that an entity or arc is in was found: in each pipeline it is other ones.
_BOUNDARIES = "sentence's boundaries"


class Kind(NamedTuple):
    """A kind of entity or arc.

    what (str): "entity" or "arc".
    by (str): What it is told by.
    value (str): Which of these.
    """

    what: str
    by: str
    value: str


@dataclass
class Count:
    """How many of a kind there are in gold, were found, and are both."""

    gold: int = 0
    found: int = 0
    right: int = 0

    @property
    def errors(self) -> int:
        """RETURNS (int): What is missing, and what is there and should not be."""
        return self.gold + self.found - 2 * self.right

    @property
    def f(self) -> float:
        """RETURNS (float): The F score; of arcs, of which there is one a token, the accuracy."""
        return 2 * self.right / max(1, self.gold + self.found)


Counts = Dict[Kind, Count]


class Seen:
    """What a training corpus has.

    docs (Iterable[Doc]): Its references.
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

    examples (Iterable[Example]): Annotated docs and references, of the same tokens.
    seen (Optional[Seen]): What training had, for kinds that are told by it.
    lexicon (Optional[Vocab]): A vocabulary with static vectors, for kinds that are told by whether
        words have one. Without any vectors it tells none.
    RETURNS (Counts): A count for each kind that occurs.
    """
    if lexicon is not None and not lexicon.vectors_length:
        lexicon = None
    counts: Counts = defaultdict(Count)
    for eg in examples:
        context = _Context(eg, seen, lexicon)
        for kinds, is_gold, is_found in [*_entities(eg, context), *_arcs(eg, context)]:
            for kind in kinds:
                counts[kind].gold += is_gold
                counts[kind].found += is_found
                counts[kind].right += is_gold and is_found
    return dict(counts)


def excess(student: Counts, teacher: Counts) -> List[Tuple[int, Kind]]:
    """Where one pipeline makes more errors than another.

    student (Counts): Of the one.
    teacher (Counts): Of the other, on the same corpus.
    RETURNS (List[Tuple[int, Kind]]): How many more, and the kind; most first. Only of kinds that
        are the same entities and arcs to both.
    """
    kinds = {kind for kind in [*student, *teacher] if kind.by != _BOUNDARIES}
    nothing = Count()
    more = [
        (student.get(kind, nothing).errors - teacher.get(kind, nothing).errors, kind)
        for kind in kinds
    ]
    return sorted(more, key=lambda pair: (-pair[0], pair[1]))


class _Context:
    """What the kinds of an example's tokens hang on."""

    def __init__(self, eg: Example, seen: Optional[Seen], lexicon: Optional[Vocab]) -> None:
        self.seen = seen
        self.lexicon = lexicon
        n = len(eg.reference)
        gold, found = (_sentence_starts(doc) for doc in (eg.reference, eg.predicted))
        self.has_sentences = gold is not None
        starts = gold if gold is not None else [0] if n else []
        ends = [*starts[1:], n]
        self.tells_sentences = found is not None
        sentences = set(zip(found, [*found[1:], n])) if found is not None else set()
        self.sentence_length = numpy.zeros((n,), dtype=int)
        self.is_whole = numpy.zeros((n,), dtype=bool)
        for start, end in zip(starts, ends, strict=True):
            self.sentence_length[start:end] = end - start
            self.is_whole[start:end] = (start, end) in sentences

    def of_token(self, i: int) -> Iterator[Tuple[str, str]]:
        """YIELDS (Tuple[str, str]): What kinds it has that hang on its sentence."""
        if self.has_sentences:
            yield "sentence length", _bin(int(self.sentence_length[i]), _SENTENCES)
            if self.tells_sentences:
                yield _BOUNDARIES, "found" if self.is_whole[i] else "not found"


def _sentence_starts(doc: Doc) -> Optional[List[int]]:
    if len(doc) > 1 and not doc.has_annotation("SENT_START"):
        return None
    return [token.i for token in doc if token.is_sent_start or token.i == 0]


_Counted = Iterator[Tuple[List[Kind], bool, bool]]


def _entities(eg: Example, context: _Context) -> _Counted:
    """YIELDS: The kinds of each entity, whether it is gold, and whether it was found."""
    gold, found = (
        {(span.start, span.end, span.label_) for span in doc.ents}
        for doc in (eg.reference, eg.predicted)
    )
    if not eg.reference.has_annotation("ENT_IOB"):
        return
    for start, end, label in sorted(gold | found):
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
                of_span = "as it is"
            elif all(token.lower_ in context.seen.words for token in span):
                of_span = "its words alone"
            else:
                of_span = "not all of its words"
            kinds.append(("seen in training", of_span))
        if context.lexicon is not None:
            listed = all(context.lexicon.has_vector(token.text) for token in span)
            kinds.append(
                ("in the lexicon", "all of its words" if listed else "not all of its words")
            )
        here = (start, end, label)
        yield [Kind("entity", *kind) for kind in kinds], here in gold, here in found


def _arcs(eg: Example, context: _Context) -> _Counted:
    """YIELDS: The kinds of each gold arc, whether it is gold, and whether it was found: one that is
    not is one that is missing and one that should not be."""
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
