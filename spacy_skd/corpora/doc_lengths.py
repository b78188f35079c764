"""Docs of other lengths than a corpus has: long ones cut, short ones joined."""

from random import Random
from typing import Dict, Iterable, Iterator, List, Tuple

from spacy.language import Language
from spacy.pipeline import Sentencizer
from spacy.tokens import Doc, Span
from spacy.training import Example


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
    YIELDS (Example): The groups, all of whose docs are parsed or none is. Categories and user data
        are left out where docs are joined, and docs without a token.
    """
    if not join_length:
        yield from examples
        return
    random = Random(0)
    # Together, spaCy would take sentence starts of the ones from the heads of the others: those
    # that are parsed and those that are not have a group each.
    groups: Dict[bool, List[Example]] = {True: [], False: []}
    wanted = {True: 0, False: 0}
    has_spaces = False
    for eg in examples:
        if not len(eg.reference):
            continue
        is_parsed = eg.reference.has_annotation("DEP")
        group = groups[is_parsed]
        if not group:
            wanted[is_parsed] = random.randint(1, join_length)
        group.append(eg)
        # A language that is written without spaces has none between sentences either.
        has_spaces = has_spaces or any(token.whitespace_ for token in eg.reference)
        if sum(len(eg.reference) for eg in group) >= wanted[is_parsed]:
            yield _joined(group, has_spaces)
            groups[is_parsed] = []
    for group in groups.values():
        if group:
            yield _joined(group, has_spaces)


def _joined(group: List[Example], has_spaces: bool) -> Example:
    if not group[1:]:
        return group[0]
    predicted, reference = (
        # spaCy's types don't know the argument.
        Doc.from_docs(docs, has_spaces, exclude=("tensor", "user_data"))  # type: ignore[call-arg]
        for docs in ([eg.predicted for eg in group], [eg.reference for eg in group])
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
        part = _part(reference, start, end)
        yield Example(
            _part(predicted, start, end) if tokens_agree else nlp.make_doc(part.text), part
        )


def _part(doc: Doc, start: int, end: int) -> Doc:
    """Some tokens of a doc, with the spans of its groups that lie in them: `as_doc` has none."""
    part = doc[start:end].as_doc()
    for key, group in doc.spans.items():
        part.spans[key] = [
            Span(part, s.start - start, s.end - start, s.label, kb_id=s.kb_id, span_id=s.id)
            for s in group
            if start <= s.start and s.end <= end
        ]
    return part


def _parts(doc: Doc, max_length: int) -> Iterator[Tuple[int, int]]:
    """Start and end of the parts of a doc: as many sentences as fit, at least one."""
    starts = [token.is_sent_start for token in doc]
    is_annotated = doc.has_annotation("SENT_START", require_complete=True)
    if not is_annotated:
        # Of docs that were joined it is known where each begins, and no more.
        found = Sentencizer().predict([doc])[0]
        starts = [guess if start is None else start for start, guess in zip(starts, found)]
    # No entity is cut in two, but for one that is longer than a part.
    is_inside = [token.ent_iob_ == "I" for token in doc]
    ends = [i for i in range(1, len(doc)) if starts[i] and not is_inside[i]]
    start = previous = 0
    for end in [*ends, len(doc)]:
        if end - start > max_length and previous > start:
            yield start, previous
            start = previous
        while end - start > max_length and not is_annotated:
            middle = start + max_length
            while middle > start and is_inside[middle]:
                middle -= 1
            middle = middle if middle > start else start + max_length
            yield start, middle
            start = middle
        previous = end
    if previous > start:
        yield start, previous
