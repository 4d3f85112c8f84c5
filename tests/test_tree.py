"""The two trees are twins: the same files, classes, fields and defaults; each class has a case."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

import reference
from conformance.adapters.flowpp import from_reference, to_reference
from conformance.cases import CASES
from conformance.numerics.specs import differences, objects, rounded

ROOT = Path(__file__).parents[1]
RESULTS = {
    "Elbo": "a result of FlowPlusPlus, whose cases compare it term by term",
    "Root": "a certificate: the root finders differ, so only their roots are compared",
}
HELPERS = {
    "__init__", "bijector", "checks", "fields", "log_dets", "activation", "dropout", "position"
}  # fmt: skip
"""Modules of the packages below that define no twin classes."""
MODULES = ["augmentation", "context", "dequantization", "elementwise", "model", "objective"] + [
    f"{package}.{path.stem}"
    for package in ("bijectors", "conditioner")
    for path in sorted((ROOT / "reference" / package).glob("*.py"))
    if path.stem not in HELPERS
]


def specified(module_name: str) -> dict[str, type]:
    """Return the public dataclasses that a module of the reference defines."""
    module = importlib.import_module(f"reference.{module_name}")
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and value.__module__ == module.__name__
        and dataclasses.is_dataclass(value)
        and not name.startswith("_")
    }


def parameters(kind: type) -> dict[str, object]:
    """Return the names and defaults of a flowpp class's constructor arguments."""
    return {
        name: p.default
        for name, p in inspect.signature(kind).parameters.items()
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)  # nn.Module's own are not fields
    }


PAIRS = [(module, name) for module in MODULES for name in specified(module)]


def test_bijectors_lie_in_files_of_the_same_names():
    reference_files, flowpp_files = (
        {path.name for path in (ROOT / tree / "bijectors").glob("*.py")}
        for tree in ("reference", "flowpp")
    )
    assert reference_files == flowpp_files


def test_bijectors_export_the_same_names():
    mine, twins = (
        importlib.import_module(f"{tree}.bijectors").__all__ for tree in ("reference", "flowpp")
    )
    assert sorted(mine) == sorted(twins)


@pytest.mark.parametrize("module", MODULES)
def test_modules_define_the_same_classes(module):
    twin = importlib.import_module(f"flowpp.{module}")
    missing = set(specified(module)) - set(vars(twin))
    assert not missing
    if module.startswith("bijectors."):
        classes = {
            name
            for name, value in vars(twin).items()
            if inspect.isclass(value)
            and issubclass(value, torch.nn.Module)
            and value.__module__ == twin.__name__
        }
        assert classes == set(specified(module))


@pytest.mark.parametrize(("module", "name"), PAIRS)
def test_fields_and_defaults_are_the_same(module, name):
    expected = {
        field.name: inspect.Parameter.empty
        if field.default is dataclasses.MISSING
        else field.default
        for field in dataclasses.fields(specified(module)[name])
    }
    got = parameters(getattr(importlib.import_module(f"flowpp.{module}"), name))
    assert list(got.items()) == list(expected.items())


def test_every_class_has_a_case():
    tested = {
        type(found).__name__
        for case in CASES.values()
        for found in objects(case.build(np.random.default_rng(0)))
    }
    assert {name for _, name in PAIRS} - tested - set(RESULTS) == set()


def test_every_bijector_has_a_case_named_after_it():
    exported = importlib.import_module("reference.bijectors").__all__
    with_cases = {name.split("/")[0] for name in CASES}
    named = {snake(name) for name in exported if name != "Bijector"}
    assert named - with_cases == set()


def snake(name: str) -> str:
    """Return the name of a class's file: InvertibleConvLU -> invertible_conv_lu."""
    return next(
        module.split(".")[-1]
        for module in MODULES
        if hasattr(importlib.import_module(f"reference.{module}"), name)
        and getattr(importlib.import_module(f"reference.{module}"), name).__module__
        == f"reference.{module}"
    )


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_conversion_between_the_trees_is_lossless(name, dtype):
    spec = rounded(CASES[name].build(np.random.default_rng(1)), dtype)
    if not dataclasses.is_dataclass(spec):
        pytest.skip("a function has no fields")
    assert differences(to_reference(from_reference(spec, dtype)), spec) == []


def test_the_imported_reference_is_this_repositorys():
    assert Path(reference.__file__).parent == ROOT / "reference"
