"""Bidirectional recurrence over some tokens, with gates that do not read the state."""

from typing import Any, Callable, List, Tuple

from thinc.api import Model
from thinc.types import Floats2d, Ragged


def GatedRecurrence(reach: int) -> Model[Ragged, Ragged]:
    """Carry information along a text: h[t] = f[t] h[t-1] + (1 - f[t]) c[t], where f = sigmoid(z).

    As in the QRNN of Bradbury et al. 2017 and the SRU of Lei et al. 2018, gates and candidates
    depend on the input alone, so that the recurrence itself only multiplies element by element.
    Here a state is a sum over the last `reach` tokens. It is computed by doubling, in log2(reach)
    steps for all tokens at once, whatever the length of a doc. The first half of the columns runs
    forward, the second backward.

    reach (int): The number of tokens that a state depends on, including the token itself: 2, 4, 8,
        ...
    RETURNS (Model[Ragged, Ragged]): The input is candidates and forget gates before the sigmoid,
        side by side, (n_tokens, 2 * width). The output is states, (n_tokens, width). The width is
        even. The lengths are those of the docs.
    RAISES (ValueError): If the reach is not a power of 2, or less than 2.
    """
    if reach < 2 or reach & (reach - 1):
        raise ValueError(f"The reach of a recurrence is {reach}, but has to be 2, 4, 8, ...")
    return Model("gated_recurrence", forward, attrs={"reach": reach})


def forward(
    model: Model[Ragged, Ragged], Xr: Ragged, is_train: bool
) -> Tuple[Ragged, Callable[[Ragged], Ragged]]:
    ops, reach = model.ops, model.attrs["reach"]
    X: Any = Xr.data
    width = X.shape[1] // 2
    half = width // 2
    candidates = X[:, :width]
    gates: Any = ops.sigmoid(X[:, width:])
    firsts, lasts = _ends(Xr.lengths, len(X), ops.xp)
    # The input of the recurrence, and the gate of the state before, which is zero where a doc
    # begins.
    entering = candidates * (1 - gates)
    directions = []
    for columns, begins, is_forward in (
        (slice(0, half), firsts, True),
        (slice(half, width), lasts, False),
    ):
        kept = ops.xp.array(gates[:, columns], order="C")
        if len(X):
            kept[begins] = 0
        states = ops.xp.array(entering[:, columns], order="C")
        steps = _scan(kept, states, reach, is_forward, is_train)
        directions.append((states, steps, begins, is_forward))
    Y = ops.xp.concatenate([states for states, *_ in directions], axis=1)

    def backprop(dYr: Ragged) -> Ragged:
        dY: Any = dYr.data
        parts: List[Tuple[Any, Any]] = []
        for columns, (_, steps, begins, is_forward) in zip(
            (slice(0, half), slice(half, width)), directions, strict=True
        ):
            d_states = ops.xp.array(dY[:, columns], order="C")
            d_kept = ops.alloc(d_states.shape)
            _backprop_scan(steps, d_states, d_kept, is_forward)
            if len(X):
                d_kept[begins] = 0
            parts.append((d_kept, d_states))
        d_kept, d_entering = (ops.xp.concatenate(part, axis=1) for part in zip(*parts, strict=True))
        d_gates = (d_kept - d_entering * candidates) * gates * (1 - gates)
        dX = ops.xp.concatenate([d_entering * (1 - gates), d_gates], axis=1)
        return Ragged(dX, dYr.lengths)

    return Ragged(Y, Xr.lengths), backprop


Step = Tuple[int, Floats2d, Floats2d]


def _scan(kept: Any, states: Any, reach: int, is_forward: bool, is_train: bool) -> List[Step]:
    """Turn the input of the recurrence into states, in place. After the step by s, each state is a
    sum over 2 s tokens.

    kept (Floats2d): (n, width); the gates of the state before, changed in place.
    states (Floats2d): (n, width); the input.
    reach (int): The number of tokens that a state depends on.
    is_forward (bool): Whether the state before is that of the token before, or of the token after.
    is_train (bool): Whether to keep what the backward pass needs.
    RETURNS (List[Step]): For each step s, and both arrays as they were before the step.
    """
    steps: List[Step] = []
    s = 1
    while s < min(reach, len(states)):
        if is_train:
            steps.append((s, kept.copy(), states.copy()))
        here, before = _apart(s, is_forward)
        states[here] += kept[here] * states[before]
        if 2 * s < reach:
            # A copy, since the two overlap.
            kept[here] *= kept[before].copy()
            # Tokens with fewer tokens before them already depend on all of these.
            kept[_outside(s, is_forward)] = 0
        s *= 2
    return steps


def _backprop_scan(steps: List[Step], d_states: Any, d_kept: Any, is_forward: bool) -> None:
    """Compute the gradient of `_scan`.

    steps (List[Step]): From `_scan`.
    d_states (Floats2d): (n, width); the gradient of the states, changed in place to that of the
        input.
    d_kept (Floats2d): (n, width); zeros, changed in place to the gradient of `kept`.
    is_forward (bool): The direction.
    """
    for i, (s, kept, states) in enumerate(reversed(steps)):
        here, before = _apart(s, is_forward)
        if i:
            d_kept[_outside(s, is_forward)] = 0
            # Both factors of the product.
            d_product = d_kept[here].copy()
            d_kept[here] *= kept[before]
            d_kept[before] += d_product * kept[here]
        d_kept[here] += d_states[here] * states[before]
        d_states[before] += d_states[here] * kept[here]


def _apart(s: int, is_forward: bool) -> Tuple[slice, slice]:
    """RETURNS (Tuple[slice, slice]): The tokens with a token s places before them, and the
    latter."""
    late, early = slice(s, None), slice(None, -s)
    return (late, early) if is_forward else (early, late)


def _outside(s: int, is_forward: bool) -> slice:
    """RETURNS (slice): The tokens without a token s places before them."""
    return slice(None, s) if is_forward else slice(-s, None)


def _ends(lengths: Any, n_tokens: int, xp: Any) -> Tuple[Any, Any]:
    """RETURNS (Tuple[Ints1d, Ints1d]): The first and the last token of each doc. For an empty doc,
    tokens of its neighbours, which are listed already."""
    ends = xp.cumsum(lengths)
    return (ends - lengths) % max(n_tokens, 1), (ends - 1) % max(n_tokens, 1)
