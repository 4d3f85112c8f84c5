"""python -m flowpp.benchmark [--preset cifar10] [--what train,sample] [--json FILE]"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from flowpp.config.command_line import parse, user_errors
from flowpp.config.settings import Memory, Precision


@dataclass(frozen=True)
class Arguments:
    """What can be said on the command line."""

    preset: str = "cifar10"
    batch_size: int = 2
    what: str = "train,sample,evaluate,mixture"
    """Tasks, separated by commas."""
    json: Path | None = None
    """Where the numbers are kept: a file, or a folder for one named by date and machine."""
    repeats: int = 5
    warm_up: int = 1
    threads: int | None = None
    """CPU threads; torch's own choice if None."""
    elements: int = 200_000
    """Scalars that the mixture alone is timed on."""
    components: int = 32
    """Components of the mixture that is timed alone."""
    memory: Memory = "normal"
    """Of the library's model, as `training.memory`."""
    precision: Precision = "float32"
    """Of the library's model, as `training.precision`."""
    peak_memory: bool = True
    """Measure peak memory too: two more processes for each task."""

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        for name in ("batch_size", "repeats", "elements", "components"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.json is not None and not self.json.parent.is_dir():
            raise ValueError(f"json must lie in an existing folder, got {self.json}")


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print a table, and keep the numbers."""
    with user_errors():
        arguments = parse(
            Arguments,
            argv,
            prog="python -m flowpp.benchmark",
            description="Time the library beside textbook versions of the same things.",
        )
        import torch  # after parsing: it takes seconds

        from flowpp.config import presets
        from flowpp.runtime.files import write_json

        from . import machine, measure, table
        from .tasks import Sizes

        tasks = measure.tasks_named(arguments.what)
        presets.get(arguments.preset)
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    sizes = Sizes(
        arguments.preset,
        arguments.batch_size,
        arguments.elements,
        arguments.components,
        arguments.memory,
        arguments.precision,
    )
    report: dict[str, Any] = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": machine.describe(),
        "sizes": asdict(sizes),
        "repeats": arguments.repeats,
        "results": [],
    }
    print(table.heading(report))
    for task in tasks:
        record = measure.measure(
            task,
            sizes,
            report["machine"],
            warm_up=arguments.warm_up,
            repeats=arguments.repeats,
            with_memory=arguments.peak_memory,
        )
        report["results"].append(record)
        print(table.rows(record), flush=True)
    if arguments.json is not None:
        write_json(_file(arguments.json, report), report)
    return report


def _file(wanted: Path, report: dict[str, Any]) -> Path:
    """The file itself, or one in the folder, whose name no earlier one has."""
    if not wanted.is_dir():
        return wanted
    machine = re.sub(r"[^A-Za-z0-9]+", "-", report["machine"]["processor"]).strip("-")
    stem = f"{report['date']}-{report['sizes']['preset']}-{machine}"
    names = (f"{stem}{suffix}.json" for suffix in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(file for name in names if not (file := wanted / name).exists())


if __name__ == "__main__":
    main()
