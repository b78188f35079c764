"""Show how several pipelines read the same raw sentences."""

from pathlib import Path
from typing import Annotated, Dict, List

import spacy
import typer
from evaluate import split_arguments
from spacy.tokens import Doc, DocBin, Token
from wasabi import msg, table

DIFFERENT = "*"  # before what another pipeline reads otherwise than the first one


def pick_sentences(corpus: Path, n_sentences: int) -> List[str]:
    """Sentences with an entity, at even distances through the corpus: not those that some
    pipeline reads well.

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

    docs (Dict[str, Doc]): The annotated sentence by pipeline name. The first is what the others
        are compared with.
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
    arguments: Annotated[List[str], typer.Argument(help="FILE.spacy NAME=FOLDER ...")],
    sentences: Annotated[int, typer.Option(min=1, help="How many sentences")] = 3,
) -> None:
    """Print sentences of the corpus, as raw text, as the first seed of each pipeline reads them.
    What differs from the first pipeline is marked.
    """
    try:
        corpora, found = split_arguments(arguments)
    except ValueError as err:
        msg.fail(str(err), exits=1)
    pipelines = {name: spacy.load(next(iter(seeds.values()))) for name, seeds in found.items()}
    blocks = []
    for text in pick_sentences(next(iter(corpora.values())), sentences):
        blocks.append(f"{text}\n{compare({name: nlp(text) for name, nlp in pipelines.items()})}")
    shown = "\n".join(blocks)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(shown, encoding="utf8")
    msg.divider("Readings")
    print(
        f"label < head [entity]; {DIFFERENT} marks what {next(iter(pipelines))} reads otherwise\n"
    )
    print(shown)


if __name__ == "__main__":
    typer.run(main)
