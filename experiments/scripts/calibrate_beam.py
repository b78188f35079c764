"""How far the probabilities of a transition-based teacher's beam can be believed, by temperature.

A beam over scores that were trained for greedy search is surer than it is right. The temperature
that gives gold the highest probability is the one to distil with.
"""

from pathlib import Path
from typing import Annotated, Any, Dict, List, Tuple

import numpy
import spacy
import srsly
import typer
from spacy.training import Corpus, Example
from wasabi import msg

from spacy_skd.corpora.doc_lengths import cut
from spacy_skd.pipeline.gold_entities import gold_tags
from spacy_skd.pipeline.gold_parses import gold_parse
from spacy_skd.schemes import TagScheme
from spacy_skd.structures.parses import softmax
from spacy_skd.teacher.kinds.beams import BeamEntities, BeamParses
from spacy_skd.teacher.lazy_pipeline import LazyPipeline, content_of
from spacy_skd.teacher.settings import TeacherSettings

TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 16.0)
BINS = 10
# What gold has that no analysis of the beam has gets this much.
SMALLEST = 1e-3

# The probability of each token's gold tag, or head, and whether the most probable one is gold
Outcome = Tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]


def outcomes(analyses: Any, values: numpy.ndarray, gold: numpy.ndarray, tau: float) -> Outcome:
    """How probable gold is token by token, among a beam's analyses.

    analyses (Union[ChainSequences, Parses]): The analyses.
    values (ndarray): int, (k, n_tokens); the tag or head that each gives a token.
    gold (ndarray): int, (n_tokens,); -1 where it is not known.
    tau (float): The temperature.
    RETURNS (Outcome): Of tokens with gold: its probability, that of the most probable value, and
        whether this is gold.
    """
    doc = numpy.repeat(numpy.arange(len(analyses.lengths)), analyses.lengths)
    weights = softmax(analyses.log_probs / tau)[:, doc]
    # Each analysis' value has the weight of all analyses that have the same.
    total = numpy.stack([(weights * (values == row)).sum(0) for row in values])
    of_gold = (weights * (values == gold)).sum(0)
    best = total.argmax(0)
    token = numpy.arange(len(doc))
    known = gold >= 0
    return of_gold[known], total[best, token][known], (values[best, token] == gold)[known]


def measure(outcome: Outcome) -> Dict[str, float]:
    """RETURNS (Dict[str, float]): The negative log probability of gold, the share of tokens that
    are right, the mean probability of what is most probable, and the expected calibration error:
    the mean difference of the last two within bins of the last."""
    of_gold, confidence, right = outcome
    bins = numpy.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [
        abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean()
        for b in numpy.unique(bins)
    ]
    return {
        "nll": float(-numpy.log(of_gold.clip(SMALLEST)).mean()),
        "accuracy": float(right.mean()),
        "confidence": float(confidence.mean()),
        "calibration_error": float(sum(gaps)),
    }


def main(
    teacher: Annotated[Path, typer.Argument(help="A pipeline with spaCy's own ner and parser")],
    corpus: Annotated[Path, typer.Argument(help="Annotated .spacy file: dev")],
    output: Annotated[Path, typer.Argument(help="JSON file to write")],
    beam_width: Annotated[int, typer.Option(min=1)] = 16,
    beam_density: Annotated[float, typer.Option(min=0)] = 0.0001,
    max_length: Annotated[int, typer.Option(min=0, help="Cut docs of more tokens")] = 100,
) -> None:
    """Measure the calibration of a beam on annotated text, and choose a temperature."""
    nlp = spacy.load(teacher)
    beam = TeacherSettings(beam_width=beam_width, beam_density=beam_density)
    scheme = TagScheme("BILUO", nlp.get_pipe("ner").labels)  # type: ignore[attr-defined]
    ner: Any = BeamEntities("ner", scheme.labels, settings=beam)
    labels = tuple(nlp.get_pipe("parser").labels)  # type: ignore[attr-defined]
    parser: Any = BeamParses("parser", labels, settings=beam)
    read = Corpus(corpus, gold_preproc=False)(nlp)
    cut_up = (part for eg in read for part in cut(eg, nlp, max_length))
    examples: List[Example] = [eg for eg in cut_up if len(eg.predicted)]
    parts: Dict[str, Dict[float, List[Outcome]]] = {
        name: {tau: [] for tau in TEMPERATURES} for name in ("tags", "entity tags", "heads")
    }
    pipeline = LazyPipeline(teacher, ["ner", "parser"])
    for begin in range(0, len(examples), 64):
        batch = examples[begin : begin + 64]
        contents = [content_of(eg) for eg in batch]
        chain, parses = (
            pipe.read(pipeline, pipeline.read(pipe.name, batch, contents, contents))
            for pipe in (ner, parser)
        )
        tags = numpy.concatenate([gold_tags(eg, scheme) for eg in batch])
        heads = numpy.concatenate([gold_parse(eg)[0] for eg in batch])
        # Nearly all tokens are outside, and known to be.
        inside = numpy.where((tags > 0) | (chain.tags > 0).any(0), tags, -1)
        for tau in TEMPERATURES:
            parts["tags"][tau].append(outcomes(chain, chain.tags, tags, tau))
            parts["entity tags"][tau].append(outcomes(chain, chain.tags, inside, tau))
            parts["heads"][tau].append(outcomes(parses, parses.heads, heads, tau))
    measured = {
        name: {
            str(tau): measure(tuple(numpy.concatenate(x) for x in zip(*parts)))  # type: ignore[arg-type]
            for tau, parts in by_tau.items()
        }
        for name, by_tau in parts.items()
    }
    best = {
        name: min(by_tau, key=lambda tau: by_tau[tau]["nll"]) for name, by_tau in measured.items()
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    srsly.write_json(output, {"beam_width": beam_width, "measured": measured, "best": best})
    for name, by_tau in measured.items():
        rows = [(tau, *(f"{value:.4f}" for value in row.values())) for tau, row in by_tau.items()]
        msg.divider(name)
        msg.table(rows, header=("temperature", *next(iter(by_tau.values()))), divider=True)
    msg.good(f"By the probability of gold the best temperatures are {best}")


if __name__ == "__main__":
    typer.run(main)
