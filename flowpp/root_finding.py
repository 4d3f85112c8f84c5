"""Roots of many increasing scalar functions at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Function = Callable[..., tuple[Tensor, Tensor]]

MAX_EVALUATIONS = 400
"""Far above what is needed (about 30 in float32, 60 in float64); reached only by a broken
function."""


@dataclass(frozen=True)
class Root:
    """Roots and the certificate that they are roots.

    Args:
        root: `(N,)`.
        residual: `(N,)`, f(root) - target.
        width: `(N,)`, distance of the last bracket's ends.
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
    *,
    ulps: float = 1.0,
    max_evaluations: int = MAX_EVALUATIONS,
) -> Root:
    """x with f(x; parameters) = target, by Newton's method safeguarded with bisection.

    An element is finished when |f(x) - target| <= ulps * eps * max(1, |target|), or when no
    floating-point number lies between its bracket's ends: one of the two always happens. Finished
    elements are dropped, so that a batch does not wait for its slowest member.

    Args:
        function: `(x, *parameters) -> (f(x), log f'(x))`, increasing in x, elementwise.
        parameters: tensors whose first axis is N.
        target: `(N,)`. Elements that are not finite give NaN.
        lower: `(N,)`, below the root up to rounding.
        upper: `(N,)`, above the root up to rounding.
        start: `(N,)`, the first guess.
        ulps: size of an acceptable residual, in units of eps * max(1, |target|).
        max_evaluations: cap for each element.

    Raises:
        RuntimeError: the cap was reached before every element was finished.
    """
    eps = torch.finfo(target.dtype).eps
    tolerance = ulps * eps * target.abs().clamp(min=1)
    lower, upper = _widen(lower, -1), _widen(upper, 1)
    x = torch.minimum(torch.maximum(start, lower), upper)

    root = torch.full_like(target, torch.nan)
    residual, width = root.clone(), root.clone()
    evaluations = torch.zeros(target.shape, dtype=torch.int64, device=target.device)
    active = torch.nonzero(torch.isfinite(target) & torch.isfinite(x)).squeeze(-1)
    state = [t[active] for t in (target, tolerance, x, lower, upper)]
    kept = tuple(p[active] for p in parameters)
    best_x = state[2].clone()
    best_r = torch.full_like(best_x, torch.inf)
    last_width = torch.full_like(best_x, torch.inf)

    for count in range(1, max_evaluations + 1):
        if not active.numel():
            break
        goal, allowed, x, lower, upper = state
        value, log_slope = function(x, *kept)
        r = value - goal
        better = r.abs() < best_r.abs()
        best_x, best_r = torch.where(better, x, best_x), torch.where(better, r, best_r)
        lower, upper = torch.where(r <= 0, x, lower), torch.where(r >= 0, x, upper)

        middle = lower / 2 + upper / 2
        newton = x - r * torch.exp(-log_slope)
        # Newton only while it stays inside and the bracket or the step shrinks by half; on the
        # steps of a staircase it would otherwise jump to and fro for ever.
        step = (newton - x).abs()
        trusted = (newton > lower) & (newton < upper) & (step <= last_width / 2)
        last_width = torch.where(trusted, step, torch.full_like(step, torch.inf))
        x = torch.where(trusted, newton, middle)

        collapsed = (middle <= lower) | (middle >= upper)
        finished = (r.abs() <= allowed) | collapsed | torch.isnan(r)
        if finished.any():
            done = active[finished]
            root[done] = torch.where(torch.isnan(r), r, best_x)[finished]
            residual[done] = best_r[finished]
            width[done] = (upper - lower)[finished]
            evaluations[done] = count
            going = torch.nonzero(~finished).squeeze(-1)
            active, best_x, best_r = active[going], best_x[going], best_r[going]
            last_width = last_width[going]
            state = [t[going] for t in (goal, allowed, x, lower, upper)]
            kept = tuple(p[going] for p in kept)
        else:
            state = [goal, allowed, x, lower, upper]
    if active.numel():
        raise RuntimeError(
            f"find_root needs more than {max_evaluations} evaluations for {active.numel()} of "
            f"{target.numel()} elements; largest residual {best_r.abs().max().item():.3g}"
        )
    return Root(root, residual, width, evaluations)


def _widen(bound: Tensor, direction: int) -> Tensor:
    """Move a bracket's end outward by a few ulps: it was itself rounded."""
    info = torch.finfo(bound.dtype)
    return bound + direction * (4 * info.eps * bound.abs() + info.tiny)
