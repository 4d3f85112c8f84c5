"""Build both archives, check them, install the wheel afresh and train three steps with it.

Run by `tox -e package`, with build and twine beside it. What follows -- is passed to pip install,
such as --extra-index-url for torch's CPU build.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NEEDED = (  # what a wheel easily forgets: files that are no Python
    "flowpp/kernels/cuda/mixture_logistic.cu",
    "flowpp/kernels/cpu/mixture_logistic.cpp",
    "flowpp/kernels/cpu/layers.cpp",
    "flowpp/kernels/cpu/convolution.cpp",
    "flowpp/kernels/cpu/attention.cpp",
    "flowpp/kernels/cpu/exponential.h",
    "flowpp/kernels/cpu/lanes.h",
    "flowpp/kernels/cpu/parallel.h",
    "flowpp/kernels/cpu/scratch.h",
    "flowpp/kernels/cpu/winograd.h",
)
TREES = {"reference", "flowpp", "conformance"}


def main() -> None:
    """All of it, in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        build = [sys.executable, "-m", "build", "--outdir", scratch / "dist", sources(scratch)]
        run(build, scratch)
        (wheel,) = (scratch / "dist").glob("*.whl")
        (archive,) = (scratch / "dist").glob("*.tar.gz")
        run([sys.executable, "-m", "twine", "check", "--strict", wheel, archive], scratch)
        check_content(wheel)
        train_with(wheel, scratch, sys.argv[1:])


def sources(scratch: Path) -> Path:
    """A copy of what is under version control: no leftover of the working tree gets in."""
    copy = scratch / "sources"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, tracked.stdout.decode().split("\0")):
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            target.write_bytes((ROOT / name).read_bytes())
    return copy


def check_content(wheel: Path) -> None:
    """The wheel holds the three trees, their other files, the license, and nothing else."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    extra = {top for top in tops - TREES if not top.endswith(".dist-info")}
    missing = [name for name in NEEDED if name not in names]
    if extra or TREES - tops or missing:
        raise SystemExit(f"the wheel holds {sorted(tops)}; missing: {missing}")
    if not any(name.endswith("licenses/LICENSE") for name in names):
        raise SystemExit("the wheel has no license")


def train_with(wheel: Path, scratch: Path, options: list[str]) -> None:
    """Install the wheel into a fresh environment; three steps from an empty folder."""
    venv.create(scratch / "fresh", with_pip=True)
    python = scratch / "fresh" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    empty = scratch / "empty"
    empty.mkdir()
    run([python, "-m", "pip", "install", "--quiet", *options, wheel], empty)
    run([python, "-m", "flowpp.train", "digits", "--training.steps", "3"], empty)
    (result,) = (empty / "runs").glob("*/result.json")
    print(result.read_text())


def run(command: list[str | Path], folder: Path) -> None:
    """Without the paths of this environment: what is installed has to suffice."""
    print("$", *command, flush=True)
    subprocess.run([str(c) for c in command], cwd=folder, check=True)


if __name__ == "__main__":
    main()
