"""spacy-skd.MixedCorpus.v1: several corpora, annotated or raw, in stated proportions."""

from itertools import chain
from typing import Any, Callable, Dict, Iterable, Iterator, Optional

from spacy.language import Language
from spacy.training import Example

from .doc_lengths import of_lengths

Reader = Callable[[Language], Iterable[Example]]


class MixedCorpus:
    """Examples of several corpora, such that at any time the words read of each are as nearly as
    can be in proportion. Docs without annotation are learned from by the distillation loss alone.

    One pass ends when each corpus has been read to its end once; those that are shorter, for their
    proportion, are read again meanwhile. The same order each time.

    corpora (Dict[str, Callable[[Language], Iterable[Example]]]): Readers by name, such as
        "spacy.Corpus.v1" for .spacy files, "spacy.JsonlCorpus.v1" for texts in JSONL and
        "spacy.PlainTextCorpus.v1" for text files. One whose path is null is left out, where its
        reader takes null: RawCorpus does, spaCy's do not.
    proportions (Optional[Dict[str, float]]): The share of each in the words, in any unit. None: all
        of each, once.
    max_length (int): Docs of more tokens are cut at ends of sentences: annotated ones, else those
        that spaCy's sentencizer finds. 0: no limit.
    join_length (int): Docs are joined with those that follow in their corpus until they have a
        random number of tokens, so many at most. Where each doc is a sentence, nothing could be
        learned of where sentences begin. Categories and user data of joined docs are lost. 0: each
        stays as it is.
    RAISES (ValueError): If there is no corpus with a path, a proportion for none or none for one,
        or one that is not more than 0.
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
        RAISES (ValueError): If there is nothing in one of them.
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
            # A doc without a token must not be read for ever.
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
