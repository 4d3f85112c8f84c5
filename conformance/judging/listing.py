"""The lists of laws, cases and specifications that `--list` prints."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from conformance.cases import CASES, RandomCase
from conformance.judging.plan import AnyCase
from conformance.laws import LAWS
from conformance.numerics.specs import is_object

MAX_TEXT = 60


def names() -> Iterator[str]:
    """Yield a line for each law and each case."""
    for law in LAWS.values():
        yield f"law   {law.name:22} {law.meaning}"
    for name in CASES:
        yield f"case  {name}"


def specifications(cases: Iterable[AnyCase]) -> Iterator[str]:
    """Yield each class that `build` receives, its docstring, and the fields of its cases."""
    described: set[Any] = set()
    for case in cases:
        if isinstance(case, RandomCase):
            yield f"case  {case.name}: drawn by the law random_specs, of many sizes by sizes"
            continue
        rng = np.random.default_rng(0)
        spec = case.build(rng)
        kind = type(spec) if is_object(spec) else spec
        if kind not in described:
            described.add(kind)
            yield f"\n{kind.__module__}.{kind.__name__}"
            yield from (
                f"    {line}".rstrip() for line in (inspect.getdoc(kind) or "").split("\n")
            )
        inputs = case.typical(rng)
        arguments = inputs if isinstance(inputs, dict) else {"x": inputs}
        shown = [f"{name} {_text(array)}" for name, array in arguments.items()]
        yield f"case  {case.name}: {', '.join(shown)}"
        yield from _fields(spec, "      ")


def _fields(spec: Any, indent: str) -> Iterator[str]:
    for field in dataclasses.fields(spec) if is_object(spec) else ():
        yield f"{indent}{field.name}: {_text(getattr(spec, field.name))}"


def _text(value: Any) -> str:
    """Return an array's shape and dtype, the class of an object, or a number itself."""
    if isinstance(value, np.ndarray):
        return f"{value.shape} {value.dtype}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_text, value))})"
    if is_object(value) or callable(value):
        return getattr(value, "__name__", type(value).__name__)
    text = repr(value)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}..."
