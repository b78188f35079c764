"""The most probable analyses by spaCy's transition-based `ner` and `parser`."""

from typing import Any, Dict, List, Sequence, Tuple

import numpy
from spacy.pipeline._parser_internals._beam_utils import BeamBatch
from spacy.tokens import Doc
from thinc.api import to_numpy

# The log probability of an analysis, and what it holds: of an `ner`, entities as (start, end,
# label); of a `parser`, arcs as (head, child, label).
Analysis = Tuple[float, Sequence[Tuple[int, int, str]]]

# What led to an analysis, by the numbers of the transition system.
Actions = Tuple[int, ...]


def search(pipe: Any, docs: Sequence[Doc], width: int, density: float) -> List[List[Analysis]]:
    """Find analyses of docs.

    `ner` and `parser` learn the softmax over the actions that may come next: an analysis has the
    product of its actions' probabilities. spaCy's own `beam_parse` adds up their raw scores, as
    `beam_ner` and `beam_parser` learn it; of other components such sums mean nothing, since a
    softmax leaves open how high the scores of a state are.

    pipe (Parser): The component.
    docs (Sequence[Doc]): The docs, as its upstream components have left them.
    width (int): How many analyses of each are kept.
    density (float): Those of less than this times the probability of the best are dropped on the
        way.
    RETURNS (List[List[Analysis]]): Of each doc, one at least. Their probabilities need not sum to
        1.
    """
    batch = BeamBatch(pipe.moves, pipe.moves.init_batch(docs), None, width, density=density)
    if pipe.cfg["beam_width"] > 1:
        _fill(batch, pipe.model.predict(docs), is_raw=True)
        with numpy.errstate(divide="ignore"):
            log_probs = [dict(zip(_histories(beam), numpy.log(beam.probs))) for beam in batch]
    else:
        log_probs = _fill(batch, pipe.model.predict(docs), is_raw=False)
    states = iter(batch.get_states())
    found: List[List[Analysis]] = []
    for doc, beam, by_actions in zip(docs, batch, log_probs):
        contents = [content for _, content in pipe.moves.get_beam_parses(beam)]
        has_arcs = [bool(next(states).arcs) for _ in range(len(beam))]
        if len(contents) < len(has_arcs):
            # A parser's list leaves out what is without arcs, such as a list of names.
            listed = iter(contents)
            contents = [next(listed) if has else [] for has in has_arcs]
        analyses = zip((by_actions[actions] for actions in _histories(beam)), contents, strict=True)
        found.append(list(analyses) if len(doc) else [(0.0, [])])
    return found


def _fill(batch: BeamBatch, model: Any, *, is_raw: bool) -> List[Dict[Actions, float]]:
    """Search until all analyses in some docs' beams are complete.

    batch (BeamBatch): The beams, each with one analysis without actions. Filled.
    model (ParserStepModel): Gives the scores of the actions that may come next.
    is_raw (bool): Search by sums of these, not of log probabilities.
    RETURNS (List[Dict[Actions, float]]): What was added up for each doc's analyses. A beam has sums
        of its own, but changes that of an analysis which is complete while others are not.
    """
    sums: List[Dict[Actions, float]] = [{(): 0.0} for _ in batch]
    while not batch.is_done:
        is_final = iter([state.is_final() for state in batch.get_states()])
        scores = to_numpy(model.predict(batch.get_unfinished_states()))
        if not is_raw:
            scores = scores - scores.max(axis=1, keepdims=True)
            scores -= numpy.log(numpy.exp(scores).sum(axis=1, keepdims=True))
        rows = iter(scores)
        of_next = [
            {actions: next(rows) for actions in _histories(beam) if not next(is_final)}
            for beam in batch
        ]
        batch.advance(numpy.ascontiguousarray(scores))
        for d, beam in enumerate(batch):
            before, sums[d] = sums[d], {}
            for actions in _histories(beam):
                if actions in before:
                    sums[d][actions] = before[actions]
                else:
                    *parent, last = actions
                    key = tuple(parent)
                    sums[d][actions] = before[key] + float(of_next[d][key][last])
    model.clear_memory()
    return sums


def _histories(beam: Any) -> List[Actions]:
    """The actions of each analysis in a beam, in its order."""
    return [tuple(actions) for actions in beam.histories[: len(beam)]]
