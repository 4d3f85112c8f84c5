"""Commands and scripts that reproduce a failure."""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any

import numpy as np

from conformance.adapter import DEFAULT_ADAPTER
from conformance.cases.random import Drawn
from conformance.numerics.specs import is_object, objects
from conformance.reports.result import Result

MAX_SPEC_LENGTH = 20_000
"""Maximum number of characters of a specification in a script."""


def command(result: Result, judge: Any, seed: int) -> str:
    """Return the command line that judges one cell again."""
    words = ["python", "-m", "conformance"]
    if judge.name != DEFAULT_ADAPTER:
        words += ["--adapter", judge.name]
    words += ["--cases", result.case, "--laws", result.law, "--dtype", result.dtype]
    words += ["--seed", str(seed)]
    if judge.device != "cpu":
        words += ["--device", judge.device]
    if result.law == "random_specs" and judge.examples > 1:
        words += ["--examples", str(judge.examples)]
    return shlex.join(words)


def script(drawn: Drawn, adapter: str, dtype: str) -> str:
    """Return Python that builds a drawn specification and prints both sides' results."""
    spec = expression(drawn.spec)
    if len(spec) > MAX_SPEC_LENGTH:
        return "# the specification is too long to be written out; the command draws it again"
    module, _, name = adapter.partition(":")
    return "\n".join(
        [
            "import numpy as np",
            *_imports(drawn.spec),
            f"from {module} import {name.split('.')[0]}",
            "",
            f"spec = {spec}",
            f"x = {expression(drawn.x)}",
            f'built = {name}(dtype="{dtype}").build(spec)',
            f'print("got ", built.forward(x.astype("{dtype}")))',
            'print("want", spec.forward(x))',
            "y = spec.forward(x)[0]",
            f'print("got ", built.inverse(y.astype("{dtype}")))',
            'print("want", spec.inverse(y))',
        ]
    )


def expression(value: Any) -> str:
    """Return Python for a value: a reference object, an array, a number or a tuple."""
    if isinstance(value, np.ndarray):
        return f"np.array({value.tolist()!r}).reshape({value.shape})"
    if isinstance(value, (tuple, list)):
        items = [expression(item) for item in value]
        return f"({', '.join(items)}{',' if len(items) == 1 else ''})"
    if is_object(value):
        fields = ", ".join(
            f"{f.name}={expression(getattr(value, f.name))}"
            for f in dataclasses.fields(value)
            if f.init
        )
        return f"{type(value).__name__}({fields})"
    return repr(value)


def _imports(spec: Any) -> list[str]:
    modules: dict[str, set[str]] = {}
    for found in objects(spec):
        module = type(found).__module__
        if module.startswith("reference.bijectors."):
            module = "reference.bijectors"
        modules.setdefault(module, set()).add(type(found).__name__)
    return [f"from {name} import {', '.join(sorted(kinds))}" for name, kinds in modules.items()]
