"""`pytest --pyargs conformance` with options, in a separate process and directory."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

toml = pytest.importorskip("tomllib") if sys.version_info >= (3, 11) else None
needs_toml = pytest.mark.skipif(toml is None, reason="tomllib came with 3.11")
ROOT = Path(__file__).parents[2]
ADAPTER = """
from conformance.adapter import NotSupported, ReferenceAdapter

class Wrong(ReferenceAdapter):
    def build(self, spec):
        class Faulty:
            def forward(self, x, context=None):
                y, log_det = spec.forward(x, context)
                return y, -log_det
            inverse = staticmethod(spec.inverse)
        return Faulty()

class Nothing(ReferenceAdapter):
    def build(self, spec):
        raise NotSupported("nothing yet")

class Imprecise(ReferenceAdapter):
    def build(self, spec):
        class Rounded:
            def forward(self, x, context=None):
                y, log_det = spec.forward(x, context)
                return y * (1 + 2.0 ** -46), log_det
            inverse = staticmethod(spec.inverse)
        return Rounded()
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
    """Also where the two results come from two processes."""
    processes = ("-n", "2") if importlib.util.find_spec("xdist") else ()
    done = run(
        tmp_path,
        *processes,
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


def installed(directory):
    """Write the metadata by which an installed package registers the plugin."""
    metadata = directory / "flowpp-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: flowpp\nVersion: 1\n")
    with (ROOT / "pyproject.toml").open("rb") as file:
        declared = toml.load(file)["project"]["entry-points"]["pytest11"]
    lines = [f"{name} = {module}" for name, module in declared.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines]))


SUITE = ("--pyargs", "conformance", "--dtype", "float64", "--cases", "affine/shared")


@needs_toml
def test_an_installed_suite_needs_no_plugin_option(tmp_path):
    installed(tmp_path)
    (tmp_path / "conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--device', default='mine')\n"
    )
    arguments = ("-k", "forward or log_det", "--junitxml", "found.xml", "--seed", "3")
    done = run(tmp_path, *SUITE, "--adapter", "mine:Wrong", *arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED" in done.stdout and "[affine/shared-log_det-float64]" in done.stdout
    suite = ElementTree.parse(tmp_path / "found.xml").getroot()[0]
    names = [case.get("name") for case in suite.iter("testcase")]
    assert "test_law[affine/shared-forward-float64]" in names


@needs_toml
def test_the_plugin_leaves_other_runs_alone(tmp_path):
    installed(tmp_path)
    (tmp_path / "conftest.py").write_text(
        "def pytest_addoption(parser):\n"
        "    for name in ('--device', '--seed', '--html'):\n"
        "        parser.addoption(name, default='mine')\n"
    )
    (tmp_path / "test_mine.py").write_text(
        "import sys\n"
        "def test_options(pytestconfig):\n"
        "    assert pytestconfig.getoption('--device') == 'theirs'\n"
        "    assert 'torch' not in sys.modules and 'reference' not in sys.modules\n"
    )
    done = run(tmp_path, "test_mine.py", "--device", "theirs")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("adapter", "arguments", "status", "text"),
    [
        ("Nothing", (), 1, "nothing was proven: no case could be judged"),
        ("Imprecise", (), 1, "IMPRECISE affine/shared | forward"),
        ("Imprecise", ("--tolerance", "65"), 0, "1 imprecise (accepted)"),
        ("Wrong", ("--laws", "value"), 4, "none of these laws applies to any of these cases"),
    ],
)
def test_the_exit_status_is_that_of_the_command(tmp_path, adapter, arguments, status, text):
    laws = () if "--laws" in arguments else ("--laws", "forward log_det")
    plugin = ("-p", "conformance.pytest_plugin", *SUITE, "--adapter", f"mine:{adapter}")
    done = run(tmp_path, *plugin, *laws, *arguments)
    shown = done.stdout + done.stderr
    assert (done.returncode == status or status == 4 and done.returncode) and text in shown, shown
