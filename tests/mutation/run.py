"""Mutation testing of one part of the library with mutmut: `tox -e mutation -- batches`.

mutmut makes no mutants of functions with a decorator. Here it does, except of cached functions:
their values are computed before a mutant's process is forked, so that it would never be called.
"""

from __future__ import annotations

import dataclasses
import os
import sys

import libcst as cst
from mutmut import configuration
from mutmut.__main__ import cli
from mutmut.mutation import file_mutation

FLIP, SIZES = "tests/training/test_flip.py::test_", "tests/evaluation/test_batch_size.py::test_"
PARTS = {
    "batches": (
        ["flowpp/training/batches.py"],
        [
            "tests/training/test_batches.py",
            FLIP + "half_of_the_images_are_mirrored_and_no_other_number_changes",
            FLIP + "they_change_from_draw_to_draw_and_repeat_with_the_generator",
            FLIP + "sixteen_bits_reach_the_model",
        ],
    ),
    "bounds": (
        [f"flowpp/evaluation/{name}.py" for name in ("bound", "importance", "batch_size")],
        [
            "tests/evaluation/test_bound.py",
            SIZES + "out_of_memory_halves_the_batch_once_and_for_all",
            SIZES + "a_single_row_that_does_not_fit_is_an_error",
            SIZES + "other_errors_are_raised_at_once",
            SIZES + "the_memory_on_a_cpu_is_512_megabytes_or_half_of_what_is_free",
            SIZES + "a_gpus_memory_is_measured",
            SIZES + "a_gpu_with_little_memory_starts_with_a_small_batch",
        ],
    ),
    "checkpoint": (["flowpp/runs/checkpoint.py"], ["tests/runs/test_checkpoint.py"]),
}
"""Files to be mutated and the tests that judge their mutants, by part."""
INNER = ("staticmethod", "classmethod")
"""Decorators that mutmut handles itself."""
CACHES = ("cache", "lru_cache", "cached_property")

_skip = file_mutation.MutationVisitor._skip_node_and_children
_arrange = file_mutation.function_trampoline_arrangement


def names(function: cst.FunctionDef) -> list[str]:
    """Return the last part of each decorator's name: no_grad for torch.no_grad()."""
    found = []
    for decorator in function.decorators:
        node = decorator.decorator
        node = node.func if isinstance(node, cst.Call) else node
        found.append(node.attr.value if isinstance(node, cst.Attribute) else node.value)
    return found


def skip(visitor: file_mutation.MutationVisitor, node: cst.CSTNode) -> bool:
    """Skip what mutmut skips, but functions with decorators only if they are cached."""
    if isinstance(node, cst.FunctionDef) and not set(names(node)) & {*CACHES, *INNER}:
        node = node.with_changes(decorators=[])
    return _skip(visitor, node)


def arrange(function: cst.FunctionDef, *args, **kwargs):
    """Apply decorators to the function that chooses the mutant, not to each mutant."""
    decorated = function.decorators and not set(names(function)) & set(INNER)
    empty, nodes, assignments, mutants = _arrange(function, *args, **kwargs)
    if decorated:
        nodes = [nodes[0], *(node.with_changes(decorators=[]) for node in nodes[1:])]
    return empty, nodes, assignments, mutants


def main() -> None:
    """Configure mutmut for a part, and pass it the other arguments: `run`, `results`, `show`."""
    os.environ.setdefault("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # none is needed; each is slow
    part, *arguments = sys.argv[1:]
    files, tests = PARTS[part]
    configuration._config = dataclasses.replace(
        configuration.config(), only_mutate=files, pytest_add_cli_args_test_selection=tests
    )
    file_mutation.MutationVisitor._skip_node_and_children = skip
    file_mutation.function_trampoline_arrangement = arrange
    cli(arguments or ["run"], standalone_mode=False)


if __name__ == "__main__":
    main()
