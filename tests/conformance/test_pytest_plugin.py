"""`pytest --pyargs conformance` with options, in a separate process and directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ADAPTER = """
from conformance.adapter import ReferenceAdapter

class Wrong(ReferenceAdapter):
    def build(self, spec):
        class Faulty:
            def forward(self, x, context=None):
                y, log_det = spec.forward(x, context)
                return y, -log_det
            inverse = staticmethod(spec.inverse)
        return Faulty()
"""


def run(directory, *arguments, **environment):
    (directory / "mine.py").write_text(ADAPTER)
    path = os.pathsep.join([str(ROOT), str(directory)])
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )


CHOSEN = ("--cases", "affine/shared", "--laws", "forward log_det", "--dtype", "float64")


def test_options_choose_and_a_wrong_adapter_fails(tmp_path):
    done = run(
        tmp_path,
        "-p",
        "conformance.pytest_plugin",
        "--pyargs",
        "conformance",
        "--adapter",
        "mine:Wrong",
        *CHOSEN,
        "--html",
        "report.html",
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    assert "probable cause: log_det of forward has the opposite sign" in done.stdout
    assert "1 holds, 0 imprecise, 1 fails" in done.stdout
    assert "opposite sign" in (tmp_path / "report.html").read_text()


def test_known_failures_are_expected(tmp_path):
    (tmp_path / "known.txt").write_text("affine/*, log_det, *, the sign is wrong\n")
    done = run(
        tmp_path,
        "-p",
        "conformance.pytest_plugin",
        "--pyargs",
        "conformance",
        "--adapter",
        "mine:Wrong",
        *CHOSEN,
        "--xfails",
        "known.txt",
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed, 1 xfailed" in done.stdout


def test_the_environment_does_the_same(tmp_path):
    done = run(
        tmp_path,
        "--pyargs",
        "conformance.test_laws",
        CONFORMANCE_ADAPTER="mine:Wrong",
        CONFORMANCE_CASES="affine/shared",
        CONFORMANCE_LAWS="forward log_det",
        CONFORMANCE_DTYPE="float32 float64",
    )
    assert "1 failed, 1 passed, 2 skipped" in done.stdout, done.stdout + done.stderr


def test_in_the_directory_of_the_suite_options_need_no_plugin():
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--pyargs",
            "conformance",
            "--adapter",
            "conformance.adapter:ReferenceAdapter",
            *CHOSEN,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "other"), [("timeout", "pytest_timeout"), ("html", "pytest_html")]
)
def test_another_plugin_may_have_an_option_of_the_same_name(tmp_path, name, other):
    """Installed plugins are loaded after those on the command line."""
    (tmp_path / f"{other}.py").write_text(
        f"def pytest_addoption(parser):\n    parser.addoption('--{name}', dest='other')\n"
    )
    metadata = tmp_path / f"{other}-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {other}\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[pytest11]\nother = {other}\n")
    plugin = ("-p", "conformance.pytest_plugin", "--pyargs", "conformance", *CHOSEN)
    done = run(tmp_path, *plugin, f"--{name}", "7", f"--conformance-{name}", "30")
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    assert (tmp_path / "30").is_file() == (name == "html")


def test_options_have_a_name_that_nothing_else_has(tmp_path):
    done = run(tmp_path, "-p", "conformance.pytest_plugin", "--help")
    for name in ("adapter", "timeout", "html"):
        assert f"--conformance-{name}=" in done.stdout and f"  --{name}=" in done.stdout


@pytest.mark.parametrize("arguments", [("--laws", "gravity"), ("--cases", "spline")])
def test_unknown_names_are_refused(tmp_path, arguments):
    done = run(tmp_path, "-p", "conformance.pytest_plugin", "--pyargs", "conformance", *arguments)
    assert done.returncode != 0 and f"no {arguments[0][2:-1]} '{arguments[1]}'" in (
        done.stdout + done.stderr
    )
