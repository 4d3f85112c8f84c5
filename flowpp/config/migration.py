"""Migration of settings and flags of version 0.1.0 to the present fields.

Version 0.1.0 described the learning rate by `warmup_steps` and `decay_from`, or by a `schedule`
of absolute rates such as "linear 5000 1e-3, hold 50000, decay 0.99995 3e-4".
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

FORMER_FIELDS = {"warmup_steps": "warm-up STEPS", "decay_from": "constant UNTIL, cosine end 0"}
"""Former fields of `TrainingConfig`, and the pieces of a schedule that replace them."""


def check_flags(argv: Sequence[str]) -> None:
    """Refuse the command-line flags of former fields.

    Raises:
        ValueError: A former flag; the message names its replacement.
    """
    for argument in argv:
        flag = argument.partition("=")[0]
        for name, pieces in FORMER_FIELDS.items():
            if flag.replace("-", "_") == f"__training.{name}":
                raise ValueError(
                    f"the learning rate must be set by --training.schedule, here with {pieces!r} "
                    f"in it, got {flag}"
                )


def migrate_training(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of `TrainingConfig` with the learning rate in its present form.

    Raises:
        ValueError: A former schedule that the present form cannot express, or a former field out
            of range.
    """
    is_former = any(name in values for name in FORMER_FIELDS) or values.get("schedule", "") is None
    if not is_former:
        return values
    migrated = {name: value for name, value in values.items() if name not in FORMER_FIELDS}
    warm_up, decay_from = values.get("warmup_steps", 2000), values.get("decay_from", 1.0)
    if type(warm_up) is not int or warm_up < 0:
        raise ValueError(f"training.warmup_steps must be an int of at least 0, got {warm_up!r}")
    if type(decay_from) not in (int, float) or not 0 <= decay_from <= 1:
        raise ValueError(f"training.decay_from must be a number in [0, 1], got {decay_from!r}")
    former = values.get("schedule")
    if former is None:
        return migrated | {"schedule": _from_fields(warm_up, decay_from)}
    if not isinstance(former, str):
        raise ValueError(f"training.schedule must be str or None, got {former!r}")
    peak, schedule = _from_absolute(former)
    return migrated | {"learning_rate": peak, "schedule": schedule}


def _from_fields(warm_up: int, decay_from: float) -> str:
    pieces = [f"warm-up {warm_up}"] if warm_up else []
    if decay_from == 1:
        return ", ".join(pieces or ["constant end"])
    if decay_from > 0:
        percentage = (Decimal(repr(decay_from)) * 100).normalize()
        pieces.append(f"constant {percentage:f}%")
    return ", ".join([*pieces, "cosine end 0"])


def _from_absolute(former: str) -> tuple[float, str]:
    """Return the peak and the schedule in factors of it."""
    first, *others = (item.split() for item in former.split(","))
    try:
        match first:
            case ["linear", step, rate] if float(rate) > 0:
                peak = rate
                pieces = [f"warm-up {int(step)}"]
                if others and others[0][:1] != ["hold"]:
                    pieces.append(f"constant {int(step)}")
            case _:
                raise ValueError("it does not begin with a linear rise, the present warm-up")
        for item in others:
            match item:
                case ["hold", step]:
                    pieces.append(f"constant {int(step)}")
                case ["linear" | "cosine" as kind, step, rate]:
                    pieces.append(f"{kind} {int(step)} {_factor(rate, peak)}")
                case ["decay", ratio, rate]:
                    pieces.append(f"exponential {ratio} {_factor(rate, peak)}")
                case _:
                    raise ValueError(f"unknown piece {' '.join(item)!r}")
    except (ValueError, ArithmeticError) as error:
        raise ValueError(
            f"training.schedule {former!r} of version 0.1.0 cannot be expressed in the present "
            f"form: {error}"
        ) from error
    return float(peak), ", ".join(pieces)


def _factor(rate: str, peak: str) -> str:
    """Return rate / peak, divided in decimal so that 3e-4 of 1e-3 is 0.3."""
    return repr(float(Decimal(rate) / Decimal(peak)))
