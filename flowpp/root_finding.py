"""Roots of increasing functions, element by element, with a certificate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Function = Callable[..., tuple[Tensor, Tensor]]
State = dict[str, Tensor]

EVALUATION_BUDGET = {torch.float32: 40, torch.float64: 65}
"""Bound on the evaluations of an element whose bracket can be halved to the end within it."""
MAX_EVALUATIONS = 200
"""Default cap, three to five times EVALUATION_BUDGET: only an invalid function reaches it."""


class RootError(RuntimeError):
    """Raised if a root does not exist, or was not found within the maximum of evaluations."""


@dataclass(frozen=True)
class Root:
    """Roots of f(x) = target with their certificate.

    Args:
        root: `(N,)`, roots x; NaN where the target or the bracket is NaN.
        residual: `(N,)`, f(root) - target.
        width: `(N,)`, width of the last bracket; the function was evaluated at the root, and at
            both ends if the residual is larger than `ulps` allows.
        evaluations: `(N,)`, number of function evaluations for each element.
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
    resolution: Tensor | None = None,
    *,
    ulps: float = 1.0,
    max_evaluations: int = MAX_EVALUATIONS,
) -> Root:
    """Find x with f(x; parameters) = target by Newton's method safeguarded with bisection.

    A root is found when |f(x) - target| <= ulps * eps * max(1, |target|), or when two adjacent
    floating-point numbers straddle the target: no x is better then, and the one with the smaller
    residual is returned. Finished elements are dropped, so that a batch does not wait for its
    slowest element.

    Args:
        function: `(x, *parameters) -> (f(x), log f'(x))`, increasing in x, elementwise.
        parameters: tensors whose first axis is N.
        target: `(N,)`. Elements that are not finite give NaN.
        lower: `(N,)`, not above the root; NaN gives NaN.
        upper: `(N,)`, not below the root; NaN gives NaN.
        start: `(N,)`, first guess.
        resolution: `(N,)`, at least 0: spacing below which bracket ends near zero are refined
            last. It saves evaluations where floating-point numbers are denser than the function
            can resolve.
        ulps: size of an acceptable residual, in units of eps * max(1, |target|).
        max_evaluations: maximum number of evaluations for each element.

    Raises:
        RootError: the maximum was reached before every root was found, or a bracket does not
            hold a root.
    """
    start = torch.minimum(torch.maximum(start, lower), upper)
    root = torch.full_like(target, torch.nan)
    result = Root(root, root.clone(), root.clone(), torch.zeros_like(target, dtype=torch.int64))

    known = torch.isfinite(target) & ~torch.isnan(lower) & ~torch.isnan(upper)
    index = torch.nonzero(known).squeeze(-1)
    unknown = torch.full_like(target[index], torch.nan)
    state: State = {
        "index": index,
        "target": target[index],
        "x": start[index],
        "lower": lower[index],
        "upper": upper[index],
        "below": unknown,  # residuals at the bracket's ends, NaN until evaluated there
        "above": unknown.clone(),
        "residual": unknown.clone(),  # residual at the last x
        "last_step": torch.full_like(target[index], torch.inf),
        "nudge": torch.ones_like(target[index]),
        "halved": torch.zeros_like(index, dtype=torch.bool),
        "resolution": torch.zeros_like(unknown) if resolution is None else resolution[index],
    }
    parameters = tuple(p[index] for p in parameters)
    for count in range(1, max_evaluations + 1):
        if not state["index"].numel():
            return result
        finished, failed = _advance(state, function, parameters, ulps, count)
        if failed.any():
            raise _no_root(state["residual"][failed], target.numel())
        if finished.any():
            _record(result, {name: t[finished] for name, t in state.items()}, count, ulps)
            unfinished = torch.nonzero(~finished).squeeze(-1)
            state = {name: t[unfinished] for name, t in state.items()}
            parameters = tuple(p[unfinished] for p in parameters)
    if not state["index"].numel():
        return result
    raise _unfinished(max_evaluations, state["residual"], target.numel())


def check_finished(result: Root, max_evaluations: int) -> None:
    """Raise the errors of `find_root` for roots that a kernel found.

    A kernel sets `evaluations` to one above the maximum where that was reached, and to -1 where
    the bracket holds no root.

    Raises:
        RootError: an element used more than `max_evaluations`, or has no root.
    """
    count = result.evaluations
    unfinished = (count > max_evaluations) | (count < 0)
    if not unfinished.any():
        return
    failed = count < 0
    if failed.any():
        raise _no_root(result.residual[failed], count.numel())
    raise _unfinished(max_evaluations, result.residual[unfinished], count.numel())


def _no_root(residuals: Tensor, count: int) -> RootError:
    return RootError(
        f"find_root found no root for {residuals.numel()} of {count} elements: the function does "
        "not reach the target within the dtype's range; the largest residual left is "
        f"{residuals.abs().max().item():.3g}"
    )


def _unfinished(max_evaluations: int, residuals: Tensor, count: int) -> RootError:
    return RootError(
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
    """Find roots by the paper's plain bisection: halve all brackets until the last is narrow.

    For comparison and for the audit: it neither drops finished elements nor adapts its tolerance
    to the dtype, and returns the bracket's end for a root outside the bracket.

    Args:
        function: `(x, *parameters) -> (f(x), log f'(x))`, increasing in x, elementwise.
        parameters: tensors whose first axis is N.
        target: `(N,)`.
        lower: `(N,)`.
        upper: `(N,)`.
        tolerance: bracket width at which an element counts as finished, in units of x.
        max_iterations: maximum number of halvings.

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
    """Evaluate at x, tighten the bracket, choose the next x; return (finished, has no root)."""
    x, target = state["x"], state["target"]
    value, log_slope = function(x, *parameters)
    r = state["residual"] = value - target
    lower = state["lower"] = torch.where(r <= 0, x, state["lower"])
    upper = state["upper"] = torch.where(r >= 0, x, state["upper"])
    below = state["below"] = torch.where(r <= 0, r, state["below"])
    above = state["above"] = torch.where(r >= 0, r, state["above"])

    # The first halving is by length, as most roots have the bracket's order of magnitude; later
    # ones are by number of floats, as a root may have any.
    ordinals = _Ordinals(state["resolution"])
    middle = torch.where(state["halved"], ordinals.middle(lower, upper), lower / 2 + upper / 2)
    eps, tiny = torch.finfo(x.dtype).eps, torch.finfo(x.dtype).tiny
    step = -r * torch.exp(-log_slope)
    # Newton approaches from one side, and near the end rounding makes its steps too short to reach
    # the root. Steps of a few ulps, doubled each time, cross it, so that the bracket closes.
    smallest = state["nudge"] * (eps * x.abs() + tiny)
    short = step.abs() <= smallest
    step = torch.where(short, -torch.sign(r) * smallest, step)
    state["nudge"] = torch.where(short, 2 * state["nudge"], state["nudge"])
    newton = x + step
    # Enough evaluations must remain to finish by halving: besides Newton's own, one for the
    # halving by length, and one for a bracket end where the function was not evaluated yet.
    needed = 1 + (~state["halved"]).long() + (torch.isnan(below) | torch.isnan(above)).long()
    affordable = count + ordinals.halvings(lower, upper) + needed <= EVALUATION_BUDGET[x.dtype]
    # Newton only while it stays inside and its step halves: on a staircase-like function it could
    # otherwise oscillate forever.
    inside = (newton > lower) & (newton < upper)
    trusted = inside & affordable & (short | (step.abs() <= state["last_step"] / 2))
    state["last_step"] = step.abs().nan_to_num(torch.inf, posinf=torch.inf)
    state["halved"] = state["halved"] | ~trusted

    # The bracket is proven only if the function was evaluated at both ends.
    closed = (middle <= lower) | (middle >= upper)
    lower_open, upper_open = closed & torch.isnan(below), closed & torch.isnan(above)
    failed = (lower_open & (x == lower)) | (upper_open & (x == upper))
    state["x"] = torch.where(trusted, newton, middle)
    state["x"] = torch.where(lower_open, lower, torch.where(upper_open, upper, state["x"]))

    accepted = r.abs() <= _tolerance(target, ulps)
    finished = accepted | (closed & ~lower_open & ~upper_open) | torch.isnan(r)
    # The root that `_record` takes if the residual is accepted or NaN.
    state["accepted_root"] = torch.where(torch.isnan(r), r, x)
    return finished, failed & ~finished


def _tolerance(target: Tensor, ulps: float) -> Tensor:
    return ulps * torch.finfo(target.dtype).eps * target.abs().clamp(min=1)


def _record(result: Root, done: State, count: int, ulps: float) -> None:
    index, r = done["index"], done["residual"]
    better_end = done["below"].abs() <= done["above"].abs()
    root = torch.where(better_end, done["lower"], done["upper"])
    residual = torch.where(better_end, done["below"], done["above"])
    # Negated, so that NaN is included: a bracket end must not replace it.
    accepted = ~(r.abs() > _tolerance(done["target"], ulps))
    result.root[index] = torch.where(accepted, done["accepted_root"], root)
    result.residual[index] = torch.where(accepted, r, residual)
    result.width[index] = done["upper"] - done["lower"]
    result.evaluations[index] = count


class _Ordinals:
    """Ordinal numbers of floating-point values, coarser near zero.

    Near zero, where floating-point numbers are densest, ordinals count steps of `resolution`; from
    resolution / eps on they count every floating-point number. Halving a bracket by ordinals takes
    at most as many steps as the dtype has bits, for a root of any magnitude; halving by length
    takes one step for each factor of two between the bracket and the root.
    """

    def __init__(self, resolution: Tensor) -> None:
        info = torch.finfo(resolution.dtype)
        self.integer = {torch.float32: torch.int32, torch.float64: torch.int64}[resolution.dtype]
        self.steps = round(1 / info.eps)
        self.resolution = resolution
        self.first = self._bits(resolution / info.eps)

    def _bits(self, x: Tensor) -> Tensor:
        return _ordered(x.view(self.integer))

    def of(self, x: Tensor) -> Tensor:
        """Return the ordinal of x, as an integer of the size of x's dtype."""
        n = self._bits(x.abs())
        near = (x.abs() / self.resolution).nan_to_num().clamp(max=self.steps).to(self.integer)
        ordinal = torch.where(n < self.first, near, n - self.first + self.steps)
        return torch.where(x < 0, -ordinal, ordinal)

    def at(self, ordinal: Tensor) -> Tensor:
        """Return the number with this ordinal."""
        size = ordinal.abs()
        bits = _ordered((size - self.steps + self.first).clamp(min=0))
        far = bits.view(self.resolution.dtype)
        near = size.to(self.resolution.dtype) * self.resolution
        x = torch.where(size < self.steps, near, far)
        return torch.where(ordinal < 0, -x, x)

    def halvings(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Return the number of halvings until no ordinal lies between the bracket's ends."""
        gap = self.of(upper).double() - self.of(lower).double()
        # float64 may round the gap down; the factor makes this an upper bound.
        return torch.log2(gap.clamp(min=1) * (1 + 4 * torch.finfo(gap.dtype).eps)).ceil()

    def middle(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Halve by ordinals; between two adjacent ordinals, by floating-point numbers."""
        x = self.at(_midpoint(self.of(lower), self.of(upper)))
        number = _ordered(_midpoint(self._bits(lower), self._bits(upper))).view(x.dtype)
        return torch.where((x > lower) & (x < upper), x, number)


def _midpoint(low: Tensor, high: Tensor) -> Tensor:
    """Return floor((low + high) / 2) without overflow."""
    return (low >> 1) + (high >> 1) + (low & high & 1)


def _ordered(bits: Tensor) -> Tensor:
    """Map bit patterns of floats to integers in the floats' order, and back: an involution."""
    return torch.where(bits < 0, torch.iinfo(bits.dtype).min - bits, bits)
