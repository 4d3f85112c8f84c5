"""A specification says everything that a law asks, in its fields and its docstring."""

from __future__ import annotations

import ast
import inspect
import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

import reference
from conformance.adapter import ReferenceAdapter
from conformance.cases import BIJECTOR_CASES, CASES, LAYER_CASES
from conformance.judging.judge import Judge
from conformance.laws import LAWS
from conformance.laws.layer_trial import LayerTrial
from conformance.laws.trial import Trial
from conformance.numerics.specs import float_arrays

ROOT = Path(reference.__file__).parent
MODULES = sorted(
    str(path.relative_to(ROOT.parent).with_suffix("")).replace("/", ".")
    for folder in (ROOT / "bijectors", ROOT / "conditioner")
    for path in folder.glob("*.py")
    if path.name != "__init__.py"
) + ["reference.dequantization", "reference.model", "reference.objective", "reference.elementwise"]
SMALL = 0.1
"""Constants between 0 and this are floors, offsets and the like, which change results."""


def small_constants(text: str) -> list[float]:
    """Return the small numbers in code, those of fields' defaults left out."""
    tree = ast.parse(text)
    defaults = {
        id(node.value)
        for parent in ast.walk(tree)
        if isinstance(parent, ast.ClassDef)
        for node in parent.body
        if isinstance(node, ast.AnnAssign) and node.value is not None
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, float)
        and 0.0 < node.value < SMALL
        and id(node) not in defaults
    ]


def stated(text: str, docstrings: str) -> list[float]:
    """Return the small constants of code that no docstring states."""
    said = docstrings.replace("(", " ").replace(")", " ").replace(",", " ").replace(":", " ")
    numbers = set()
    for word in said.split():
        try:
            numbers.add(float(word.rstrip(".;")))
        except ValueError:
            continue
    return [value for value in small_constants(text) if value not in numbers]


@pytest.mark.parametrize("name", MODULES)
def test_every_floor_and_offset_is_in_a_docstring(name):
    module = import_module(name)
    classes = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == name]
    parts = [part for c in classes for part in (c, *vars(c).values()) if hasattr(part, "__doc__")]
    docstrings = " ".join(part.__doc__ or "" for part in parts)
    missing = stated(inspect.getsource(module), docstrings)
    assert not missing, f"{name}: no docstring of a class states {missing}"


def test_a_floor_that_is_not_stated_is_found():
    text = "FLOOR = 1e-10\nclass Gain:\n    x: float = 1e-3\n    def f(s): return max(s.x, 1e-7)"
    assert stated(text, "y = max(x, 1e-10).") == [1e-7]
    assert stated(text, "y = max(x, 1e-7) + 1e-10") == []


@pytest.mark.parametrize("name", ["act_norm/activation", "coupling/mixture", "conv2d/same"])
def test_torch_takes_the_arrays_of_a_specification_without_a_warning(name):
    """Also by sharing their memory; each implementation has a copy of its own."""
    given = []

    class Keeping(ReferenceAdapter):
        def build(self, spec):
            given.append(spec)
            return spec

    name = name if name in CASES else next(n for n in CASES if n.startswith(name.split("/")[0]))
    kind = Trial if name in BIJECTOR_CASES else LayerTrial
    trial = kind(CASES[name], Keeping, "float64", "typical", 0)
    assert trial.built is given[0] and given[0] is not trial.spec
    before = float_arrays(trial.spec)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path, array in float_arrays(given[0]).items():
            torch.from_numpy(array).mul_(2.0)
            assert np.array_equal(float_arrays(trial.spec)[path], before[path])
            assert not np.shares_memory(array, before[path])


def test_a_layer_that_writes_to_its_specification_does_not_change_the_truth():
    class Writing(ReferenceAdapter):
        def build(self, spec):
            for array in float_arrays(spec).values():
                array[...] = 0.0
            return spec

    name = next(name for name in LAYER_CASES if name.startswith("conv2d"))
    result = Judge(Writing).judge(CASES[name], LAWS["value"], "float64")
    assert result.status == "fails"


def test_integer_arrays_are_copies_too():
    trial = Trial(
        BIJECTOR_CASES["invertible_conv_lu/joint"], ReferenceAdapter, "float64", "typical", 0
    )
    trial.given_spec.permutation[...] = 0
    assert trial.spec.permutation.any()
