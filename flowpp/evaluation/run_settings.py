"""Settings of a run beside those of its preset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flowpp.config import Config, presets
from flowpp.config.presets import SMALL
from flowpp.config.serialization import to_dict
from flowpp.runs.environment_record import CONTINUED, continued

Row = tuple[str, object, object]
CHOSEN = frozenset({
    "model.flow.layout", "model.flow.dropout", "model.dequantizer.dropout", "data.size",
    "data.channels", "data.convert", "data.bits", "training.batch_size",
})  # fmt: skip
"""Settings that the preset `small` chooses by the images, see `flowpp.data.autoconfig`."""


@dataclass(frozen=True)
class Differences:
    """Settings that differ from the preset's: name, value of the run, value of the preset.

    Args:
        given: By the user.
        chosen: By the preset, for the images.
    """

    given: list[Row]
    chosen: list[Row]


def differences(config: Config, arguments: object) -> Differences | None:
    """Return what differs from the preset; None if this version does not know it.

    Args:
        config: Settings of the run.
        arguments: Command line that the run was started with, as environment.json records it.
    """
    if config.preset not in presets.PRESETS:
        return None
    usual = dict(flat(to_dict(presets.get(config.preset))))
    changed = [(name, value, usual.get(name)) for name, value in flat(to_dict(config))
               if usual.get(name) != value]  # fmt: skip
    free = CHOSEN - _named(arguments) if config.preset == SMALL.preset else frozenset[str]()
    return Differences(
        [row for row in changed if row[0] not in free], [row for row in changed if row[0] in free]
    )


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return nested values by dotted names."""
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            rows.append((f"{prefix}{name}", " ".join(value)))
        else:
            rows.append((f"{prefix}{name}", value))
    return rows


def _named(arguments: object) -> frozenset[str]:
    """Return the settings that a command line names."""
    words: Iterable[object] = arguments if isinstance(arguments, list) else ()
    flags = (word for word in words if isinstance(word, str) and word.startswith("--"))
    return frozenset(
        flag.split("=")[0].removeprefix("--").replace("-", "_").removeprefix("no_")
        for flag in flags
    )


def environments(facts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return what a run began with, and what of it was different from a later step on.

    Args:
        facts: Content of environment.json.
    """
    rows = last = flat({name: facts[name] for name in facts if name != CONTINUED})
    for entry in continued(facts):
        new = flat({name: entry[name] for name in entry if name != "step"})
        changed = [(name, value) for name, value in new if (name, value) not in last]
        rows = rows + [(f"from step {entry['step']}: {name}", value) for name, value in changed]
        last = new
    return rows
