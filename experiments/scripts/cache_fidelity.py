"""What a cache keeps of a teacher's scores: bytes per token, and the divergence from its own."""

from pathlib import Path
from typing import Annotated, Any, Dict, List, Tuple

import numpy
import spacy
import srsly
import typer
from spacy.training import Corpus, Example
from wasabi import msg

from spacy_skd.cache.score_cache import encode
from spacy_skd.corpora.doc_lengths import cut
from spacy_skd.structures import ArcScores, ChainScores
from spacy_skd.teacher.kinds.potentials import ArcPotentials, TagPotentials
from spacy_skd.teacher.lazy_pipeline import LazyPipeline
from spacy_skd.teacher.pipeline import TeacherPipeline

# The objectives' default, and the temperature of configs/distill.cfg
LABEL_HEADS, TEMPERATURES = 4, (1.0, 2.0)


def log_softmax(scores: Any, mask: Any) -> numpy.ndarray:
    """RETURNS (ndarray): float64, over the last axis; very small where the mask is False."""
    masked = numpy.where(mask, scores.astype("f8"), -1e30)
    masked = masked - masked.max(-1, keepdims=True)
    return masked - numpy.log(numpy.exp(masked).sum(-1, keepdims=True))


def divergence(own: Any, kept: Any, mask: Any, tau: float) -> Tuple[numpy.ndarray, numpy.ndarray]:
    """RETURNS (Tuple[ndarray, ndarray]): KL(own || kept) of softened scores over the last axis, and
    the probabilities of the own."""
    log_p, log_q = (log_softmax(scores / tau, mask) for scores in (own, kept))
    p = numpy.exp(log_p)
    return (p * (log_p - log_q) * mask).sum(-1), p


def measure_arcs(own: Any, kept: Any, tau: float) -> Tuple[float, float]:
    """RETURNS (Tuple[float, float]): Mean divergence per token of heads, and of labels, each arc's
    by its probability."""
    n_tokens = len(own.starts)
    of_arcs = 0.0
    weights = numpy.zeros(own.heads.shape)
    for group, mine, its in zip(own.groups, own.arcs, kept.arcs, strict=True):
        per_token, p = divergence(mine, its, group.is_arc, tau)
        of_arcs += float((per_token * group.is_token).sum())
        tokens = group.tokens[group.is_token]
        heads = own.heads[tokens]
        given = numpy.take_along_axis(p[group.is_token], heads.clip(0), axis=1)
        weights[tokens] = given * (heads >= 0)
    of_labels, _ = divergence(own.labels, kept.labels, numpy.ones(own.labels.shape, bool), tau)
    return of_arcs / n_tokens, float((of_labels * weights).sum() / n_tokens)


def main(
    teacher: Annotated[Path, typer.Argument(help="A pipeline with crf_ner and biaffine_parser")],
    corpus: Annotated[Path, typer.Argument(help=".spacy file")],
    max_length: Annotated[int, typer.Option(min=0, help="Cut docs of more tokens")] = 200,
    limit: Annotated[int, typer.Option(min=1, help="How many docs")] = 60,
) -> None:
    """Compare what comes out of a cache with what went in."""
    config = spacy.util.load_config(teacher / "config.cfg", interpolate=True)
    labels = srsly.read_json(teacher / "meta.json")["labels"]
    pipeline = TeacherPipeline([LazyPipeline(teacher, ["ner", "parser"])])
    ner = TagPotentials("ner", tuple(labels["ner"]), pipeline=pipeline)
    ner.configure(config["components"]["ner"], None)
    parser = ArcPotentials(
        "parser", tuple(labels["parser"]), pipeline=pipeline, n_heads=LABEL_HEADS
    )
    nlp = spacy.blank(config["nlp"]["lang"])
    parts = (part for eg in Corpus(corpus)(nlp) for part in cut(eg, nlp, max_length))
    examples: List[Example] = [eg for eg, _ in zip(parts, range(limit))]
    lengths = [len(eg.predicted) for eg in examples]
    rows: List[Tuple[Any, ...]] = []

    def n_bytes(entries: List[Dict[str, Any]]) -> str:
        return f"{sum(len(encode(entry)) for entry in entries) / sum(lengths):.1f}"

    chain: Any = ner.scores(examples)
    entries = chain.split(lengths, prune=True)
    kept: Any = ChainScores.join(entries, chain.in_common())
    everywhere = numpy.ones(chain.emissions.shape, dtype=bool)
    for tau in TEMPERATURES:
        per_token, _ = divergence(chain.emissions, kept.emissions, everywhere, tau)
        rows.append(("ner", tau, n_bytes(entries), f"{per_token.mean():.1e}", ""))
    arcs: Any = parser.scores(examples)
    for prune in (True, False):
        entries = arcs.split(lengths, prune)
        kept = ArcScores.join(entries, {})
        name = "parser" if prune else "parser, not pruned"
        for tau in TEMPERATURES:
            of_arcs, of_labels = measure_arcs(arcs, kept, tau)
            rows.append((name, tau, n_bytes(entries), f"{of_arcs:.1e}", f"{of_labels:.1e}"))
    header = ("scores", "temperature", "bytes per token", "KL of tags or heads", "KL of labels")
    print(f"{len(examples)} docs, {sum(lengths)} tokens")
    msg.table(rows, header=header, divider=True)


if __name__ == "__main__":
    typer.run(main)
