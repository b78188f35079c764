"""Docs of other lengths than a corpus has: long ones cut, short ones joined."""

from random import Random
from typing import Iterable, Iterator, List, Sequence, Tuple

from spacy.language import Language
from spacy.pipeline import Sentencizer
from spacy.tokens import Doc
from spacy.training import Example

# To such a length docs should be joined, if so many of them are a sentence each. Fewer docs than
# that tell nothing. (The sentencizer finds ends of sentences after abbreviations, too.)
JOIN_LENGTH, _SINGLE, _MANY_DOCS = 200, 0.8, 20


def are_single_sentences(counts: Sequence[int]) -> bool:
    """Whether the docs of a corpus are single sentences, of which a parser can't learn where
    sentences begin.

    counts (Sequence[int]): How many sentences its docs have, or some of them.
    RETURNS (bool): True if nearly all have one.
    """
    return len(counts) >= _MANY_DOCS and counts.count(1) >= _SINGLE * len(counts)


def count_sentences(doc: Doc) -> int:
    """RETURNS (int): The sentences of a doc, those that spaCy's sentencizer finds where none are
    annotated.
    """
    return sum(_sentence_starts(doc))


def of_lengths(
    examples: Iterable[Example], nlp: Language, max_length: int, join_length: int
) -> Iterator[Example]:
    """Join and cut: see `joined`, and `cut` for what comes of that."""
    for eg in joined(examples, join_length):
        yield from cut(eg, nlp, max_length)


def joined(examples: Iterable[Example], join_length: int) -> Iterator[Example]:
    """Join short examples with those that follow, the same way each time.

    examples (Iterable[Example]): The examples.
    join_length (int): Each group is to have a random number of tokens, from 1 to so many, and ends
        with the doc that reaches it; 0 for examples as they are.
    YIELDS (Example): The groups. User data of docs is left out where they are joined.
    """
    if not join_length:
        yield from examples
        return
    random = Random(0)
    group: List[Example] = []
    n_tokens, wanted = 0, random.randint(1, join_length)
    for eg in examples:
        group.append(eg)
        n_tokens += len(eg.reference)
        if n_tokens >= wanted:
            yield _joined(group)
            group, n_tokens, wanted = [], 0, random.randint(1, join_length)
    if group:
        yield _joined(group)


def _joined(group: List[Example]) -> Example:
    if not group[1:]:
        return group[0]
    docs = [eg.reference for eg in group]
    # A language that is written without spaces has none between sentences either.
    has_spaces = any(token.whitespace_ for doc in docs for token in doc)
    predicted, reference = (
        # spaCy's types don't know the argument.
        Doc.from_docs(side, has_spaces, exclude=("user_data",))  # type: ignore[call-arg]
        for side in ([eg.predicted for eg in group], docs)
    )
    return Example(predicted, reference)


def cut(eg: Example, nlp: Language, max_length: int) -> Iterator[Example]:
    """Cut a long example at ends of sentences.

    eg (Example): The example.
    nlp (Language): The pipeline, whose tokenizer reads the parts where the predicted doc's tokens
        are not the reference's.
    max_length (int): The tokens of the reference that a part may have; 0 for any number. Annotated
        sentences stay whole, also where one has more.
    YIELDS (Example): The parts, or the example itself where it is short enough.
    """
    reference, predicted = eg.reference, eg.predicted
    if not max_length or len(reference) <= max_length:
        yield eg
        return
    tokens_agree = [t.text_with_ws for t in predicted] == [t.text_with_ws for t in reference]
    for start, end in _parts(reference, max_length):
        part = reference[start:end].as_doc()
        yield Example(
            predicted[start:end].as_doc() if tokens_agree else nlp.make_doc(part.text), part
        )


def _parts(doc: Doc, max_length: int) -> Iterator[Tuple[int, int]]:
    """Start and end of the parts of a doc: as many sentences as fit, at least one."""
    is_annotated = doc.has_annotation("SENT_START")
    starts = _sentence_starts(doc)
    # No entity is cut in two.
    ends = [i for i in range(1, len(doc)) if starts[i] and doc[i].ent_iob_ != "I"]
    start = previous = 0
    for end in [*ends, len(doc)]:
        if end - start > max_length and previous > start:
            yield start, previous
            start = previous
        while end - start > max_length and not is_annotated:
            yield start, start + max_length
            start += max_length
        previous = end
    if previous > start:
        yield start, previous


def _sentence_starts(doc: Doc) -> List[bool]:
    """Which tokens start a sentence: by annotation, else by the sentencizer."""
    if doc.has_annotation("SENT_START"):
        return [token.is_sent_start is True for token in doc]
    return list(Sentencizer().predict([doc])[0])
