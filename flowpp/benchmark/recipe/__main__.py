"""python -m flowpp.benchmark.recipe PLAN.toml --out FOLDER: compare training recipes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from flowpp.config.checks import at_least
from flowpp.config.command_line import parse, user_errors
from flowpp.runtime.standard_output import exit_on_broken_pipe

if TYPE_CHECKING:
    from .execution import Task
    from .plan import Plan


@dataclass(frozen=True)
class Arguments:
    """Command-line arguments."""

    plan: Annotated[Positional[Path], arg(metavar="PLAN")]
    """TOML file with the rows to compare; `flowpp/benchmark/recipe/plan.py` describes it."""
    out: Path
    """Folder for the runs, table.md and report.json. Finished runs in it are not repeated, and
    interrupted ones are resumed."""
    data: Path | None = None
    """Images of all rows: their setting `data.path`."""
    rows: str | None = None
    """Names of rows, separated by semicolons; None for all."""
    seeds: str | None = None
    """Seeds, separated by commas; None for all of the plan."""
    threads: int | None = None
    """Number of CPU threads of each run; None for the rows' own setting."""
    jobs: int = 1
    """Number of runs at a time."""
    table_only: bool = False
    """Train nothing; write the table of the runs that there are."""

    def __post_init__(self) -> None:
        """Validate counts and paths."""
        at_least("jobs", self.jobs, 1)
        at_least("threads", self.threads, 1)
        if self.data is not None and not self.data.exists():
            raise ValueError(f"data must be an existing file or folder, got {self.data}")


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train the rows, and write and return their report.

    Raises:
        SystemExit: With status 1 if a run has failed or was stopped, 2 for a mistake in the
            arguments or the plan.
    """
    with user_errors():
        arguments = parse(
            Arguments,
            sys.argv[1:] if argv is None else argv,
            prog="python -m flowpp.benchmark recipe",
            description="Train recipes with several seeds and compare their held-out bounds.",
        )
        from flowpp.runtime.files import make_writable_folder

        from .execution import run_all, tasks
        from .outcomes import report
        from .plan import read_plan

        plan = read_plan(arguments.plan, _more(arguments))
        names = [name.strip() for name in arguments.rows.split(";")] if arguments.rows else None
        wanted = tasks(plan.select(names, _seeds(arguments.seeds)), arguments.out)
        for task in wanted:
            task.check()
        make_writable_folder(arguments.out)
        report(plan, arguments.out)  # so that quoted rows are read before hours of training
    errors: list[str] = []
    if not arguments.table_only:

        def ended(task: Task, error: str | None) -> None:
            print(f"{task.row.name}, seed {task.seed}: {error or _bound(task)}", flush=True)
            write(plan, arguments.out)

        errors = run_all(wanted, arguments.jobs, ended)
    written, text = write(plan, arguments.out)
    print(f"\n{text}")
    if errors:
        raise SystemExit("error: " + "; ".join(errors))
    return written


def write(plan: Plan, out: Path) -> tuple[dict[str, Any], str]:
    """Write report.json and table.md, and return both."""
    from flowpp.runtime.files import atomic_write, write_json

    from .outcomes import report
    from .tables import markdown

    written = report(plan, out)
    text = f"{markdown(written)}\n"
    write_json(out / "report.json", written)
    with atomic_write(out / "table.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return written, text


def _more(arguments: Arguments) -> dict[str, Any]:
    more: dict[str, Any] = {}
    if arguments.data is not None:
        more["data.path"] = str(arguments.data.resolve())
    if arguments.threads is not None:
        more["training.threads"] = arguments.threads
    return more


def _seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError:
        raise ValueError(f"seeds must be whole numbers with commas, got {text!r}") from None


def _bound(task: Task) -> str:
    """Return the final bound of a finished run."""
    from flowpp.runs.run import Run

    result = Run.open(task.path).facts("result.json")
    return f"{result['bits_per_dim']:.4f} bits/dim after {result['steps']} steps"


if __name__ == "__main__":
    with exit_on_broken_pipe():
        main()
