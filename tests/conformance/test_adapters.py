from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from conformance.adapter import NotSupported, ReferenceAdapter, load
from conformance.adapters.flowpp import FlowppAdapter, from_reference, to_reference
from reference.bijectors import Affine, Chain, Flip, InvertibleConvLU


@dataclass(frozen=True, eq=False)
class WithoutTwin:
    """Class without a twin in flowpp."""

    shift: np.ndarray


def test_adapters_are_found_by_name():
    assert load("conformance.adapters.flowpp:FlowppAdapter") is FlowppAdapter


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("FlowppAdapter", "module:Class, got 'FlowppAdapter'"),
        ("conformance.adapter:", "module:Class"),
        ("no_such_module:Adapter", "No module 'no_such_module'"),
        ("conformance.adapter:Nobody", "has no class 'Nobody'"),
    ],
)
def test_invalid_names_are_rejected(name, message):
    with pytest.raises(ValueError, match=message):
        load(name)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 / 0\n", r"broken_adapter.py, line 1: ZeroDivisionError: division by zero"),
        ("x = 1\ndef\n", r"broken_adapter.py, line 2: SyntaxError"),
        ("import no_such_package\n", "No module 'no_such_package'"),
    ],
)
def test_a_module_that_raises_when_imported_is_named(tmp_path, monkeypatch, source, message):
    (tmp_path / "broken_adapter.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=message):
        load("broken_adapter:Adapter")


def test_the_reference_is_float64_only():
    with pytest.raises(NotSupported, match="float64, not in float32"):
        ReferenceAdapter(dtype="float32")


def test_a_class_without_a_twin_is_not_supported():
    with pytest.raises(NotSupported, match="flowpp has no WithoutTwin"):
        FlowppAdapter().build(WithoutTwin(np.zeros(1)))


def test_objects_without_a_twin_are_rejected():
    with pytest.raises(TypeError, match="cannot convert a dict"):
        to_reference({})
    with pytest.raises(TypeError, match="cannot convert a Linear"):
        to_reference(torch.nn.Linear(2, 2))
    with pytest.raises(TypeError, match="cannot convert a set"):
        from_reference({1})


def test_nested_fields_keep_their_types():
    lu = InvertibleConvLU(
        np.array([[1, 2, 0]]),
        np.zeros((1, 3, 3)),
        np.ones((1, 3, 3)),
        np.zeros((1, 3)),
        np.array([[1.0, -1.0, 1.0]]),
    )
    affine = Affine(np.ones(1), np.zeros(1))
    module = from_reference(Chain((lu, Flip(), Chain((affine,)))), "float32")
    assert module.bijectors[0].permutation.dtype == torch.int64
    assert module.bijectors[0].lower.dtype == torch.float32
    assert not module.training
    back = to_reference(module)
    assert isinstance(back.bijectors, tuple) and isinstance(back.bijectors[1], Flip)
    assert back.bijectors[0].permutation.dtype == np.int64
    assert back.bijectors[2].bijectors[0].log_scale.dtype == np.float64


def test_an_unused_field_has_a_zero_gradient():
    built = FlowppAdapter().build(Affine(np.zeros((2, 1, 1)), np.zeros((2, 1, 1))))
    x = np.ones((1, 2, 1, 1))
    found = built.vjp(x, None, np.zeros_like(x), np.ones(1))
    np.testing.assert_array_equal(found["shift"], 0.0)
    np.testing.assert_array_equal(found["log_scale"], 1.0)


def test_building_does_not_share_memory_with_the_spec():
    spec = Affine(np.ones((1, 2, 1, 1)), np.zeros((1, 2, 1, 1)))
    with torch.no_grad():
        from_reference(spec).log_scale.mul_(5.0)
    np.testing.assert_array_equal(spec.log_scale, 1.0)
