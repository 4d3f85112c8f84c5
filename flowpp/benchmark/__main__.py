"""python -m flowpp.benchmark [--preset cifar10] [--what train,sample] [--json FILE]

python -m flowpp.benchmark gpu-check --out FOLDER is `flowpp.benchmark.gpu_check`, and
python -m flowpp.benchmark recipe PLAN.toml --out FOLDER is `flowpp.benchmark.recipe`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from flowpp.config.checks import at_least
from flowpp.config.command_line import parse, user_errors
from flowpp.config.settings import Compilation, CudaGraph, Memory, Precision
from flowpp.runtime.standard_output import exit_on_broken_pipe


@dataclass(frozen=True)
class Arguments:
    """Command-line arguments."""

    preset: str = "cifar10"
    """Name of the preset whose model is measured, on random images of its kind."""
    batch_size: int = 2
    """Number of images per batch."""
    what: str = "train,sample,evaluate,mixture"
    """Tasks, separated by commas; `mixture` is the mixture's forward, backward and inverse,
    `layouts` the same in a coupling, for networks whose output is NCHW or channels last."""
    json: Path | None = None
    """File for the report, or folder for a file named by date and machine."""
    repeats: int = 5
    """Number of timed calls of each task and implementation."""
    warm_up: int = 1
    """Number of untimed calls before them."""
    threads: int | None = None
    """Number of CPU threads; None for torch's default."""
    elements: int = 200_000
    """Number of scalars in the mixture tasks."""
    components: int = 32
    """Number of mixture components in the mixture tasks."""
    memory: Memory = "normal"
    """Setting `training.memory` of the library's model."""
    precision: Precision = "float32"
    """Setting `training.precision` of the library's model."""
    peak_memory: bool = True
    """Measure peak memory, in two more processes per task."""
    device: str = "auto"
    """Device to measure on, such as cpu, cuda or cuda:1; auto takes a GPU if there is one."""
    compile: Compilation = "auto"
    """Setting `training.compile` of the library's training step."""
    cuda_graph: CudaGraph = "auto"
    """Setting `training.cuda_graph` of the library's training step."""
    baseline: bool = True
    """Measure the textbook version too."""

    def __post_init__(self) -> None:
        """Validate counts and the report's folder."""
        for name in ("batch_size", "repeats", "elements", "components", "threads"):
            at_least(name, getattr(self, name), 1)
        at_least("warm_up", self.warm_up, 0)
        if self.json is not None and not self.json.parent.is_dir():
            raise ValueError(f"json must be in an existing folder, got {self.json}")


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure the tasks, print a table, and write and return the report."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] == "gpu-check":
        from flowpp.benchmark.gpu_check import __main__ as gpu_check

        return gpu_check.main(argv[1:])
    if argv and argv[0] == "recipe":
        from flowpp.benchmark.recipe import __main__ as recipe

        return recipe.main(argv[1:])
    with user_errors():
        arguments = parse(
            Arguments,
            argv,
            prog="python -m flowpp.benchmark",
            description="Compare time and memory of the library with a textbook implementation.\n"
            "`python -m flowpp.benchmark gpu-check --out FOLDER` checks a GPU instead, and\n"
            "`python -m flowpp.benchmark recipe PLAN --out FOLDER` compares training recipes.",
        )
        import torch  # takes seconds, so only after parsing

        from flowpp.config import presets
        from flowpp.kernels.backend import check_variable
        from flowpp.runtime.device import usable_device
        from flowpp.runtime.files import make_writable_folder, write_json

        from . import measure, report_files

        names = measure.tasks_named(arguments.what)
        presets.get(arguments.preset)
        device = usable_device(arguments.device)
        check_variable(str(device))
        if arguments.json is not None:
            folder = arguments.json if arguments.json.is_dir() else arguments.json.parent
            make_writable_folder(folder)
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    report = measured(arguments, names, str(device))
    if arguments.json is not None:
        write_json(report_files.path(arguments.json, report, report["sizes"]["preset"]), report)
    return report


def measured(arguments: Arguments, names: Sequence[str], device: str) -> dict[str, Any]:
    """Measure the tasks of these names, and print and return the report."""
    import torch

    from flowpp.config.build import float32_meaning
    from flowpp.runtime.precision import float32_precision

    from . import machine, measure, table
    from .tasks import VERSIONS, Sizes

    sizes = Sizes(
        arguments.preset,
        arguments.batch_size,
        arguments.elements,
        arguments.components,
        arguments.memory,
        arguments.precision,
        device,
        arguments.compile,
        arguments.cuda_graph,
    )
    report: dict[str, Any] = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": machine.describe(min(15, 3 * arguments.repeats), torch.device(device)),
        "sizes": asdict(sizes),
        "repeats": arguments.repeats,
        "results": [],
    }
    print(table.heading(report))
    for task in names:
        with float32_precision(float32_meaning(arguments.precision)):
            record = measure.measure(
                task,
                sizes,
                report["machine"],
                warm_up=arguments.warm_up,
                repeats=arguments.repeats,
                with_memory=arguments.peak_memory,
                versions=VERSIONS if arguments.baseline else VERSIONS[:1],
            )
        report["results"].append(record)
        print(table.rows(record), flush=True)
    return report


if __name__ == "__main__":
    with exit_on_broken_pipe():
        main()
