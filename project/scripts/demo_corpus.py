"""Make an annotated corpus and raw text from a grammar whose rules name heads and labels."""

import os
import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Annotated, Dict, List, Optional, Tuple

import srsly
import typer
from spacy.tokens import Doc, DocBin
from spacy.vocab import Vocab
from wasabi import msg

N_TOKENS = {"train": 9000, "dev": 2000, "test": 2000, "raw": 25000}
FILES = {
    "train": "train.spacy",
    "dev": "dev.spacy",
    "test": "test.spacy",
    "raw": "raw.jsonl",
}
STYLES = {"plain": 5, "lower": 3, "typos": 2}  # of documents, with weights
P_SAME_NAME = 0.25  # how often a name that the document has used comes again
P_HEADLINE = 0.4
P_TYPO = 0.15
NO_SPACE_BEFORE = {".", ",", "?", "!", "”", "'s", "n't"}


@dataclass(frozen=True)
class Item:
    """One symbol of a rule's right side. Its label is empty where it is the head, its part of
    speech where it is no literal word.
    """

    label: str
    symbol: str
    pos: str
    optional: bool


@dataclass(frozen=True)
class Rule:
    entity: str
    items: List[Item]
    weight: float


@dataclass(frozen=True)
class Lexicon:
    pos: str
    entries: Dict[str, List[str]]  # by split


@dataclass(frozen=True)
class Grammar:
    rules: Dict[str, List[Rule]]
    lexicons: Dict[str, Lexicon]


@dataclass(frozen=True)
class Word:
    """A token. Its head is a distance, 0 at the root, so that phrases can be joined as they are."""

    text: str
    pos: str
    head: int = 0
    dep: str = "ROOT"
    ent: str = "O"


def read_lexicons(folder: Path) -> Dict[str, Lexicon]:
    """Read sections `[name POS]` of lines `split split: entry, entry`.

    folder (Path): The folder of the `.txt` files.
    RETURNS (Dict[str, Lexicon]): By name.
    """
    lexicons: Dict[str, Lexicon] = {}
    entries: Dict[str, List[str]] = {}
    for path in sorted(folder.glob("*.txt")):
        for number, line in enumerate(path.read_text(encoding="utf8").splitlines(), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            if section := re.fullmatch(r"\[(\w+) ([A-Z]+)\]", line):
                entries = {split: [] for split in N_TOKENS}
                lexicons[section.group(1)] = Lexicon(section.group(2), entries)
                continue
            splits, _, words = line.partition(":")
            names = list(N_TOKENS) if splits == "all" else splits.split()
            if not words or not set(names) <= set(entries):
                raise ValueError(f"{path}, line {number}: no line of a lexicon: {line!r}.")
            for name in names:
                entries[name].extend(word.strip() for word in words.split(","))
    for name, lexicon in lexicons.items():
        if not all(lexicon.entries.values()):
            raise ValueError(f"The lexicon {name!r} in {folder} has no entry for some split.")
    return lexicons


def _parse_rule(entity: str, alternative: str, where: str) -> Rule:
    right, _, weight = alternative.partition("@")
    items = []
    for part in right.split():
        optional = part.endswith("?") and "/" not in part
        label, _, symbol = part.rstrip("?" if optional else "").rpartition("=")
        literal, _, pos = symbol.rpartition("/")
        items.append(
            Item(label, literal.lstrip("*") or symbol.lstrip("*"), pos if literal else "", optional)
        )
        if bool(label) == symbol.startswith("*"):
            raise ValueError(f"{where}: neither *HEAD nor label=DEPENDENT: {part!r}.")
    if sum(not item.label and not item.optional for item in items) != 1:
        raise ValueError(f"{where}: not exactly one *HEAD in {right.strip()!r}.")
    return Rule(entity, items, float(weight or 1))


def read_grammar(folder: Path) -> Grammar:
    """Read `grammar.txt` and `lexicons/`.

    folder (Path): The folder that has both.
    RETURNS (Grammar): The rules by symbol, and the lexicons.
    RAISES (ValueError): At a malformed line or a symbol that nothing defines.
    """
    path = folder / "grammar.txt"
    lexicons = read_lexicons(folder / "lexicons")
    rules: Dict[str, List[Rule]] = {}
    for number, line in enumerate(path.read_text(encoding="utf8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        where = f"{path}, line {number}"
        left = re.match(r"(\w+)(?:\[(\w+)\])?\s+-> ", line)
        if not left or left.group(1) in rules:
            raise ValueError(f"{where}: no rule, or a symbol's second: {line!r}.")
        alternatives = line[left.end() :].split("|")
        rules[left.group(1)] = [_parse_rule(left.group(2) or "", a, where) for a in alternatives]
    for symbol, alternatives_ in rules.items():
        for rule in alternatives_:
            for item in rule.items:
                if not item.pos and item.symbol not in rules and item.symbol not in lexicons:
                    raise ValueError(
                        f"{path}: {symbol} refers to {item.symbol}, which is not there."
                    )
    return Grammar(rules, lexicons)


@dataclass
class Generator:
    """Generates documents of one split.

    grammar (Grammar): What to generate from.
    split (str): Whose entries of the lexicons to use.
    rng (Random): The only source of chance.
    """

    grammar: Grammar
    split: str
    rng: Random

    def __post_init__(self) -> None:
        self.used: Dict[str, List[str]] = {}

    def phrase(self, symbol: str) -> List[Word]:
        """RETURNS (List[Word]): A phrase with one word, its head, of distance 0."""
        if symbol in self.grammar.lexicons:
            return [self.entry(symbol)]
        rules = self.grammar.rules[symbol]
        rule = self.rng.choices(rules, [rule.weight for rule in rules])[0]
        words: List[Word] = []
        dependents: List[Tuple[int, str]] = []
        for item in rule.items:
            if item.optional and self.rng.random() < 0.5:
                continue
            part = [Word(item.symbol, item.pos)] if item.pos else self.phrase(item.symbol)
            position = len(words) + next(i for i, word in enumerate(part) if word.head == 0)
            if item.label:
                dependents.append((position, item.label))
            else:
                head = position
            words.extend(part)
        for position, label in dependents:
            words[position] = replace(words[position], head=head - position, dep=label)
        if rule.entity:
            words = [
                replace(word, ent=f"{'I' if i else 'B'}-{rule.entity}")
                for i, word in enumerate(words)
            ]
        return words

    def entry(self, name: str) -> Word:
        lexicon = self.grammar.lexicons[name]
        used = self.used.setdefault(name, [])
        if lexicon.pos == "PROPN" and used and self.rng.random() < P_SAME_NAME:
            return Word(self.rng.choice(used), lexicon.pos)
        used.append(self.rng.choice(lexicon.entries[self.split]))
        return Word(used[-1], lexicon.pos)

    def document(self) -> List[List[Word]]:
        """RETURNS (List[List[Word]]): Three to eight sentences."""
        self.used.clear()
        style = self.rng.choices(list(STYLES), list(STYLES.values()))[0]
        sentences = [self.phrase("SENTENCE") for _ in range(self.rng.randint(3, 8))]
        sentences = [_capitalize(sentence) for sentence in sentences]
        if self.rng.random() < P_HEADLINE:
            headline = self.phrase("HEADLINE")
            sentences[0] = [replace(word, text=_upper_first(word.text)) for word in headline]
        return [
            [replace(word, text=self.styled(word, style)) for word in _with_articles(sentence)]
            for sentence in sentences
        ]

    def styled(self, word: Word, style: str) -> str:
        if style == "lower":
            return word.text.lower()
        # Two inner letters change places
        if (
            style == "typos"
            and len(word.text) > 4
            and word.text.islower()
            and self.rng.random() < P_TYPO
        ):
            i = self.rng.randint(1, len(word.text) - 3)
            return word.text[:i] + word.text[i + 1] + word.text[i] + word.text[i + 2 :]
        return word.text


def _upper_first(text: str) -> str:
    return text if text == "n't" or text == "'s" else text[:1].upper() + text[1:]


def _capitalize(sentence: List[Word]) -> List[Word]:
    first = next(i for i, word in enumerate(sentence) if word.pos != "PUNCT")
    return [
        replace(word, text=_upper_first(word.text)) if i == first else word
        for i, word in enumerate(sentence)
    ]


def _with_articles(sentence: List[Word]) -> List[Word]:
    following = [word.text.lower() for word in sentence[1:]] + [""]
    return [
        replace(word, text=f"{word.text}n")
        if word.text in ("a", "A") and after[:1] in tuple("aeiou")
        else word
        for word, after in zip(sentence, following, strict=True)
    ]


def make_doc(sentences: List[List[Word]]) -> Doc:
    """RETURNS (Doc): With heads, labels, sentences, entities and parts of speech."""
    words = [word for sentence in sentences for word in sentence]
    texts = [word.text for word in words]
    spaces = [
        text != "“" and following not in NO_SPACE_BEFORE
        for text, following in zip(texts, [*(t.lower() for t in texts[1:]), ""], strict=True)
    ]
    return Doc(
        Vocab(),
        words=['"' if text in "“”" else text for text in texts],
        spaces=spaces,
        pos=[word.pos for word in words],
        heads=[i + word.head for i, word in enumerate(words)],
        deps=[word.dep for word in words],
        ents=[word.ent for word in words],
    )


def generate(grammar: Grammar, split: str, seed: int, n_tokens: Optional[int] = None) -> List[Doc]:
    """Generate a split, whatever the other splits are.

    grammar (Grammar): What to generate from.
    split (str): The split's name.
    seed (int): Equal seeds give equal documents.
    n_tokens (Optional[int]): Stop at so many tokens, by default at the split's number.
    RETURNS (List[Doc]): The documents.
    """
    generator = Generator(grammar, split, Random(f"{seed} {split}"))
    docs: List[Doc] = []
    while sum(len(doc) for doc in docs) < (n_tokens or N_TOKENS[split]):
        docs.append(make_doc(generator.document()))
    return docs


def write(grammar: Grammar, output_dir: Path, seed: int) -> List[Tuple[str, ...]]:
    """Write a file for each split: all of them or none.

    RETURNS (List[Tuple[str, ...]]): Split, documents, sentences, tokens, entities.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    table: List[Tuple[str, ...]] = []
    with tempfile.TemporaryDirectory(dir=output_dir, prefix=".writing-") as folder:
        temporary = Path(folder)
        for split in N_TOKENS:
            docs = generate(grammar, split, seed)
            path = temporary / FILES[split]
            if split == "raw":
                srsly.write_jsonl(path, ({"text": doc.text} for doc in docs))
            else:
                DocBin(docs=docs).to_disk(path)
            n_sents = sum(len(list(doc.sents)) for doc in docs)
            counts = (len(docs), n_sents, sum(map(len, docs)), sum(len(doc.ents) for doc in docs))
            table.append((split, *(f"{n:,}" for n in counts)))
        for name in FILES.values():
            os.replace(temporary / name, output_dir / name)
    return table


def main(
    grammar_dir: Annotated[Path, typer.Argument(help="Folder of grammar.txt and lexicons/")],
    output_dir: Annotated[Path, typer.Argument(help="Folder to write to")],
    seed: Annotated[int, typer.Option(help="Equal seeds give equal files")] = 0,
) -> None:
    """Make annotated training, dev and test sets and raw text from a grammar and its lexicons."""
    try:
        table = write(read_grammar(grammar_dir), output_dir, seed)
    except (OSError, ValueError) as err:
        msg.fail(str(err), exits=1)
    header = ("Split", "Documents", "Sentences", "Tokens", "Entities")
    msg.table(table, header=header, aligns=("l", "r", "r", "r", "r"), divider=True)
    msg.good(f"Wrote {', '.join(FILES.values())} to {output_dir}")


if __name__ == "__main__":
    typer.run(main)
