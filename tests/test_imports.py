"""Import rules that ruff and import-linter do not check."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TREES = ("reference", "flowpp", "conformance")
PACKAGES = sorted(path.parent for tree in TREES for path in (ROOT / tree).rglob("__init__.py"))


def imports(path: Path) -> set[str]:
    """Absolute names of the modules and of the names in modules that a file imports."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def modules_of(package: Path) -> list[Path]:
    return [path for path in package.glob("*.py") if path.name != "__init__.py"]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_module_imports_from_the_face_of_its_own_package(package):
    name = ".".join(package.relative_to(ROOT).parts)
    submodules = {path.stem for path in modules_of(package)} | {
        path.parent.name for path in package.glob("*/__init__.py")
    }
    at_fault = {
        f"{path.name}: {imported}"
        for path in modules_of(package)
        for imported in imports(path)
        if imported.rpartition(".")[0] == name and imported.rpartition(".")[2] not in submodules
    }
    if name == "flowpp":  # the public interface is for users; commands print its version
        at_fault = {fault for fault in at_fault if not fault.endswith("flowpp.__version__")}
    assert at_fault == set()


@pytest.mark.parametrize("tree", TREES)
def test_package_faces_import_at_the_top(tree):
    silenced = [
        str(path.relative_to(ROOT))
        for path in (ROOT / tree).rglob("__init__.py")
        if "E402" in path.read_text()
    ]
    assert silenced == []


@pytest.mark.parametrize("module", ["flowpp", "flowpp.config", "flowpp.config.presets"])
def test_settings_and_the_library_itself_import_quickly(module):
    """torch takes seconds to import, and help texts need none of it."""
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
