"""The law of sizes: numbers of channels, rows, columns, components and levels of every kind.

A fault of structure, such as a row left out, is an error of the size of the numbers themselves.
So parameters and inputs are ordinary, and the tolerance is coarse; other laws judge precision.
"""

from __future__ import annotations

import numpy as np

from conformance.adapter import NotSupported
from conformance.cases.random import Drawn
from conformance.laws.guard import (
    call_at,
    implementation,
    is_failure,
    real_array,
    require_shape,
    with_call,
)
from conformance.laws.law import Findings
from conformance.laws.random_trial import RandomTrial, Tried
from conformance.laws.trial import Violation, generator
from conformance.numerics.compare import Comparison, Unresolved, compare
from conformance.numerics.specs import objects, round_to, rounded
from reference.bijectors import DataLogit, InvertibleConv, MixtureLogistic
from reference.elementwise import MixtureLogisticFamily

COARSE = 4096.0
"""Tolerance in ulps."""

Pair = tuple[np.ndarray, np.ndarray]


def sizes(trial: RandomTrial) -> Findings:
    """The same as the reference for all sizes: odd, 1, not square, large; 1 to 40 components."""
    assert trial.case.sizes is not None  # the law requires it, see LAWS
    worst: tuple[str, Comparison] | None = None
    reasons = []
    failed: list[Drawn] = []
    trial.tried.clear()
    for spec, x in trial.case.sizes(generator(trial.seed, trial.case.name, "sizes")):
        drawn = Drawn(spec, x)
        features = features_of(drawn)
        label = ", ".join(f"{name} {size}" for name, size in features.items())
        try:
            name, found = _worst(trial, drawn)
        except NotSupported as reason:
            reasons.append(str(reason))
            continue
        except Violation as violation:
            failed.append(drawn)
            trial.tried.append(Tried(features, right=False, error=f"{label}: {violation}"))
            continue
        except Exception as error:  # an implementation may raise anything
            if not is_failure(error):
                raise
            failed.append(drawn)
            text = f"{label}: {with_call(error)}"
            trial.tried.append(Tried(features, right=False, error=text))
            continue
        trial.tried.append(Tried(features, right=found.ulps <= COARSE))
        if worst is None or found.ulps > worst[1].ulps:
            worst = f"{name} ({label})", found
            trial.shown = drawn
    errors = [tried.error for tried in trial.tried if tried.error]
    if errors:
        trial.shown = failed[0]
        raise Violation(errors[0])
    if worst is None:
        raise NotSupported(reasons[0])
    if reasons:
        yield "sizes", Unresolved(len(reasons), reasons[0])
    yield worst


def features_of(drawn: Drawn) -> dict[str, int]:
    """Return the sizes by name that an implementation's code may depend on."""
    names = ("batch", "channels", "height", "width")
    found = dict(zip(names, drawn.x.shape, strict=True))
    for part in objects(drawn.spec):
        if isinstance(part, MixtureLogistic):
            found["components"] = part.logits.shape[-1]
        elif isinstance(part, MixtureLogisticFamily):
            found["components"] = part.components
        elif isinstance(part, InvertibleConv):
            found["groups"] = len(part.weight)
        elif isinstance(part, DataLogit):
            found["levels"] = part.levels
    return found


def _worst(trial: RandomTrial, drawn: Drawn) -> tuple[str, Comparison]:
    """Return the worst comparison of both directions with the reference.

    The inverse is that of the reference's y, so that x itself is expected.
    """
    spec, x = rounded(drawn.spec, trial.dtype), round_to(drawn.x, trial.dtype)
    with np.errstate(all="ignore"):
        y, log_det = spec.forward(x)
    given = rounded(spec, trial.dtype)
    with implementation():
        built = trial.adapter(dtype=trial.dtype.name, device=trial.device).build(given)
    results = []
    for direction, at, want in (("forward", x, (y, log_det)), ("inverse", y, (x, -log_det))):
        with implementation(call_at(direction, at, None)):
            got, got_log_det = getattr(built, direction)(np.array(at, trial.dtype))
        for name, result, expected in zip(
            (direction, f"{direction} log_det"), (got, got_log_det), want, strict=True
        ):
            part = real_array(result, name)
            require_shape(part, expected.shape, name)
            results.append((name, compare(part, expected, trial.dtype)))
    trial.compared += sum(found.count for _, found in results)
    return max(results, key=lambda result: result[1].ulps)
