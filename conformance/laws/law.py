"""The laws' common form.

A law is a check, a generator function whose docstring's first line states the law, with tolerances
in the table of `conformance.laws`. The check reads the case's inputs and results from a `Trial`
and yields the error of each comparison:

    def finite(trial: Trial) -> Findings:
        "The y and log_det of forward are finite."
        for name, array in zip(("y", "log_det"), trial.got_forward, strict=True):
            if not np.isfinite(array).all():
                raise Violation(f"{name} is not finite everywhere")
            yield name, Comparison.exact(array.size)

A measurable error is a comparison: `compare(trial.got_forward[0], expected, trial.dtype)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from conformance.laws.layer_trial import LayerTrial
from conformance.laws.random_trial import RandomTrial
from conformance.laws.trial import Trial
from conformance.numerics.compare import Comparison, Unresolved

Findings = Iterator[tuple[str, Comparison | Unresolved]]
"""Results of a law: labels, each with a comparison or with values that cannot be compared."""
Check = (
    Callable[[Trial], Findings]
    | Callable[[LayerTrial], Findings]
    | Callable[[RandomTrial], Findings]
)
"""A law's function, of a trial of the kind that its family of cases has."""
Direction = Literal["forward", "inverse", "both"]


@dataclass(frozen=True)
class Law:
    """A law: a check, its tolerances and the cases it applies to.

    Attributes:
        name: Name, for command lines, tolerances and reports.
        check: Function of a trial: of a `Trial`, or by family a `LayerTrial` or `RandomTrial`. It
            raises `Violation` for an error that cannot be measured in ulps, `NotSupported` where
            the implementation lacks what the law needs, and `LeftOut` where the law does not
            apply.
        float64, float32: Tolerances in ulps where a case states none.
        direction: The direction the check starts with: a failure shows its input, x or y (both
            for "both"), and is explained by mistakes in that direction first.
        family: Kind of case the law applies to.
        tolerance_of: Another law whose tolerances in a case apply to this law too, because the
            same rounding is magnified in both.
        requires: Attribute of a case that must not be empty for the law to apply.
        gradients: Whether the check compares gradients.
        hint: Probable cause of a failure that no known pattern explains.
        subject: What the law judges. One about the reference is reported, and proves nothing
            about the implementation.
        rounding: Whether rounding may be the reason for an error slightly beyond the tolerance.
    """

    name: str
    check: Check
    float64: float
    float32: float
    direction: Direction = "forward"
    family: Literal["bijector", "layer", "random"] = "bijector"
    tolerance_of: str = ""
    requires: str = ""
    gradients: bool = False
    hint: str = ""
    subject: Literal["implementation", "reference"] = "implementation"
    rounding: bool = True

    @property
    def meaning(self) -> str:
        """First line of the check's docstring; empty without one."""
        return (self.check.__doc__ or "").strip().partition("\n")[0]

    @property
    def directions(self) -> tuple[Literal["forward", "inverse"], ...]:
        """Both directions, the one the check starts with first."""
        return ("inverse", "forward") if self.direction == "inverse" else ("forward", "inverse")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs the check starts from."""
        if self.direction == "both":
            return ("x", "y")
        return ("y",) if self.direction == "inverse" else ("x",)

    def applies(self, case: Any) -> bool:
        """Return whether the law applies to a case."""
        return self.family == case.family and bool(
            not self.requires or getattr(case, self.requires)
        )
