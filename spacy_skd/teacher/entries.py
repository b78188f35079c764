"""The scores of a batch as entries of a cache, one a doc, and back.

Entries are compact. Scores are kept in half precision, as distances from the highest of their row,
which is kept in single precision: so what is probable is told most exactly, whatever the scores'
size. Where a parser's scores stand for probabilities, the heads of a token, and the labels of an
arc, are pruned to the most probable: the others share what probability is left.
"""

from dataclasses import replace
from typing import Any, Dict, List, Sequence, Tuple, Union

import numpy
from thinc.api import to_numpy

from ..scores import (
    ArcScores,
    ChainScores,
    ChainSequences,
    SentenceGroup,
    group_sentences,
    spans_of_starts,
)
from .parses import Parses
from .token_vectors import TokenVectors

# The scores of one doc, numpy arrays by name.
Entry = Dict[str, Any]

Outputs = Union[ChainScores, ChainSequences, ArcScores, Parses, TokenVectors]

# How many heads of a token, and labels of an arc, are kept. On EWT the others share so little that
# the divergence from what the teacher gives is 0.0001 per token, at a temperature of 2 0.003.
HEADS, LABELS = 16, 16

# Arrays that tell how many tokens there are, the first that there is, and along which axis.
_TOKENS_OF = (("emissions", 0), ("starts_at", 0), ("vectors", 0), ("tags", 1), ("heads", 1))

# The largest distance that half precision knows.
_FURTHEST = 65504.0


def split_docs(outputs: Outputs, lengths: Sequence[int], prune: bool) -> List[Entry]:
    """Take the scores of a batch apart.

    outputs (Outputs): The scores.
    lengths (Sequence[int]): Tokens in each doc.
    prune (bool): Whether arcs and their labels are pruned; else they are kept as they are.
    RETURNS (List[Entry]): An entry for each doc.
    """
    if isinstance(outputs, ChainScores):
        entries = _split_chain(outputs, lengths)
    elif isinstance(outputs, ArcScores):
        entries = _split_arcs(outputs, lengths, prune)
    elif isinstance(outputs, TokenVectors):
        vectors = to_numpy(outputs.vectors).astype("f2")
        entries = [{"vectors": vectors[tokens]} for tokens in _slices(lengths)]
    else:
        entries = _split_listed(outputs, lengths)
    known = getattr(outputs, "known", None)
    if known is not None:
        for entry, tokens in zip(entries, _slices(lengths)):
            entry["known"] = known[tokens]
    return entries


def in_common(outputs: Outputs) -> Entry:
    """What of the scores is the same for all docs.

    outputs (Outputs): The scores.
    RETURNS (Entry): An entry of its own.
    """
    if not isinstance(outputs, ChainScores):
        return {}
    return {name: to_numpy(getattr(outputs, name)) for name in ("transitions", "start", "end")}


def count_tokens(entry: Entry) -> int:
    """RETURNS (int): How many tokens an entry's doc has; 0 of what docs have in common."""
    for name, axis in _TOKENS_OF:
        if name in entry:
            return int(entry[name].shape[axis])
    return 0


def join_docs(entries: Sequence[Entry], common: Entry) -> Outputs:
    """Put the scores of a batch together.

    entries (Sequence[Entry]): An entry for each doc, at least one.
    common (Entry): From `in_common`.
    RETURNS (Outputs): The scores, in numpy arrays.
    """
    if "emissions" in entries[0]:
        outputs: Any = _join_chain(entries, common)
    elif "starts_at" in entries[0]:
        outputs = _join_arcs(entries)
    elif "vectors" in entries[0]:
        outputs = TokenVectors(_joined(entries, "vectors").astype("f"))
    else:
        outputs = _join_listed(entries)
    if any("known" in entry for entry in entries):
        everything = [numpy.ones((count_tokens(entry),), dtype=bool) for entry in entries]
        known = [entry.get("known", every) for entry, every in zip(entries, everything)]
        outputs.known = numpy.concatenate(known)
    return outputs


def _split_listed(outputs: Any, lengths: Sequence[int]) -> List[Entry]:
    entries: List[Entry] = []
    for d, tokens in enumerate(_slices(lengths)):
        # Rows that only other docs of the batch have are left out.
        log_probs = outputs.log_probs[:, d]
        filled = log_probs > -numpy.inf
        names = _LISTED[type(outputs)]
        entry = {n: _smallest(getattr(outputs, n)[filled, tokens]) for n in names}
        entries.append({**entry, "log_probs": log_probs[filled].astype("f")})
    return entries


def _join_listed(entries: Sequence[Entry]) -> Outputs:
    cls = Parses if "heads" in entries[0] else ChainSequences
    k = max(len(entry["log_probs"]) for entry in entries)

    def rows(array: numpy.ndarray, fill: float) -> numpy.ndarray:
        missing = [(0, k - len(array))] + [(0, 0)] * (array.ndim - 1)
        return numpy.pad(array, missing, constant_values=fill)

    joined = {
        name: numpy.concatenate([rows(entry[name], 0) for entry in entries], axis=1)
        for name in _LISTED[cls]
    }
    # What is counted with is of the platform's own size.
    wide = {n: a if a.dtype == bool else a.astype("i8") for n, a in joined.items()}
    log_probs = numpy.stack([rows(entry["log_probs"], -numpy.inf) for entry in entries], axis=1)
    lengths = [entry[_LISTED[cls][0]].shape[1] for entry in entries]
    return cls(**wide, log_probs=log_probs, lengths=lengths)


def on_host(outputs: Outputs) -> Outputs:
    """RETURNS (Outputs): The same in numpy arrays."""
    if isinstance(outputs, ChainScores):
        arrays: Any = {**in_common(outputs), "emissions": to_numpy(outputs.emissions)}
        return replace(outputs, **arrays)
    if isinstance(outputs, ArcScores):
        starts, heads, labels = map(to_numpy, (outputs.starts, outputs.heads, outputs.labels))
        groups = [SentenceGroup(group.starts, group.lengths) for group in outputs.groups]
        arrays = {"starts": starts, "groups": groups, "heads": heads, "labels": labels}
        return replace(outputs, **arrays, arcs=[to_numpy(a) for a in outputs.arcs])
    if isinstance(outputs, TokenVectors):
        return replace(outputs, vectors=to_numpy(outputs.vectors))
    return outputs


_LISTED: Dict[type, Tuple[str, ...]] = {
    ChainSequences: ("tags",),
    Parses: ("heads", "labels", "starts"),
}


def _split_chain(scores: ChainScores, lengths: Sequence[int]) -> List[Entry]:
    highest, emissions = _halved(to_numpy(scores.emissions))
    return [
        {"highest": highest[tokens], "emissions": emissions[tokens]} for tokens in _slices(lengths)
    ]


def _join_chain(entries: Sequence[Entry], common: Entry) -> ChainScores:
    emissions: Any = _restored(_joined(entries, "highest"), _joined(entries, "emissions"))
    lengths = [len(entry["emissions"]) for entry in entries]
    return ChainScores(emissions=emissions, lengths=lengths, **common)


def _split_arcs(scores: ArcScores, lengths: Sequence[int], prune: bool) -> List[Entry]:
    starts, heads, labels = (to_numpy(a) for a in (scores.starts, scores.heads, scores.labels))
    n_tokens = len(starts)
    width = max((group.width for group in scores.groups), default=0) + 1
    arcs: Dict[str, numpy.ndarray] = {}
    if prune:
        nothing = numpy.zeros((n_tokens, width))
        arcs = _pruned(nothing, numpy.ones(nothing.shape, dtype=bool), HEADS)
    dense: Dict[int, numpy.ndarray] = {}  # by the sentence's first token
    is_start = numpy.zeros((n_tokens,), dtype=bool)
    for group, block in zip(scores.groups, scores.arcs):
        is_start[group.starts] = True
        block, is_arc, is_token, tokens = (
            to_numpy(a) for a in (block, group.is_arc, group.is_token, group.tokens)
        )
        if not prune:
            for first, length, sentence in zip(group.starts, group.lengths, block):
                dense[int(first)] = sentence[:length, : length + 1]
            continue
        for name, array in _pruned(block[is_token], is_arc[is_token], HEADS).items():
            arcs[name][tokens[is_token]] = array
    of_tokens = {"starts": starts, "heads": heads.astype("i2"), "starts_at": is_start}
    of_tokens.update({f"arc_{name}": array for name, array in arcs.items()})
    if prune and labels.size:
        everywhere = numpy.ones(labels.shape, dtype=bool)
        pruned = _pruned(labels, everywhere, LABELS)
        n_labels = numpy.full((n_tokens,), labels.shape[2], dtype="i2")
        of_tokens.update({f"label_{name}": array for name, array in pruned.items()})
        of_tokens["n_labels"] = n_labels
    else:
        of_tokens["labels"] = labels
    entries: List[Entry] = []
    per_head = [name for name in of_tokens if name == "heads" or name.startswith("label")]
    for tokens in _slices(lengths):
        entry = {name: array[tokens] for name, array in of_tokens.items()}
        # With all heads asked for, a batch is as wide as its longest sentence.
        k = int((entry["heads"] >= 0).any(0).nonzero()[0].max(initial=-1)) + 1
        entry.update({name: entry[name][:, :k] for name in per_head})
        if not prune:
            inside = [dense[i].ravel() for i in range(tokens.start, tokens.stop) if i in dense]
            entry["arcs"] = numpy.concatenate(inside) if inside else numpy.zeros((0,), dtype="f")
        entries.append(entry)
    return entries


def _join_arcs(entries: Sequence[Entry]) -> ArcScores:
    lengths = numpy.array([len(entry["starts"]) for entry in entries])
    spans = spans_of_starts(_joined(entries, "starts_at"), lengths)
    groups = group_sentences(spans)
    if "arcs" in entries[0]:
        flat = _joined(entries, "arcs")
        sizes = (spans[:, 1] - spans[:, 0]) * (spans[:, 1] - spans[:, 0] + 1)
        offset = dict(zip(spans[:, 0].tolist(), (numpy.cumsum(sizes) - sizes).tolist()))
        arcs: List[Any] = []
        for group in groups:
            block = numpy.zeros((len(group), group.width, group.width + 1), dtype="f")
            for row, first, length in zip(block, group.starts, group.lengths):
                begin = offset[int(first)]
                sentence = flat[begin : begin + length * (length + 1)]
                row[:length, : length + 1] = sentence.reshape(length, length + 1)
            arcs.append(block)
    else:
        pruned = {name: _joined(entries, f"arc_{name}") for name in _PRUNED}
        arcs = [
            _unpruned({name: a[group.tokens] for name, a in pruned.items()}, group.width + 1)
            for group in groups
        ]
    k = max(entry["heads"].shape[1] for entry in entries)
    heads: Any = numpy.concatenate([_widen(entry["heads"], k, -1) for entry in entries])
    if "labels" in entries[0]:
        labels: Any = numpy.concatenate([_widen(entry["labels"], k, 0) for entry in entries])
    else:
        widened = {
            name: numpy.concatenate([_widen(entry[f"label_{name}"], k, 0) for entry in entries])
            for name in _PRUNED
        }
        labels = _unpruned(widened, int(max(entry["n_labels"].max(initial=0) for entry in entries)))
    return ArcScores(
        starts=_joined(entries, "starts"),
        groups=groups,
        arcs=arcs,
        heads=heads.astype("i8"),
        labels=labels,
    )


_PRUNED = ("highest", "values", "index", "rest")


def _pruned(scores: numpy.ndarray, mask: numpy.ndarray, keep: int) -> Dict[str, numpy.ndarray]:
    """Rows of scores as their highest ones.

    scores (ndarray): (..., n_classes), at least one.
    mask (ndarray): bool, (..., n_classes); the classes that there are.
    keep (int): How many are kept.
    RETURNS (Dict[str, ndarray]): `highest`, (...), float32; `values`, (..., keep), float16, the
        distances of the kept from it; `index`, (..., keep), which they are, one of them several
        times where there are fewer; `rest`, (...), float16: the distance of a score that, put in
        the place of each of the others, leaves the sum of their exp as it was.
    """
    masked = numpy.where(mask, scores.astype("f8"), -numpy.inf)
    highest = masked.max(-1)
    distance = highest[..., None] - masked
    index = numpy.argsort(distance, axis=-1, kind="stable")[..., :keep]
    values = numpy.take_along_axis(distance, index, axis=-1)
    index = numpy.where(numpy.isfinite(values), index, index[..., :1])
    values = numpy.where(numpy.isfinite(values), values, 0.0)
    if index.shape[-1] < keep:
        missing = [(0, 0)] * (index.ndim - 1) + [(0, keep - index.shape[-1])]
        index, values = (numpy.pad(array, missing, mode="edge") for array in (index, values))
    others = distance.copy()
    numpy.put_along_axis(others, index, numpy.inf, axis=-1)
    n_others = numpy.isfinite(others).sum(-1)
    nearest = numpy.where(n_others > 0, others.min(-1), 0.0)
    powers = numpy.exp(nearest[..., None] - others).sum(-1) / numpy.maximum(n_others, 1)
    rest = nearest - numpy.log(numpy.where(n_others > 0, powers, 1.0))
    return {
        "highest": highest.astype("f"),
        "values": values.clip(0, _FURTHEST).astype("f2"),
        "index": index.astype("u1" if scores.shape[-1] <= 256 else "u2"),
        "rest": rest.clip(0, _FURTHEST).astype("f2"),
    }


def _unpruned(pruned: Dict[str, numpy.ndarray], n_classes: int) -> numpy.ndarray:
    """RETURNS (ndarray): (..., n_classes), float32, of the arrays that `_pruned` gave."""
    highest = pruned["highest"][..., None]
    rest = highest - pruned["rest"][..., None]
    scores = numpy.repeat(rest.astype("f"), n_classes, axis=-1)
    # Padding repeats what a token of another sentence has.
    index = pruned["index"].astype("i8").clip(0, max(n_classes - 1, 0))
    numpy.put_along_axis(scores, index, (highest - pruned["values"]).astype("f"), axis=-1)
    return scores


def _halved(scores: numpy.ndarray) -> Tuple[numpy.ndarray, numpy.ndarray]:
    """RETURNS (Tuple[ndarray, ndarray]): Of (n, n_classes), the highest of each row, float32, and
    all distances from it, float16."""
    highest = scores.max(-1) if scores.size else numpy.zeros((len(scores),))
    distance = highest[:, None].astype("f8") - scores
    return highest.astype("f"), distance.clip(0, _FURTHEST).astype("f2")


def _restored(highest: numpy.ndarray, distance: numpy.ndarray) -> numpy.ndarray:
    return highest[:, None] - distance.astype("f")


def _slices(lengths: Sequence[int]) -> List[slice]:
    ends = numpy.cumsum(lengths).tolist()
    return [slice(end - length, end) for end, length in zip(ends, lengths)]


def _joined(entries: Sequence[Entry], name: str) -> Any:
    return numpy.concatenate([entry[name] for entry in entries])


def _smallest(array: numpy.ndarray) -> numpy.ndarray:
    """RETURNS (ndarray): The same in a smaller type: indices into a doc, or labels."""
    if array.dtype == bool:
        return array
    return array.astype("i2" if array.max(initial=0) < 2**15 else "i4")


def _widen(array: numpy.ndarray, k: int, fill: int) -> numpy.ndarray:
    missing = [(0, 0)] * array.ndim
    missing[1] = (0, k - array.shape[1])
    return numpy.pad(array, missing, constant_values=fill)
