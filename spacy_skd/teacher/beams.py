"""The most probable analyses by spaCy's transition-based `ner` and `parser`."""

from dataclasses import dataclass
from typing import Any, Iterator, List, Sequence, Tuple

import numpy
from spacy.tokens import Doc
from thinc.api import to_numpy

# A log probability, and what goes with it: of an `ner`, entities as (start, end, label); of a
# `parser`, arcs as (head, child, label).
Analysis = Tuple[float, List[Tuple[int, int, str]]]


@dataclass
class _Path:
    """What some actions have made of a doc.

    log_prob (float): The sum of the actions' log probabilities.
    state (StateClass): What they came to.
    actions (Tuple[int, ...]): Their numbers.
    """

    log_prob: float
    state: Any
    actions: Tuple[int, ...] = ()


def search(pipe: Any, docs: Sequence[Doc], width: int, density: float) -> List[List[Analysis]]:
    """Find analyses of docs, the most probable first.

    `ner` and `parser` learn the softmax over the actions that may come next: an analysis has the
    product of its actions' probabilities. spaCy's own `beam_parse` adds up their raw scores, as
    `beam_ner` and `beam_parser` learn it; of other components such sums mean nothing, since a
    softmax leaves open how high the scores of a state are. So `beam_parse` is for the former alone.

    pipe (Parser): The component.
    docs (Sequence[Doc]): The docs, as its upstream components have left them.
    width (int): How many analyses of each are kept.
    density (float): Those of less than this times the probability of the best are dropped on the
        way.
    RETURNS (List[List[Analysis]]): Of each doc, one at least. Their probabilities need not sum to
        1.
    """
    docs = [_without_other_labels(doc, pipe) for doc in docs]
    if pipe.cfg["beam_width"] > 1:
        beams = pipe.beam_parse(list(docs), beam_width=width, beam_density=density)
        return [_complete(pipe.moves, doc, beam) for doc, beam in zip(docs, beams)]
    moves = pipe.moves
    names = [moves.get_class_name(action) for action in range(moves.n_moves)]
    paths = [[_Path(0.0, state)] for state in moves.init_batch(docs)]
    model = pipe.model.predict(docs)
    while unfinished := [p.state for of_doc in paths for p in of_doc if not p.state.is_final()]:
        scores = to_numpy(model.predict(unfinished)).astype("f8")
        rows = iter(scores - numpy.logaddexp.reduce(scores, axis=1, keepdims=True))
        paths = [_continued(moves, names, of_doc, rows, width, density) for of_doc in paths]
    model.clear_memory()
    return [[(p.log_prob, _content(pipe, names, p)) for p in of_doc] for of_doc in paths]


def _without_other_labels(doc: Doc, pipe: Any) -> Doc:
    """A doc in which entities that are set, of labels that an `ner` has not got, are none: it has
    no action for them, and would have to be given some, with weights that were not trained."""
    others = [span for span in doc.ents if span.label_ not in pipe.labels]
    if not others or "O" not in pipe.move_names:
        return doc
    doc = doc.copy()
    known = [span for span in doc.ents if span.label_ in pipe.labels]
    blocked = [doc[span.start : span.end] for span in others]
    doc.set_ents(known, blocked=blocked, default="unmodified")
    return doc


def _continued(
    moves: Any,
    names: Sequence[str],
    paths: List[_Path],
    rows: Iterator[numpy.ndarray],
    width: int,
    density: float,
) -> List[_Path]:
    """The most probable paths that are one action longer, or finished.

    moves (TransitionSystem): The component's.
    names (Sequence[str]): What it calls its actions.
    paths (List[_Path]): Of one doc, the most probable first.
    rows (Iterator[ndarray]): The log probabilities of all actions, (n_moves,), after each path that
        is not finished; of each doc after the other.
    width (int): See `search`.
    density (float): See `search`.
    """
    finished = [path for path in paths if path.state.is_final()]
    begun = [path for path in paths if not path.state.is_final()]
    if not begun:
        return paths
    sums = numpy.array([next(rows) + path.log_prob for path in begun])
    found: List[_Path] = []
    improbable = numpy.log(density) if density else -numpy.inf
    for i in numpy.argsort(-sums, axis=None, kind="stable"):
        parent, action = begun[i // len(names)], int(i % len(names))
        log_prob = float(sums.flat[i])
        while finished and finished[0].log_prob >= log_prob:
            found.append(finished.pop(0))
        if len(found) >= width or (found and log_prob < found[0].log_prob + improbable):
            break
        # The model has probabilities for actions that are impossible here too.
        if moves.is_valid(parent.state, names[action]):
            state = parent.state.copy()
            moves.apply_transition(state, names[action])
            found.append(_Path(log_prob, state, (*parent.actions, action)))
    return [*found, *finished][:width]


def _content(pipe: Any, names: Sequence[str], path: _Path) -> List[Tuple[int, int, str]]:
    """What a finished path has found: arcs, or entities, whose actions are a tag each."""
    found: List[Tuple[int, int, str]] = []
    start = 0
    for arc in path.state.arcs:
        found.append((arc["head"], arc["child"], pipe.vocab.strings[arc["label"]]))
    if "O" in names:
        for i, name in enumerate(names[action] for action in path.actions):
            start = i if name[0] in "BU" else start
            if name[0] in "LU":
                found.append((start, i + 1, name[2:]))
    return found


def _complete(moves: Any, doc: Doc, beam: Any) -> List[Analysis]:
    """The analyses of spaCy's own beam: those that are listed are complete, and have arcs."""
    found = moves.get_beam_parses(beam) if len(doc) else []
    return [(float(numpy.log(max(p, 1e-30))), its) for p, its in found] or [(0.0, [])]
