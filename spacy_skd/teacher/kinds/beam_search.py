"""The most probable analyses by spaCy's transition-based `ner` and `parser`."""

from dataclasses import dataclass
from typing import Any, Iterator, List, Sequence, Tuple

import numpy
from spacy.tokens import Doc
from thinc.api import to_numpy

# A log probability and a structure: the entities of an `ner` as (start, end, label), or the arcs of
# a `parser` as (head, child, label).
Analysis = Tuple[float, List[Tuple[int, int, str]]]


@dataclass
class _Path:
    """A sequence of actions on a doc.

    log_prob (float): The sum of the actions' log probabilities.
    state (StateClass): The state after the actions.
    actions (Tuple[int, ...]): The actions' numbers.
    """

    log_prob: float
    state: Any
    actions: Tuple[int, ...] = ()


def search(pipe: Any, docs: Sequence[Doc], width: int, density: float) -> List[List[Analysis]]:
    """Find analyses of docs, the most probable first.

    `ner` and `parser` learn the softmax over the next actions: the probability of an analysis is
    the product of the probabilities of the actions. spaCy's `beam_parse` adds the raw scores of
    actions. `beam_ner` and `beam_parser` learn such sums, so `beam_parse` is used for these two.
    For other components the sums have no meaning, since a softmax ignores a constant that is added
    to all scores of a state.

    pipe (Parser): The component.
    docs (Sequence[Doc]): The docs, after the components before this one.
    width (int): The number of analyses of each doc that are kept.
    density (float): Analyses with less than this times the probability of the best one are dropped
        during the search.
    RETURNS (List[List[Analysis]]): The analyses of each doc, at least one. The probabilities need
        not sum to 1.
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
    """Remove entities with labels that an `ner` lacks: it has no actions for them, and spaCy would
    add actions with weights that were not trained.

    RETURNS (Doc): The doc, or a copy.
    """
    others = [span for span in doc.ents if span.label_ not in pipe.labels]
    if not others or "O" not in pipe.move_names:
        return doc
    doc = doc.copy()
    kept = [span for span in doc.ents if span.label_ in pipe.labels]
    blocked = [doc[span.start : span.end] for span in others]
    doc.set_ents(kept, blocked=blocked, default="unmodified")
    return doc


def _continued(
    moves: Any,
    names: Sequence[str],
    paths: List[_Path],
    rows: Iterator[numpy.ndarray],
    width: int,
    density: float,
) -> List[_Path]:
    """Add an action to the paths of a doc that are not finished.

    moves (TransitionSystem): The component's transition system.
    names (Sequence[str]): The names of the actions.
    paths (List[_Path]): The paths of one doc, the most probable first.
    rows (Iterator[ndarray]): For each path that is not finished, the log probabilities of all
        actions, (n_moves,).
    width (int): See `search`.
    density (float): See `search`.
    RETURNS (List[_Path]): The most probable paths.
    """
    finished = [path for path in paths if path.state.is_final()]
    begun = [path for path in paths if not path.state.is_final()]
    if not begun:
        return paths
    sums = numpy.array([next(rows) + path.log_prob for path in begun])
    best: List[_Path] = []
    improbable = numpy.log(density) if density else -numpy.inf
    for i in numpy.argsort(-sums, axis=None, kind="stable"):
        parent, action = begun[i // len(names)], int(i % len(names))
        log_prob = float(sums.flat[i])
        while finished and finished[0].log_prob >= log_prob:
            best.append(finished.pop(0))
        if len(best) >= width or (best and log_prob < best[0].log_prob + improbable):
            break
        # The model gives probabilities for impossible actions too.
        if moves.is_valid(parent.state, names[action]):
            state = parent.state.copy()
            moves.apply_transition(state, names[action])
            best.append(_Path(log_prob, state, (*parent.actions, action)))
    return [*best, *finished][:width]


def _content(pipe: Any, names: Sequence[str], path: _Path) -> List[Tuple[int, int, str]]:
    """RETURNS (List[Tuple[int, int, str]]): The arcs of a finished path, or the entities: each
    action of an `ner` is a tag."""
    content: List[Tuple[int, int, str]] = []
    start = 0
    for arc in path.state.arcs:
        content.append((arc["head"], arc["child"], pipe.vocab.strings[arc["label"]]))
    if "O" in names:
        for i, name in enumerate(names[action] for action in path.actions):
            start = i if name[0] in "BU" else start
            if name[0] in "LU":
                content.append((start, i + 1, name[2:]))
    return content


def _complete(moves: Any, doc: Doc, beam: Any) -> List[Analysis]:
    """RETURNS (List[Analysis]): The complete analyses in spaCy's beam."""
    analyses = moves.get_beam_parses(beam) if len(doc) else []
    return [(float(numpy.log(max(p, 1e-30))), content) for p, content in analyses] or [(0.0, [])]
