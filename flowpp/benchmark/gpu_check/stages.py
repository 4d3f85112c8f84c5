"""The stages of a check, in order."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from . import summaries
from .plan import ROOT, Plan, python
from .request import command as measurement
from .stage import Stage

TEST_FOLDERS = ("tests/gpu", "tests/kernels")
"""Folders of a checkout with tests that need a GPU."""
MAX_JOBS = 8
TEST_PROCESSES = 6
"""Processes of the tests, with pytest-xdist: one alone takes some five minutes."""
Command = Callable[[Plan, Path, float], list[str]]


def tests(plan: Plan, folder: Path, _: float) -> list[str]:
    """Return the command of the tests that need a GPU, or in small of a few others."""
    if plan.on_cuda:
        # The laws have stages of their own.
        chosen = ["-m", "gpu and not slow", "-k", "not test_laws_hold"]
        chosen += [f for f in TEST_FOLDERS if (ROOT / f).is_dir()]
        if importlib.util.find_spec("xdist"):
            chosen += ["-n", str(min(os.cpu_count() or 1, TEST_PROCESSES))]
    else:
        chosen = ["tests/benchmarks/test_timing.py"]
    flags = "-q -rfE --tb short -p no:cacheprovider -W default --junitxml".split()
    return python("pytest", *flags, folder / "junit.xml", *chosen)


def laws(dtype: str) -> Command:
    """Return the command of all laws in one dtype, as a user gets it."""

    def build(plan: Plan, folder: Path, _: float) -> list[str]:
        jobs = min(os.cpu_count() or 1, MAX_JOBS)
        flags = ["--device", plan.device, "--dtype", dtype, "--json", folder / "laws.json"]
        few = ["--cases", "mixture_logistic/one_component", "--jobs", 1]
        return python("conformance", *flags, *(few if plan.tiny else ["--jobs", jobs]))

    return build


def benchmark(what: str, *flags: object, tiny: tuple[object, ...] = ()) -> Command:
    """Return a command of the benchmark, without its textbook version."""

    def build(plan: Plan, folder: Path, _: float) -> list[str]:
        common = ["--preset", plan.preset, "--device", plan.device, "--what", what]
        small = ["--repeats", 1, "--warm_up", 1, "--no_peak_memory", *tiny] if plan.tiny else []
        return python(
            "flowpp.benchmark", *common, "--no_baseline", *flags, *small,
            "--json", folder / "report.json",
        )  # fmt: skip

    return build


def step(batch_size: int, precision: str, *, compile: str = "auto") -> Command:
    """Return the benchmark of a training step, which a CUDA graph replays if it can."""
    flags = ["--batch_size", batch_size, "--precision", precision, "--compile", compile]
    return benchmark("train", *flags, "--repeats", 10, tiny=("--batch_size", 4))


def evaluation(*flags: object, tiny: tuple[object, ...]) -> Command:
    """Return an evaluation of the trained run."""

    def build(plan: Plan, folder: Path, _: float) -> list[str]:
        small = tiny if plan.tiny else ()
        return python(
            "flowpp.evaluate", plan.run, "--device", plan.device, *flags, *small,
            "--out", folder / "receipt.json",
        )  # fmt: skip

    return build


def samples(plan: Plan, folder: Path, _: float) -> list[str]:
    """Return the command that draws images from the trained run."""
    count = 4 if plan.tiny else 36
    flags = ["--count", count, "--device", plan.device, "--out", folder / "drawn-samples.png"]
    return python("flowpp.sample", plan.run, *flags)


def curve(plan: Plan, folder: Path, _: float) -> list[str]:
    """Return the command that plots bits/dim against images seen."""
    return python("flowpp.plot", plan.run, "--images_seen", "--out", folder)


def needs(module: str) -> Callable[[Plan], str | None]:
    """Return a check that a module is installed."""

    def reason(_: Plan) -> str | None:
        return None if importlib.util.find_spec(module) else f"{module} is not installed"

    return reason


def no_compiler(_: Plan) -> str | None:
    """Return why the kernels' registers cannot be read."""
    return None if shutil.which("nvcc") else "nvcc is not on PATH"


def not_compiled(plan: Plan) -> str | None:
    """Return why a step without torch.compile is no other step."""
    return None if plan.on_cuda else f"training does not compile on the {plan.device} anyway"


def no_tests(plan: Plan) -> str | None:
    """Return why the tests cannot be run."""
    if not (ROOT / "tests").is_dir():
        return f"{ROOT} has no tests: not a checkout"
    return needs("pytest")(plan)


def no_run(plan: Plan) -> str | None:
    """Return why nothing can be evaluated."""
    if not any((plan.run / "checkpoints").glob("*.safetensors")):
        raise FileNotFoundError("the training stage has left no checkpoint")
    return None


def no_curve(plan: Plan) -> str | None:
    """Return why no curve can be drawn."""
    return needs("matplotlib")(plan) or no_run(plan)


MIXTURE = benchmark(
    "mixture,layouts", "--elements", 2_000_000, "--components", 32, "--warm_up", 3,
    tiny=("--elements", 2000, "--components", 2),
)  # fmt: skip

# What every result depends on comes first, and what can be left out comes last: the first step
# with compiled blocks takes minutes where they have not been compiled before.
STAGES = (
    Stage("machine", 25, measurement("machine")),
    Stage("compiler", 40, measurement("compiler"), lacking=no_compiler),
    Stage("tests", 150, tests, summaries.tests, lacking=no_tests),
    Stage("laws-float32", 60, laws("float32"), summaries.laws, lacking=needs("conformance")),
    Stage("laws-float64", 60, laws("float64"), summaries.laws, lacking=needs("conformance")),
    Stage("fingerprint", 60, measurement("fingerprint")),
    Stage("initialization", 30, measurement("initialization")),
    Stage("mixture", 40, MIXTURE, summaries.benchmark),
    Stage("step-64-bfloat16", 150, step(64, "bfloat16"), summaries.benchmark),
    Stage(
        "step-64-bfloat16-eager", 40, step(64, "bfloat16", compile="none"), summaries.benchmark,
        lacking=not_compiled, optional=True,
    ),
    Stage(
        "step-64-float32-eager", 40, step(64, "float32", compile="none"), summaries.benchmark,
        optional=True,
    ),
    Stage("step-256-bfloat16", 150, step(256, "bfloat16"), summaries.benchmark, optional=True),
    Stage("training", 0, measurement("training"), place="training"),
    Stage(
        "evaluation", 20, evaluation("--images", 64, tiny=("--images", 8)), summaries.evaluation,
        lacking=no_run, place="after",
    ),
    Stage(
        "importance", 20,
        evaluation("--images", 8, "--importance_samples", 16, tiny=("--images", 2)),
        summaries.evaluation, lacking=no_run, place="after",
    ),
    Stage("samples", 15, samples, summaries.pictures, lacking=no_run, place="after"),
    Stage("curve", 10, curve, summaries.pictures, lacking=no_curve, place="after"),
)  # fmt: skip
