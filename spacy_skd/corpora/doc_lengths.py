"""Docs of other lengths than in a corpus: long docs are cut, short ones joined."""

from random import Random
from typing import Dict, Iterable, Iterator, List, Tuple

from spacy.language import Language
from spacy.pipeline import Sentencizer
from spacy.tokens import Doc, Span
from spacy.training import Example


def of_lengths(
    examples: Iterable[Example], nlp: Language, max_length: int, join_length: int
) -> Iterator[Example]:
    """Join short examples, then cut long ones; see `joined` and `cut`."""
    for eg in joined(examples, join_length):
        yield from cut(eg, nlp, max_length)


def joined(examples: Iterable[Example], join_length: int) -> Iterator[Example]:
    """Join short examples with those that follow, the same way each time.

    examples (Iterable[Example]): The examples.
    join_length (int): The maximum of the random number of tokens at which a group is complete. A
        group ends with the doc that reaches the number. 0 for examples as they are.
    YIELDS (Example): The groups. Either all docs of a group are parsed, or none. Joined docs lose
        categories and user data. Docs without tokens are left out.
    """
    if not join_length:
        yield from examples
        return
    random = Random(0)
    # Docs with and without a parse have separate groups: in a joined doc, spaCy would derive the
    # sentence starts of all from the heads of some.
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
        # A language without spaces between words has none between sentences either.
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
        # spaCy's type stubs lack the argument.
        Doc.from_docs(docs, has_spaces, exclude=("tensor", "user_data"))  # type: ignore[call-arg]
        for docs in ([eg.predicted for eg in group], [eg.reference for eg in group])
    )
    return Example(predicted, reference)


def cut(eg: Example, nlp: Language, max_length: int) -> Iterator[Example]:
    """Cut a long example at the ends of sentences.

    eg (Example): The example.
    nlp (Language): The pipeline, whose tokenizer makes the predicted docs of the parts if predicted
        and reference tokens differ.
    max_length (int): The maximum number of tokens in the reference of a part; 0 for any number.
        Annotated sentences stay whole, even if they are longer.
    YIELDS (Example): The parts, or the example itself if it is short enough.
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
    """RETURNS (Doc): Some tokens of a doc, with the spans of its groups among them, which `as_doc`
    drops."""
    part = doc[start:end].as_doc()
    for key, group in doc.spans.items():
        part.spans[key] = [
            Span(part, s.start - start, s.end - start, s.label, kb_id=s.kb_id, span_id=s.id)
            for s in group
            if start <= s.start and s.end <= end
        ]
    return part


def _parts(doc: Doc, max_length: int) -> Iterator[Tuple[int, int]]:
    """YIELDS (Tuple[int, int]): Start and end of each part: as many sentences as fit, at least
    one."""
    starts = [token.is_sent_start for token in doc]
    is_annotated = doc.has_annotation("SENT_START", require_complete=True)
    if not is_annotated:
        # In a joined doc, only the starts of the original docs are set.
        guesses = Sentencizer().predict([doc])[0]
        starts = [guess if start is None else start for start, guess in zip(starts, guesses)]
    # No entity is cut in two, unless it is longer than a part.
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
