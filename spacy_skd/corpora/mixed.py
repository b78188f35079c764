"""spacy-skd.MixedCorpus.v1: several corpora, annotated or raw, in fixed proportions."""

from itertools import chain
from typing import Any, Callable, Dict, Iterable, Iterator, Optional

from spacy.language import Language
from spacy.training import Example

from .doc_lengths import of_lengths

Reader = Callable[[Language], Iterable[Example]]


class MixedCorpus:
    """Reads several corpora in proportions that hold, as nearly as possible, at any time. Docs
    without annotation are learned from by the distillation loss alone.

    A pass ends when each corpus has been read to its end. A corpus that is shorter than its
    proportion is read again. The order is the same each time.

    corpora (Dict[str, Callable[[Language], Iterable[Example]]]): Readers by name, such as
        "spacy.Corpus.v1" for .spacy files, "spacy.JsonlCorpus.v1" for texts in JSONL and
        "spacy.PlainTextCorpus.v1" for text files. A corpus whose path is null is left out, if its
        reader accepts null: RawCorpus does, spaCy's readers do not.
    proportions (Optional[Dict[str, float]]): The share of each corpus in the words, in any unit.
        None: each corpus is read once, one after the other.
    max_length (int): The maximum number of tokens in a doc. Longer docs are cut at the ends of
        sentences, annotated or as spaCy's sentencizer finds them. 0: no maximum.
    join_length (int): Docs are joined with those that follow in their corpus, up to a random number
        of tokens, at most this one: from docs of one sentence a parser can't learn where sentences
        begin. Joined docs lose categories and user data. 0: docs are not joined.
    RAISES (ValueError): If no corpus has a path, or if the proportions do not name all corpora and
        no others, or are not more than 0.
    """

    def __init__(
        self,
        corpora: Dict[str, Any],  # confection can't check callables in a dict
        proportions: Optional[Dict[str, float]] = None,
        max_length: int = 0,
        join_length: int = 0,
    ) -> None:
        if not corpora:
            raise ValueError(
                "A mixed corpus needs at least one corpus: add a block [corpora.train.corpora.NAME]"
                " with a reader."
            )
        for name, reader in corpora.items():
            if not callable(reader):
                raise ValueError(
                    f'Corpus "{name}" of the mixed corpus is {reader!r}, which is no reader: set '
                    f'@readers in its block, e.g. to "spacy.Corpus.v1".'
                )
        if proportions is not None:
            if set(proportions) != set(corpora):
                raise ValueError(
                    f"The proportions of a mixed corpus are for {sorted(proportions)}, its corpora "
                    f"are {sorted(corpora)}: give each corpus one proportion."
                )
            for name, share in proportions.items():
                if not share > 0:
                    raise ValueError(
                        f'The proportion of corpus "{name}" is {share}, but has to be more than 0: '
                        "leave the corpus out instead."
                    )
        self.corpora: Dict[str, Reader] = {
            name: reader
            for name, reader in corpora.items()
            if getattr(reader, "path", "") is not None
        }
        if not self.corpora:
            raise ValueError(
                f"None of the corpora {sorted(corpora)} of the mixed corpus has a path: set one, "
                "e.g. --paths.train."
            )
        self.proportions = proportions
        self.max_length = max_length
        self.join_length = join_length

    def __call__(self, nlp: Language) -> Iterator[Example]:
        """Read the corpora.

        nlp (Language): The pipeline.
        YIELDS (Example): The examples.
        RAISES (ValueError): If a corpus is empty.
        """
        shares = self.proportions
        if shares is None:
            yield from chain.from_iterable(self._read(name, nlp) for name in self.corpora)
            return
        streams = {name: self._read(name, nlp) for name in self.corpora}
        n_words = dict.fromkeys(self.corpora, 0)
        unread = set(self.corpora)
        while True:
            name = min(n_words, key=lambda name: n_words[name] / shares[name])
            eg = next(streams[name], None)
            if eg is None:
                unread.discard(name)
                if not unread:
                    return
                streams[name] = self._read(name, nlp)
                eg = next(streams[name])
            # A corpus of docs without tokens must come to an end.
            n_words[name] += max(len(eg.reference), 1)
            yield eg

    def _read(self, name: str, nlp: Language) -> Iterator[Example]:
        is_empty = True
        examples = self.corpora[name](nlp)
        for eg in of_lengths(examples, nlp, self.max_length, self.join_length):
            is_empty = False
            yield eg
        if is_empty:
            raise ValueError(
                f'There is nothing in corpus "{name}" of the mixed corpus: check its path, or '
                "leave it out."
            )
