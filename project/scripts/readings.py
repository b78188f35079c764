"""Show how several pipelines read the same raw sentences."""

from pathlib import Path
from typing import Annotated, Dict, List

import spacy
import typer
from spacy.tokens import Doc, DocBin, Token
from wasabi import msg, table

DIFFERENT = "*"  # marks what a pipeline reads differently from the first one


def pick_sentences(corpus: Path, n_sentences: int) -> List[str]:
    """Sentences with an entity, at even distances through the corpus. Nothing depends on how well
    a pipeline reads them.

    corpus (Path): A corpus with gold entities and sentences.
    n_sentences (int): How many.
    RETURNS (List[str]): Their texts.
    """
    docs = DocBin().from_disk(corpus).get_docs(spacy.blank("xx").vocab)
    texts = [sent.text.strip() for doc in docs for sent in doc.sents if sent.ents]
    step = max(1, len(texts) // n_sentences)
    return texts[step // 2 :: step][:n_sentences]


def describe(token: Token) -> str:
    """RETURNS (str): The token's label and head, and its entity where it is in one."""
    head = "" if token.head.i == token.i else f" < {token.head.text}"
    entity = f" [{token.ent_type_}]" if token.ent_type_ else ""
    return f"{token.dep_}{head}{entity}"


def compare(docs: Dict[str, Doc]) -> str:
    """One sentence as each pipeline reads it.

    docs (Dict[str, Doc]): The annotated sentence by pipeline name. The others are compared with
        the first.
    RETURNS (str): A table with a line per token and a column per pipeline.
    """
    (first, doc), *others = docs.items()
    rows = [[token.text, describe(token)] for token in doc]
    totals = ["differences", ""]
    for _, other in others:
        readings = {token.idx: describe(token) for token in other}
        n_different = 0
        for token, row in zip(doc, rows, strict=True):
            reading = readings.get(token.idx, "-")
            mark = DIFFERENT if reading != row[1] else " "
            n_different += mark == DIFFERENT
            row.append(f"{mark} {reading}")
        totals.append(f"  {n_different}")
    header = ["", first, *(f"  {name}" for name, _ in others)]
    return table(rows, header=header, footer=totals, divider=True)


def main(
    output: Annotated[Path, typer.Argument(help="Text file to write")],
    corpus: Annotated[Path, typer.Argument(help="Annotated .spacy file", exists=True)],
    pipelines: Annotated[List[str], typer.Argument(help="NAME=FOLDER ...")],
    sentences: Annotated[int, typer.Option(min=1, help="How many sentences")] = 3,
) -> None:
    """Print sentences of the corpus, as raw text, as each pipeline reads them. Mark what differs
    from the first pipeline.
    """
    folders = dict(argument.split("=", 1) for argument in pipelines)
    loaded = {name: spacy.load(folder) for name, folder in folders.items()}
    blocks = []
    for text in pick_sentences(corpus, sentences):
        blocks.append(f"{text}\n{compare({name: nlp(text) for name, nlp in loaded.items()})}")
    shown = "\n".join(blocks)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(shown, encoding="utf8")
    msg.divider("Readings")
    print(f"label < head [entity]; {DIFFERENT} marks what differs from {next(iter(loaded))}\n")
    print(shown)


if __name__ == "__main__":
    typer.run(main)
