"""Roots of many increasing scalar functions at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Function = Callable[..., tuple[Tensor, Tensor]]
State = dict[str, Tensor]

MOST_EVALUATIONS = {torch.float32: 40, torch.float64: 65}
"""What an element takes at most, as long as its bracket has no more places than halvings allow."""
MAX_EVALUATIONS = 200
"""Three to five times as many: only a broken function reaches it."""


@dataclass(frozen=True)
class Root:
    """Roots and the certificate that they are roots.

    Args:
        root: `(N,)`.
        residual: `(N,)`, f(root) - target.
        width: `(N,)`, distance of the last bracket's ends; the function was evaluated at the
            root, and at both ends if the residual is larger than what was asked for.
        evaluations: `(N,)`, how often the function was evaluated.
    """

    root: Tensor
    residual: Tensor
    width: Tensor
    evaluations: Tensor


@torch.no_grad()
def find_root(
    function: Function,
    parameters: tuple[Tensor, ...],
    target: Tensor,
    lower: Tensor,
    upper: Tensor,
    start: Tensor,
    finest: Tensor | None = None,
    *,
    ulps: float = 1.0,
    max_evaluations: int = MAX_EVALUATIONS,
) -> Root:
    """x with f(x; parameters) = target, by Newton's method safeguarded with bisection.

    An element is finished when |f(x) - target| <= ulps * eps * max(1, |target|), or when no
    floating-point number lies between its bracket's ends and the function, evaluated at both,
    straddles the target: the better end is then the root. Finished elements are dropped, so that
    a batch does not wait for its slowest member.

    Args:
        function: `(x, *parameters) -> (f(x), log f'(x))`, increasing in x, elementwise.
        parameters: tensors whose first axis is N.
        target: `(N,)`. Elements that are not finite give NaN.
        lower: `(N,)`, not above the root; NaN gives NaN.
        upper: `(N,)`, not below the root; NaN gives NaN.
        start: `(N,)`, the first guess.
        finest: `(N,)`, at least 0: near zero numbers less than this apart are told apart last,
            since the function hardly does. It saves evaluations where floating-point numbers lie
            most densely.
        ulps: size of an acceptable residual, in units of eps * max(1, |target|).
        max_evaluations: cap for each element.

    Raises:
        RuntimeError: the cap was reached before every element was finished, or a bracket does not
            hold a root.
    """
    start = torch.minimum(torch.maximum(start, lower), upper)
    root = torch.full_like(target, torch.nan)
    result = Root(root, root.clone(), root.clone(), torch.zeros_like(target, dtype=torch.int64))

    known = torch.isfinite(target) & ~torch.isnan(lower) & ~torch.isnan(upper)
    place = torch.nonzero(known).squeeze(-1)
    unknown = torch.full_like(target[place], torch.nan)
    state: State = {
        "place": place,
        "goal": target[place],
        "x": start[place],
        "lower": lower[place],
        "upper": upper[place],
        "below": unknown,  # residuals at the bracket's ends, once the function was evaluated there
        "above": unknown.clone(),
        "residual": unknown.clone(),  # and at the last x
        "last_step": torch.full_like(target[place], torch.inf),
        "nudge": torch.ones_like(target[place]),
        "halved": torch.zeros_like(place, dtype=torch.bool),
        "finest": torch.zeros_like(unknown) if finest is None else finest[place],
    }
    parameters = tuple(p[place] for p in parameters)
    for count in range(1, max_evaluations + 1):
        if not state["place"].numel():
            return result
        finished, failed = _advance(state, function, parameters, ulps, count)
        if failed.any():
            raise _no_root(state["residual"][failed], target.numel())
        if finished.any():
            _record(result, {name: t[finished] for name, t in state.items()}, count, ulps)
            going = torch.nonzero(~finished).squeeze(-1)
            state = {name: t[going] for name, t in state.items()}
            parameters = tuple(p[going] for p in parameters)
    if not state["place"].numel():
        return result
    raise _unfinished(max_evaluations, state["residual"], target.numel())


def check_finished(result: Root, max_evaluations: int) -> None:
    """Raise what `find_root` raises, for roots found elsewhere.

    Those count one above the cap where it was reached, and -1 where the bracket holds no root.

    Raises:
        RuntimeError: an element used more than `max_evaluations`, or has no root.
    """
    count = result.evaluations
    unfinished = (count > max_evaluations) | (count < 0)
    if not unfinished.any():
        return
    failed = count < 0
    if failed.any():
        raise _no_root(result.residual[failed], count.numel())
    raise _unfinished(max_evaluations, result.residual[unfinished], count.numel())


def _no_root(residuals: Tensor, count: int) -> RuntimeError:
    return RuntimeError(
        f"find_root found no root for {residuals.numel()} of {count} elements: the function does "
        "not reach the target within the dtype's range; the largest residual left is "
        f"{residuals.abs().max().item():.3g}"
    )


def _unfinished(max_evaluations: int, residuals: Tensor, count: int) -> RuntimeError:
    return RuntimeError(
        f"find_root needs more than {max_evaluations} evaluations for {residuals.numel()} of "
        f"{count} elements; the largest residual left is {residuals.abs().max().item():.3g}"
    )


@torch.no_grad()
def bisection(
    function: Function,
    parameters: tuple[Tensor, ...],
    target: Tensor,
    lower: Tensor,
    upper: Tensor,
    *,
    tolerance: float = 1e-12,
    max_iterations: int = 200,
) -> Root:
    """The paper's plain bisection: all elements together, until the last one has a narrow bracket.

    It is here to be compared with, and audited: it neither drops finished elements nor adapts its
    tolerance to the dtype, and a root outside the bracket becomes the bracket's end.

    Args:
        function: `(x, *parameters) -> (f(x), log f'(x))`, increasing in x, elementwise.
        parameters: tensors whose first axis is N.
        target: `(N,)`.
        lower: `(N,)`.
        upper: `(N,)`.
        tolerance: it stops when the widest bracket is at most this wide.
        max_iterations: or after so many halvings, whatever the width.

    Source: Flow++ section 3.2.1.
    """
    iteration = 0
    while iteration < max_iterations and bool(((upper - lower) > tolerance).any()):
        middle = lower / 2 + upper / 2
        below = function(middle, *parameters)[0] <= target
        lower, upper = torch.where(below, middle, lower), torch.where(below, upper, middle)
        iteration += 1
    root = lower / 2 + upper / 2
    residual = function(root, *parameters)[0] - target
    evaluations = torch.full_like(target, iteration + 1, dtype=torch.int64)
    return Root(root, residual, upper - lower, evaluations)


def _advance(
    state: State, function: Function, parameters: tuple[Tensor, ...], ulps: float, count: int
) -> tuple[Tensor, Tensor]:
    """Evaluate at x, tighten the bracket, choose the next x: (finished, without a root)."""
    x, goal = state["x"], state["goal"]
    value, log_slope = function(x, *parameters)
    r = state["residual"] = value - goal
    lower = state["lower"] = torch.where(r <= 0, x, state["lower"])
    upper = state["upper"] = torch.where(r >= 0, x, state["upper"])
    below = state["below"] = torch.where(r <= 0, r, state["below"])
    above = state["above"] = torch.where(r >= 0, r, state["above"])

    # The first halving is by length, since most roots are of the bracket's own order; all others
    # are by count of floats, since a root may be of any.
    places = _Places(state["finest"])
    middle = torch.where(state["halved"], places.middle(lower, upper), lower / 2 + upper / 2)
    eps, tiny = torch.finfo(x.dtype).eps, torch.finfo(x.dtype).tiny
    step = -r * torch.exp(-log_slope)
    # Newton comes from one side, and at the end only rounding keeps it from the root. Steps of a
    # few ulps, doubled each time, then carry it across, so that the bracket closes around it.
    smallest = state["nudge"] * (eps * x.abs() + tiny)
    short = step.abs() <= smallest
    step = torch.where(short, -torch.sign(r) * smallest, step)
    state["nudge"] = torch.where(short, 2 * state["nudge"], state["nudge"])
    newton = x + step
    # If Newton gains nothing there must be evaluations left to halve to the end: besides its own,
    # one by length, and one at an end that was only claimed.
    needed = 1 + (~state["halved"]).long() + (torch.isnan(below) | torch.isnan(above)).long()
    affordable = count + places.halvings(lower, upper) + needed <= MOST_EVALUATIONS[x.dtype]
    # Newton only while it stays inside and its step shrinks by half: on a staircase it would
    # otherwise jump to and fro for ever.
    inside = (newton > lower) & (newton < upper)
    trusted = inside & affordable & (short | (step.abs() <= state["last_step"] / 2))
    state["last_step"] = step.abs().nan_to_num(torch.inf, posinf=torch.inf)
    state["halved"] = state["halved"] | ~trusted

    # An end that was only claimed proves nothing: evaluate there before the bracket is closed.
    closed = (middle <= lower) | (middle >= upper)
    lower_open, upper_open = closed & torch.isnan(below), closed & torch.isnan(above)
    failed = (lower_open & (x == lower)) | (upper_open & (x == upper))
    state["x"] = torch.where(trusted, newton, middle)
    state["x"] = torch.where(lower_open, lower, torch.where(upper_open, upper, state["x"]))

    accepted = r.abs() <= _allowed(goal, ulps)
    finished = accepted | (closed & ~lower_open & ~upper_open) | torch.isnan(r)
    # What `_record` takes: an accepted x, or a value that is not a number, as it is.
    state["taken"] = torch.where(torch.isnan(r), r, x)
    return finished, failed & ~finished


def _allowed(goal: Tensor, ulps: float) -> Tensor:
    return ulps * torch.finfo(goal.dtype).eps * goal.abs().clamp(min=1)


def _record(result: Root, done: State, count: int, ulps: float) -> None:
    place, r = done["place"], done["residual"]
    better_end = done["below"].abs() <= done["above"].abs()
    root = torch.where(better_end, done["lower"], done["upper"])
    residual = torch.where(better_end, done["below"], done["above"])
    as_it_is = ~(r.abs() > _allowed(done["goal"], ulps))  # NaN too: it must not pass for a root
    result.root[place] = torch.where(as_it_is, done["taken"], root)
    result.residual[place] = torch.where(as_it_is, r, residual)
    result.width[place] = done["upper"] - done["lower"]
    result.evaluations[place] = count


class _Places:
    """Numbers in order, as few of them as the function tells apart.

    Steps of `finest` near zero, where floating-point numbers lie more densely, and every one of
    them from finest / eps on. Halving a bracket by places reaches any scale in as many steps as
    the dtype has bits; halving by length needs one for each factor of two between the bracket and
    the root.
    """

    def __init__(self, finest: Tensor) -> None:
        info = torch.finfo(finest.dtype)
        self.integer = {torch.float32: torch.int32, torch.float64: torch.int64}[finest.dtype]
        self.dense = round(1 / info.eps)
        self.finest = finest
        self.first = self._bits(finest / info.eps)

    def _bits(self, x: Tensor) -> Tensor:
        return _ordinal(x.view(self.integer))

    def of(self, x: Tensor) -> Tensor:
        """Place of the number x, of the size of its dtype."""
        n = self._bits(x.abs())
        near = (x.abs() / self.finest).nan_to_num().clamp(max=self.dense).to(self.integer)
        place = torch.where(n < self.first, near, n - self.first + self.dense)
        return torch.where(x < 0, -place, place)

    def at(self, place: Tensor) -> Tensor:
        """The number there."""
        size = place.abs()
        far = _ordinal((size - self.dense + self.first).clamp(min=0)).view(self.finest.dtype)
        x = torch.where(size < self.dense, size.to(self.finest.dtype) * self.finest, far)
        return torch.where(place < 0, -x, x)

    def halvings(self, lower: Tensor, upper: Tensor) -> Tensor:
        """How often a bracket has to be halved until nothing lies between its ends."""
        gap = self.of(upper).double() - self.of(lower).double()
        # Rounded to 53 bits: rather one too many.
        return torch.log2(gap.clamp(min=1) * (1 + 4 * torch.finfo(gap.dtype).eps)).ceil()

    def middle(self, lower: Tensor, upper: Tensor) -> Tensor:
        """With as many places below as above; between the last two, with as many numbers."""
        x = self.at(_halfway(self.of(lower), self.of(upper)))
        numbers = _ordinal(_halfway(self._bits(lower), self._bits(upper))).view(x.dtype)
        return torch.where((x > lower) & (x < upper), x, numbers)


def _halfway(low: Tensor, high: Tensor) -> Tensor:
    return (low >> 1) + (high >> 1) + (low & high & 1)


def _ordinal(bits: Tensor) -> Tensor:
    """Bit patterns of floats to integers in the floats' order, and back: it is its own inverse."""
    return torch.where(bits < 0, torch.iinfo(bits.dtype).min - bits, bits)
