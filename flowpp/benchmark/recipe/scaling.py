"""python -m flowpp.benchmark.recipe.scaling REPORT.json: loss against weights and images seen.

The law is L(N, D) = E + A / N^a + B / D^b (Hoffmann et al., 2022, section 3.3) for N weights and
D images seen, fitted by least squares to the held-out bounds after the last step of each run.
Errors are those of a residual bootstrap: the fit is repeated on its own values plus residuals
drawn with replacement, which are enlarged by sqrt(n / (n - 5)) for the five fitted numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tyro.conf import Positional, arg

from flowpp.config.command_line import parse, user_errors
from flowpp.runtime.standard_output import exit_on_broken_pipe

PARAMETERS = 5
STARTS = (0.15, 0.4, 1.0)
"""Exponents that the search starts from."""
LARGEST_EXPONENT = 3.0
RESAMPLES = 300
INTERVAL = (2.5, 97.5)
"""Percentiles of the bootstrap that bound a 95 % interval."""


@dataclass(frozen=True)
class Point:
    """One run: number of weights, number of images seen, held-out bits per dimension."""

    weights: int
    images: int
    loss: float


@dataclass(frozen=True)
class Law:
    """A fitted law, with powers relative to one point so that the fit is well scaled.

    Args:
        floor: E, the loss that no size and no length goes below.
        width_share: A / N0^a, the loss due to the number of weights at the reference point.
        width_exponent: a.
        length_share: B / D0^b.
        length_exponent: b.
        reference: N0 and D0.
    """

    floor: float
    width_share: float
    width_exponent: float
    length_share: float
    length_exponent: float
    reference: tuple[float, float]

    def loss(self, weights: Any, images: Any) -> Any:
        """Return the loss for N weights and D images, numbers or arrays."""
        n, d = weights / self.reference[0], images / self.reference[1]
        return (
            self.floor
            + self.width_share * n**-self.width_exponent
            + self.length_share * d**-self.length_exponent
        )


@dataclass(frozen=True)
class Fit:
    """A law and those fitted to resampled points.

    Args:
        law: Fit to the points themselves.
        resampled: Fits to resampled points.
        residual: Root mean square of the residuals, with n - 5 degrees of freedom.
    """

    law: Law
    resampled: tuple[Law, ...]
    residual: float

    def interval(self, number: Any) -> tuple[float, float]:
        """Return the 95 % interval of a number, given as a function of a law."""
        low, high = np.percentile([number(law) for law in self.resampled], INTERVAL)
        return float(low), float(high)


def points(report: Mapping[str, Any]) -> list[Point]:
    """Return a point for each finished run of a report."""
    found = []
    for row in report["rows"]:
        for run in row["runs"]:
            loss = run["held_out"].get(str(row["steps"]))
            if loss is not None and row["weights"]:
                found.append(Point(row["weights"], row["steps"] * row["batch_size"], loss))
    return found


def fit(given: Sequence[Point], *, resamples: int = RESAMPLES, seed: int = 0) -> Fit:
    """Fit the law.

    Raises:
        ValueError: Too few points, or fewer than three different widths or lengths.
    """
    n = np.array([p.weights for p in given], dtype=np.float64)
    d = np.array([p.images for p in given], dtype=np.float64)
    losses = np.array([p.loss for p in given], dtype=np.float64)
    for name, counts in (("widths", n), ("lengths", d)):
        if len(np.unique(counts)) < 3:
            raise ValueError(f"at least 3 {name} are needed, got {len(np.unique(counts))}")
    if len(given) <= PARAMETERS:
        raise ValueError(f"at least {PARAMETERS + 1} runs are needed, got {len(given)}")
    reference = (float(np.exp(np.log(n).mean())), float(np.exp(np.log(d).mean())))
    starts = [(a, b) for a in STARTS for b in STARTS]
    law = _best(n, d, losses, reference, starts)
    fitted = law.loss(n, d)
    residuals = losses - fitted
    freedom = len(given) - PARAMETERS
    enlarged = (residuals - residuals.mean()) * np.sqrt(len(given) / freedom)
    generator = np.random.default_rng(seed)
    near = [(law.width_exponent, law.length_exponent)]
    resampled = tuple(
        _best(n, d, fitted + generator.choice(enlarged, len(given)), reference, near)
        for _ in range(resamples)
    )
    return Fit(law, resampled, float(np.sqrt((residuals**2).sum() / freedom)))


def _best(
    n: np.ndarray,
    d: np.ndarray,
    losses: np.ndarray,
    reference: tuple[float, float],
    starts: Sequence[tuple[float, float]],
) -> Law:
    """Return the law of least squares; linear in three numbers, once the exponents are given."""
    from scipy.optimize import least_squares, nnls

    relative_n, relative_d = n / reference[0], d / reference[1]

    def linear(exponents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        powers = [np.ones_like(n), relative_n ** -exponents[0], relative_d ** -exponents[1]]
        design = np.stack(powers, axis=1)
        shares = nnls(design, losses)[0]  # none of the three parts is negative
        return shares, design @ shares - losses

    fits = [
        least_squares(lambda e: linear(e)[1], start, bounds=(1e-3, LARGEST_EXPONENT))
        for start in starts
    ]
    best = min(fits, key=lambda found: found.cost)
    floor, width, length = map(float, linear(best.x)[0])
    return Law(floor, width, float(best.x[0]), length, float(best.x[1]), reference)


@dataclass(frozen=True)
class Arguments:
    """Command-line arguments."""

    report: Annotated[Positional[Path], arg(metavar="REPORT")]
    """report.json of `python -m flowpp.benchmark recipe`."""
    weights: int = 31_443_440
    """Number of weights to predict the loss for."""
    images: int = 25_600_000
    """Number of images seen to predict the loss for."""


def summary(found: Fit, weights: int, images: int) -> str:
    """Return the fit and its prediction as text."""
    law = found.law
    rows = (
        ("E, bits/dim", lambda law: law.floor),
        ("A / N^a at the centre, bits/dim", lambda law: law.width_share),
        ("a", lambda law: law.width_exponent),
        ("B / D^b at the centre, bits/dim", lambda law: law.length_share),
        ("b", lambda law: law.length_exponent),
        (f"L({weights:,}, {images:,})", lambda law: law.loss(weights, images)),
    )
    lines = ["| | fit | 95 % interval |", "| --- | --- | --- |"]
    for name, number in rows:
        low, high = found.interval(number)
        lines.append(f"| {name} | {number(law):.3f} | {low:.3f} ... {high:.3f} |")
    return "\n".join(
        [
            *lines,
            "",
            f"Centre: N = {law.reference[0]:,.0f}, D = {law.reference[1]:,.0f}. "
            f"Residuals: {found.residual:.4f} bits/dim.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> Fit:
    """Fit the law to a report, print and return it."""
    with user_errors():
        arguments = parse(
            Arguments,
            sys.argv[1:] if argv is None else argv,
            prog="python -m flowpp.benchmark.recipe.scaling",
            description="Fit the loss against numbers of weights and of images seen.",
        )
        from .outcomes import read_report

        found = fit(points(read_report(arguments.report)))
    print(summary(found, arguments.weights, arguments.images))
    return found


if __name__ == "__main__":
    with exit_on_broken_pipe():
        main()
