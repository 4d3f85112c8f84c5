"""Plans: the rows of a comparison, read from a TOML file.

    title = "Peak rates"
    seeds = [0, 1, 2]
    steps = [250, 1500]                # columns: held-out bounds after these steps

    [settings]                         # of all rows: flags of `python -m flowpp.train`
    data.held_out = "valid"

    [[rows]]
    name = "as released"
    preset = "cifar16"

    [[rows]]
    name = "linear to zero"
    preset = "cifar16"
    seeds = [0]                        # instead of the plan's
    settings.training.learning_rate = 3e-3
    settings.training.schedule = "warm-up 40, linear end 0"

    [[quoted]]                         # a row of another report, shown above the others
    file = "../results/released-cifar16.json"
    row = "released code"

"None" stands for no value, as on the command line. A row's differences refer to the row that its
`against` names; without it, to the plan's first row.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flowpp.config import Config
from flowpp.runtime.bounded import read_bounded
from flowpp.train import read_arguments

LARGEST = 1 << 20
"""Upper bound on the size of a plan, in bytes."""
PLAN_FIELDS = frozenset({"title", "seeds", "steps", "settings", "rows", "quoted"})
ROW_FIELDS = frozenset({"name", "preset", "seeds", "settings", "against"})
QUOTED_FIELDS = frozenset({"file", "row"})


@dataclass(frozen=True)
class Row:
    """One recipe.

    Args:
        name: Name in the table.
        preset: Preset that the settings start from.
        settings: Settings that differ from the preset's, by dotted name.
        seeds: Seeds of its runs.
        against: Row that its differences refer to.
        config: All settings, with seed 0.
    """

    name: str
    preset: str
    settings: Mapping[str, Any]
    seeds: tuple[int, ...]
    against: str
    config: Config

    @property
    def folder(self) -> str:
        """Name of the folder of its runs."""
        return re.sub(r"[^a-z0-9.]+", "-", self.name.lower()).strip("-.")

    def arguments(self, seed: int) -> list[str]:
        """Return the arguments of `python -m flowpp.train` for one seed."""
        return [self.preset, *flags(self.settings), "--training.seed", str(seed)]

    def seeded(self, seed: int) -> Config:
        """Return all settings of the run with this seed."""
        return replace(self.config, training=replace(self.config.training, seed=seed))


@dataclass(frozen=True)
class Plan:
    """Rows to train and to compare.

    Args:
        title: Title of the table.
        steps: Steps after which held-out bounds are shown.
        rows: Recipes.
        quoted: Files of other reports, and names of rows in them.
    """

    title: str
    steps: tuple[int, ...]
    rows: tuple[Row, ...]
    quoted: tuple[tuple[Path, str], ...] = ()

    def select(self, names: Sequence[str] | None, seeds: Sequence[int] | None) -> list[Row]:
        """Return the rows of these names, with those of their seeds that are in `seeds`.

        Raises:
            ValueError: No row has such a name, or none of the rows such a seed.
        """
        known = [row.name for row in self.rows]
        for name in names or ():
            if name not in known:
                raise ValueError(f"rows must be among {', '.join(known)}; got {name!r}")
        rows = [row for row in self.rows if names is None or row.name in names]
        if seeds is None:
            return rows
        chosen = [replace(row, seeds=tuple(s for s in row.seeds if s in seeds)) for row in rows]
        if not any(row.seeds for row in chosen):
            raise ValueError(f"seeds must be among those of the plan, got {list(seeds)}")
        return chosen


def read_plan(path: Path, more: Mapping[str, Any] | None = None) -> Plan:
    """Read and check a plan; every row's settings are those that the command would accept.

    Args:
        path: TOML file.
        more: Settings of all rows besides the plan's, by dotted name; they take precedence.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not TOML, a field is missing or unknown, or a setting is refused.
    """
    toml = _toml_reader()
    try:
        values = toml.loads(read_bounded(path, LARGEST).decode("utf-8"))
    except (toml.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be TOML: {error}") from error
    try:
        return _plan(values, path.parent, more or {})
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Return settings by dotted name as flags of `python -m flowpp.train`."""
    return [text for name, value in settings.items() for text in _flag(name, value)]


def _flag(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, bool):
        parent, _, last = name.rpartition(".")
        return (f"--{name}",) if value else (f"--{parent}.no_{last}",)
    if not isinstance(value, int | float | str):
        raise TypeError(
            f"{name} must be a number, a text, true or false, got {type(value).__name__}"
        )
    return (f"--{name}", str(value))


def _plan(values: Mapping[str, Any], folder: Path, more: Mapping[str, Any]) -> Plan:
    _check_fields("the plan", values, PLAN_FIELDS, required=("title", "steps", "rows"))
    shared = dict(_flat(values.get("settings", {})))
    seeds = _whole_numbers("seeds", values.get("seeds", [0]))
    steps = tuple(sorted(_whole_numbers("steps", values["steps"])))
    entries = values["rows"]
    if not entries:
        raise ValueError("rows must have at least one entry, got none")
    rows: list[Row] = []
    for entry in entries:
        _check_fields("a row", entry, ROW_FIELDS, required=("name", "preset"))
        own = dict(_flat(entry.get("settings", {})))
        row = _row(entry, {**shared, **own, **more}, seeds, default=entries[0]["name"])
        _check_steps(row, steps)
        if row.folder in [other.folder for other in rows] or not row.folder:
            raise ValueError(f"names of rows must differ in letters or digits, got {row.name!r}")
        rows.append(row)
    names = [row.name for row in rows]
    quoted = []
    for entry in values.get("quoted", ()):
        _check_fields("a quoted row", entry, QUOTED_FIELDS, required=("file", "row"))
        quoted.append((folder / entry["file"], entry["row"]))
        names.append(entry["row"])
    for row in rows:
        if row.against not in names:
            raise ValueError(f"against must be a row's name, got {row.against!r} in {row.name!r}")
    return Plan(values["title"], steps, tuple(rows), tuple(quoted))


def _row(
    entry: Mapping[str, Any], settings: Mapping[str, Any], seeds: tuple[int, ...], default: str
) -> Row:
    if "training.seed" in settings:
        raise ValueError("training.seed must be left out: seeds are listed in seeds")
    try:
        config = read_arguments([entry["preset"], *flags(settings)]).config
    except ValueError as error:
        raise ValueError(f"row {entry['name']!r}: {error}") from error
    own = _whole_numbers("seeds", entry["seeds"]) if "seeds" in entry else seeds
    return Row(
        entry["name"], entry["preset"], settings, own, entry.get("against", default), config
    )


def _check_steps(row: Row, steps: Sequence[int]) -> None:
    """Require an evaluation after each of the steps that the row has."""
    training = row.config.training
    own = [step for step in steps if step <= training.steps]
    if not own:
        raise ValueError(f"row {row.name!r}: steps must include one of its {training.steps} steps")
    for step in own:
        if step % training.evaluate_every and step != training.steps:
            raise ValueError(
                f"row {row.name!r}: steps must be multiples of training.evaluate_every, "
                f"{training.evaluate_every}, or its last step, got {step}"
            )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of nested tables."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _check_fields(
    what: str, entry: Any, known: frozenset[str], *, required: Sequence[str]
) -> None:
    if not isinstance(entry, dict):
        raise ValueError(f"{what} must be a table, got {entry!r}")
    if unknown := sorted(set(entry) - known):
        raise ValueError(f"{what} must have fields among {sorted(known)}, got {unknown}")
    if missing := [name for name in required if name not in entry]:
        raise ValueError(f"{what} must have {' and '.join(missing)}, got {sorted(entry)}")


def _whole_numbers(name: str, values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or not values:
        raise ValueError(f"{name} must be a list of whole numbers, got {values!r}")
    for value in values:
        if type(value) is not int or value < 0:
            raise ValueError(f"{name} must be whole numbers, got {value!r}")
    if len(set(values)) < len(values):
        raise ValueError(f"{name} must be different, got {values}")
    return tuple(values)


def _toml_reader() -> Any:
    for name in ("tomllib", "tomli"):  # tomllib is in the standard library since Python 3.11
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise ValueError("reading a plan needs Python 3.11 or the package tomli")
