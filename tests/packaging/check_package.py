"""Build both archives, check them, install the wheel and use it from an empty folder.

Run by `tox -e package`, which installs build and twine. Arguments after -- are passed to pip
install, such as --extra-index-url for torch's CPU build.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TREES = {"reference", "flowpp", "conformance"}
NOT_PACKAGED = {"ruff.toml"}
"""Files of the trees that only development uses."""


def main() -> None:
    """Run all checks in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        build = [sys.executable, "-m", "build", "--outdir", scratch / "dist", sources(scratch)]
        run(build, scratch)
        (wheel,) = (scratch / "dist").glob("*.whl")
        (archive,) = (scratch / "dist").glob("*.tar.gz")
        run([sys.executable, "-m", "twine", "check", "--strict", wheel, archive], scratch)
        check_content(wheel)
        check_archive(archive)
        use(wheel, scratch, sys.argv[1:])


def tracked() -> list[str]:
    """Return the existing files under version control."""
    git = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    names = git.stdout.decode().split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


def sources(scratch: Path) -> Path:
    """Copy the files under version control, so that no other file gets into an archive."""
    copy = scratch / "sources"
    for name in tracked():
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    return copy


def check_content(wheel: Path) -> None:
    """Require every file of the three trees, the license, and nothing else."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    extra = {top for top in tops - TREES if not top.endswith(".dist-info")}
    required = [name for name in tracked() if name.split("/")[0] in TREES]
    missing = [
        name for name in required if name not in names and Path(name).name not in NOT_PACKAGED
    ]
    if extra or missing:
        raise SystemExit(f"wheel has unexpected {sorted(extra)}, lacks {missing}")
    if not any(name.endswith("licenses/LICENSE") for name in names):
        raise SystemExit("wheel lacks the license")


def check_archive(archive: Path) -> None:
    """Require every file of flowpp in the source archive, from which others build wheels."""
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    required = [name for name in tracked() if name.startswith("flowpp/")]
    missing = [
        name for name in required if name not in names and Path(name).name not in NOT_PACKAGED
    ]
    if missing:
        raise SystemExit(f"source archive lacks {missing}")


def use(wheel: Path, scratch: Path, options: list[str]) -> None:
    """Install the wheel into a new environment; train, sample and report from an empty folder."""
    venv.create(scratch / "fresh", with_pip=True)
    python = scratch / "fresh" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    empty = scratch / "empty"
    empty.mkdir()
    run([python, "-m", "pip", "install", "--quiet", *options, wheel], empty)
    run([python, "-m", "flowpp.train", "digits", "--training.steps", "3"], empty)
    (result,) = (empty / "runs").glob("*/result.json")
    print(result.read_text())
    run([python, "-m", "flowpp.sample", "digits", "--count", "4"], empty)
    report = ["--bijectors", "Flip", "--html", "report.html"]
    run([python, "-m", "conformance", *report], empty)


def run(command: list[str | Path], folder: Path) -> None:
    """Run a command in a folder outside the repository, and require success."""
    print("$", *command, flush=True)
    subprocess.run([str(c) for c in command], cwd=folder, check=True)


if __name__ == "__main__":
    main()
