"""Merge UD_English-EWT (syntax) and UNER_English-EWT (entities) into one .spacy file per split."""

import os
import re
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Dict, Iterator, List, Optional, Tuple

import srsly
import typer
from spacy.pipeline._parser_internals.nonproj import contains_cycle
from spacy.tokens import Doc, DocBin
from spacy.training import biluo_tags_to_spans, iob_to_biluo
from spacy.training.converters import conllu_to_docs
from wasabi import msg

SPLITS = ("train", "dev", "test")
GENRES = ("answers", "email", "newsgroup", "reviews", "weblog")  # what a sentence's id begins with
SYNTAX, ENTITIES = "UD_English-EWT", "UNER_English-EWT"
FILES = {SYNTAX: "en_ewt-ud-{}.conllu", ENTITIES: "en_ewt-ud-{}.iob2"}
ENV_VAR = "SPACY_SKD_DATA"
NOT_RELEASED = {"B-OTH", "I-OTH", "B-O"}  # an annotation round before UNER's release: no entities


@dataclass
class Sentence:
    """One block of a CoNLL-U or IOB2 file.

    sent_id (str): The `# sent_id` comment.
    opens_doc (bool): Whether the block carries a `# newdoc` comment.
    text (str): The block as it stands in the file, comments included.
    rows (List[Tuple[str, List[str]]]): For each token, where its line is, for error messages,
        and its columns; lines of multiword tokens and empty nodes are left out.
    """

    sent_id: str
    opens_doc: bool
    text: str
    rows: List[Tuple[str, List[str]]]

    @property
    def words(self) -> List[str]:
        return [columns[1] for _, columns in self.rows]


def places(assets: Path) -> Dict[str, Path]:
    """The folders that may hold the corpora, in the order in which they are tried.

    assets (Path): Where `spacy project assets` puts the git checkouts.
    RETURNS (Dict[str, Path]): Folders by the name that messages and `sources.json` give them.
    """
    folders = {str(assets): assets}
    if os.environ.get(ENV_VAR):
        folders[f"${ENV_VAR}"] = Path(os.environ[ENV_VAR])
    repository = Path(__file__).resolve().parents[2]
    folders["shared/data beside the repository"] = repository.parent / "shared" / "data"
    return folders


def find_corpus(name: str, assets: Path) -> Tuple[str, Path]:
    """RETURNS (Tuple[str, Path]): The first place that has all three files, and the folder there.
    RAISES (FileNotFoundError): Where none has.
    """
    for place, folder in places(assets).items():
        if all((folder / name / FILES[name].format(split)).is_file() for split in SPLITS):
            return place, folder / name
    raise FileNotFoundError(
        f"Can't find the corpus {name} in any of: {', '.join(places(assets))}. Run "
        f"`spacy project assets`, or set {ENV_VAR} to the folder that holds {name}."
    )


def read_sentences(path: Path, n_columns: int) -> Iterator[Sentence]:
    """Read the blocks of a CoNLL-U or IOB2 file.

    path (Path): The file.
    n_columns (int): The columns that a line must have at least.
    YIELDS (Sentence): Its sentences, with ids that run from 1 to n.
    """
    block: List[Tuple[int, str]] = []
    with path.open(encoding="utf8") as file_:
        try:
            for number, line in enumerate(file_, start=1):
                if line.strip():
                    block.append((number, line.rstrip("\n")))
                elif block:
                    yield _parse_block(path, block, n_columns)
                    block = []
        except UnicodeDecodeError as err:
            raise ValueError(f"{path} is not UTF-8 text: {err}.") from None
    if block:
        yield _parse_block(path, block, n_columns)


def _parse_block(path: Path, block: List[Tuple[int, str]], n_columns: int) -> Sentence:
    n_comments = next((i for i, (_, line) in enumerate(block) if line[0] != "#"), len(block))
    comments = [line for _, line in block[:n_comments]]
    matches = [re.match(r"# sent_id = (\S+)", line) for line in comments]
    sent_id = next((match.group(1) for match in matches if match), "")
    if not sent_id:
        raise ValueError(f"{path}, line {block[0][0]}: a sentence without a `# sent_id`.")
    rows: List[Tuple[str, List[str]]] = []
    for number, line in block[n_comments:]:
        where = f"{path}, line {number} (sent_id {sent_id})"
        columns = line.split("\t")
        if len(columns) < n_columns:
            raise ValueError(f"{where}: {len(columns)} columns instead of {n_columns}: {line!r}.")
        if re.fullmatch(r"\d+(-|\.)\d+", columns[0]):
            continue
        if columns[0] != str(len(rows) + 1):
            raise ValueError(f"{where}: id {columns[0]!r} instead of {len(rows) + 1}.")
        rows.append((where, columns))
    if not rows:
        raise ValueError(f"{path}, line {block[0][0]} (sent_id {sent_id}): no tokens.")
    opens_doc = any(line.startswith("# newdoc") for line in comments)
    return Sentence(sent_id, opens_doc, "\n".join(line for _, line in block), rows)


def check_tree(sentence: Sentence) -> None:
    """RAISES (ValueError): Where the heads are no single-root tree over this sentence's tokens."""
    heads = []
    n_tokens = len(sentence.rows)
    for i, (where, columns) in enumerate(sentence.rows):
        head, dep = columns[6], columns[7]
        if not re.fullmatch(r"\d+", head) or int(head) > n_tokens:
            raise ValueError(f"{where}: head {head!r} is not one of the {n_tokens} tokens, or 0.")
        if (head == "0") != (dep == "root"):
            raise ValueError(f"{where}: head {head} does not go with label {dep!r}.")
        if head == columns[0]:
            raise ValueError(f"{where}: token {head} is its own head.")
        heads.append(int(head) - 1 if head != "0" else i)
    where = sentence.rows[0][0]
    n_roots = sum(head == i for i, head in enumerate(heads))
    if n_roots != 1:
        raise ValueError(f"{where}: {n_roots} tokens with head 0 in a sentence, instead of one.")
    cycle = contains_cycle(heads)
    if cycle:
        tokens = ", ".join(str(i + 1) for i in sorted(cycle))
        raise ValueError(f"{where}: the heads form a cycle among tokens {tokens}.")


def read_tags(sentence: Sentence) -> List[str]:
    """RETURNS (List[str]): The sentence's IOB2 tags, in the scheme of UNER's release."""
    tags: List[str] = []
    for where, columns in sentence.rows:
        tag = columns[2]
        if tag in NOT_RELEASED:
            tag = "O"
        if not re.fullmatch(r"O|[BI]-(PER|ORG|LOC)", tag):
            raise ValueError(f"{where}: unknown entity tag {tag!r}.")
        if tag[0] == "I" and (not tags or tags[-1][2:] != tag[2:]):
            tag = f"B{tag[1:]}"
        tags.append(tag)
    return tags


def make_doc(sentences: List[Sentence], tags: List[str]) -> Doc:
    """RETURNS (Doc): The document, with what `spacy convert` reads from CoNLL-U, and entities."""
    text = "\n\n".join(sentence.text for sentence in sentences)
    (doc,) = conllu_to_docs(text, n_sents=len(sentences), no_print=True)
    doc.set_ents(biluo_tags_to_spans(doc, iob_to_biluo(tags)))
    return doc


def merge(syntax_path: Path, entities_path: Path) -> Iterator[Tuple[str, Doc]]:
    """Merge the two annotations of one split by their sentences' ids.

    syntax_path (Path): A CoNLL-U file.
    entities_path (Path): An IOB2 file over the same sentences.
    YIELDS (Tuple[str, Doc]): For each `# newdoc`, its first sentence's id, and the document.
    RAISES (ValueError): Where a file is malformed or the two disagree on sentences or tokens.
    """
    entities: Dict[str, Sentence] = {}
    for sentence in read_sentences(entities_path, 3):
        if sentence.sent_id in entities:
            raise ValueError(f"{sentence.rows[0][0]}: this sent_id is there twice.")
        entities[sentence.sent_id] = sentence
    sentences: List[Sentence] = []
    tags: List[str] = []
    for sentence in read_sentences(syntax_path, 10):
        where = sentence.rows[0][0]
        other = entities.pop(sentence.sent_id, None)
        if other is None:
            raise ValueError(f"{where}: {entities_path} lacks this sentence, or it is there twice.")
        if sentence.words != other.words:
            pairs = zip(sentence.words + [""], other.words + [""], strict=False)
            i, (a, b) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
            raise ValueError(f"{where}: token {i + 1} is {a!r} here but {b!r} in {entities_path}.")
        check_tree(sentence)
        if sentence.opens_doc and sentences:
            yield sentences[0].sent_id, make_doc(sentences, tags)
            sentences, tags = [], []
        sentences.append(sentence)
        tags.extend(read_tags(other))
    if entities:
        raise ValueError(
            f"{next(iter(entities.values())).rows[0][0]}: {syntax_path} lacks this sentence."
        )
    if not sentences:
        raise ValueError(f"{syntax_path} holds no sentence.")
    yield sentences[0].sent_id, make_doc(sentences, tags)


def convert(
    output_dir: Path,
    assets: Path,
    limit: Optional[int] = None,
    held_out: Optional[str] = None,
) -> List[Tuple[str, ...]]:
    """Write `train.spacy`, `dev.spacy`, `test.spacy` and `sources.json`: all of them or, where a
    corpus is missing or malformed, none.

    output_dir (Path): The folder to write to.
    assets (Path): The first place to look for the corpora.
    limit (Optional[int]): Only so many documents of each split.
    held_out (Optional[str]): One of GENRES, whose documents are the test split, those of all
        splits; the other splits have none of them.
    RETURNS (List[Tuple[str, ...]]): Split, documents, sentences, tokens, entities.
    """
    located = {name: find_corpus(name, assets) for name in FILES}
    folders = {name: folder for name, (_, folder) in located.items()}
    output_dir.mkdir(parents=True, exist_ok=True)
    # In the same folder, so that os.replace does not cross file systems
    with tempfile.TemporaryDirectory(dir=output_dir, prefix=".writing-") as writing:
        temporary = Path(writing)
        table: List[Tuple[str, ...]] = []
        for split in SPLITS:
            doc_bin = DocBin()
            n_docs = n_sents = n_tokens = n_ents = 0
            for doc in _docs(folders, split, held_out):
                doc_bin.add(doc)
                n_docs += 1
                n_sents += sum(1 for _ in doc.sents)
                n_tokens += len(doc)
                n_ents += len(doc.ents)
                if n_docs == limit:
                    break
            doc_bin.to_disk(temporary / f"{split}.spacy")
            table.append((split, *(f"{n:,}" for n in (n_docs, n_sents, n_tokens, n_ents))))
        sources = {}
        for name, (place, folder) in located.items():
            files = [folder / FILES[name].format(split) for split in SPLITS]
            # Prefixes, long enough to tell the revisions of a file apart
            hashes = {file.name: sha256(file.read_bytes()).hexdigest()[:16] for file in files}
            sources[name] = {"found_in": place, "sha256": hashes, "held_out": held_out}
        srsly.write_json(temporary / "sources.json", sources)
        for path in sorted(temporary.iterdir()):
            os.replace(path, output_dir / path.name)
    return table


def _docs(folders: Dict[str, Path], split: str, held_out: Optional[str]) -> Iterator[Doc]:
    read = SPLITS if held_out and split == "test" else (split,)
    for part in read:
        syntax, entities = (folders[name] / FILES[name].format(part) for name in FILES)
        for name, doc in merge(syntax, entities):
            is_held_out = held_out is not None and name.startswith(held_out)
            if not held_out or is_held_out == (split == "test"):
                yield doc


def is_wanted(path: Path, wanted: Optional[List[Path]]) -> bool:
    """RETURNS (bool): Whether a file, or something in a folder, is among what is wanted, if that
    is said at all."""
    target = path.resolve()
    return not wanted or any(target in (p.resolve(), *p.resolve().parents) for p in wanted)


def main(
    output_dir: Annotated[Path, typer.Argument(help="Folder to write the .spacy files to")],
    assets: Annotated[Path, typer.Option(help="Where project assets lie")] = Path("assets"),
    limit: Annotated[
        Optional[int], typer.Option(min=1, help="Only the first N documents of a split")
    ] = None,
    held_out: Annotated[
        Optional[str],
        typer.Option(help=f"Test on this genre alone, train on the others: {', '.join(GENRES)}"),
    ] = None,
    wanted: Annotated[
        Optional[List[Path]],
        typer.Option(help="Do nothing unless one of these is in the folder"),
    ] = None,
) -> None:
    """Merge UD_English-EWT and UNER_English-EWT into spaCy's binary training format."""
    if not is_wanted(output_dir, wanted):
        msg.info(f"Nothing in {output_dir} is asked for: the corpora are other files")
        return
    if held_out and held_out not in GENRES:
        msg.fail(f'There is no genre "{held_out}": take one of {", ".join(GENRES)}.', exits=1)
    try:
        table = convert(output_dir, assets, limit, held_out)
    except (OSError, ValueError) as err:
        msg.fail(str(err), exits=1)
    header = ("Split", "Documents", "Sentences", "Tokens", "Entities")
    msg.table(table, header=header, aligns=("l", "r", "r", "r", "r"), divider=True)
    for name, source in srsly.read_json(output_dir / "sources.json").items():
        msg.text(f"{name}: from {source['found_in']}")
        for file, prefix in source["sha256"].items():
            msg.text(f"  {file}  sha256 {prefix}...")
    msg.good(f"Wrote {', '.join(f'{split}.spacy' for split in SPLITS)} to {output_dir}")


if __name__ == "__main__":
    typer.run(main)
