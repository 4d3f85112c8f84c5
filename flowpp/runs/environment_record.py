"""The environments of a run's parts: environment.json records each with the step it began at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from flowpp.runs.run import Run
from flowpp.runtime.files import finite_or_null, write_json

FILE: Final = "environment.json"
CONTINUED = "continued"
"""Key of the list of later environments, each with its first step as `step`."""
UNCHANGING = frozenset({"data", "seed", "init_from"})
"""Parts that are the same in the whole run."""
PER_PROCESS = frozenset({"arguments", "device"})
"""Parts that do not make an environment another one; `device_name` and `kernels` do."""


def record_environment(run: Run, step: int, now: Mapping[str, Any]) -> str | None:
    """Add the environment of a resumed run to environment.json if it is another one.

    Records of later environments that began at `step` or after it are removed, since these steps
    are done again.

    Args:
        run: The run.
        step: Number of steps done.
        now: The present `environment.describe`.

    Returns:
        A line for the user if the environment cannot be recorded.
    """
    try:
        recorded = run.facts(FILE)
    except FileNotFoundError:
        return None  # a folder without a record
    except (OSError, ValueError) as error:
        return f"the environment from step {step} on is not recorded: {error}"
    former = recorded.get(CONTINUED)
    kept = [entry for entry in continued(recorded) if entry["step"] < step]
    entry = {"step": step, **{name: now[name] for name in now if name not in UNCHANGING}}
    entry = json.loads(json.dumps(finite_or_null(entry)))  # as it will be read
    if _compared(kept[-1] if kept else recorded) != _compared(entry):
        kept.append(entry)
    if kept != (former or []):
        write_json(run.path / FILE, {**recorded, CONTINUED: kept})
    return None


def recorded_facts(run: Run) -> dict[str, Any]:
    """Return those of `machine_facts` that environment.json has, of the newest environment.

    Checkpoints of version 0.1.0 do not have all of them.
    """
    try:
        recorded = run.facts(FILE)
    except (OSError, ValueError):
        return {}
    newest = [recorded, *continued(recorded)][-1]
    versions, kernels = newest.get("versions"), newest.get("kernels")
    device = str(newest.get("device")).split(":")[0]
    facts = {
        "torch": versions.get("torch") if isinstance(versions, dict) else None,
        "device": device if device in ("cpu", "cuda", "mps") else None,
        "processor": newest.get("device_name" if device == "cuda" else "processor"),
        "instructions": newest.get("cpu") if device == "cpu" else None,
        "kernels": "cpu" if kernels == "cpp" else kernels,  # its name in version 0.1.0
    }
    return {name: value for name, value in facts.items() if isinstance(value, str)}


def continued(recorded: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the later environments in the content of environment.json, in their order."""
    found = recorded.get(CONTINUED)
    return [
        entry
        for entry in (found if isinstance(found, list) else [])
        if isinstance(entry, dict) and isinstance(entry.get("step"), int)
    ]


def _compared(environment: Mapping[str, Any]) -> dict[str, Any]:
    ignored = UNCHANGING | PER_PROCESS | {"step", CONTINUED}
    return {name: value for name, value in environment.items() if name not in ignored}
