"""Optimizer state keyed by parameter name, rather than by parameter index."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from flowpp.runs.checkpoint import CheckpointError, check_shapes


class NamedState:
    """View of an optimizer's state by parameter name.

    It converts to and from the optimizer's own `state_dict`, so that it fits every optimizer; the
    class that wrote a state must also read it.

    Args:
        optimizer: Optimizer with one parameter group, built from named parameters.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer

    @property
    def kind(self) -> str:
        """Package and class of the optimizer, such as `flowpp.Adam` or `torch.AdamW`."""
        kind = type(self.optimizer)
        return f"{kind.__module__.partition('.')[0]}.{kind.__name__}"

    def state_dict(self) -> dict[str, Any]:
        """Return the group's settings by name, and tensors as {key: {parameter name: tensor}}.

        A parameter that has had no gradient yet has no tensors.
        """
        state = self.optimizer.state_dict()
        (group,) = state["param_groups"]
        names = dict(zip(group["params"], group["param_names"], strict=True))
        tensors: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for index, entry in state["state"].items():
            for key, tensor in entry.items():
                tensors[key][names[index]] = tensor
        return {**group_settings(group), **tensors}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; settings missing from `state` keep their values.

        Raises:
            CheckpointError: Tensors of another model.
            TypeError, ValueError: No settings at all, or settings of another type.
        """
        (group,) = self.optimizer.state_dict()["param_groups"]
        current = group_settings(group)
        settings = {key: _like(state[key], current[key]) for key in current if key in state}
        if not settings:
            raise ValueError(f"optimizer settings must be some of {', '.join(current)}, got none")
        entries = self._entries({k: v for k, v in state.items() if isinstance(v, Mapping)})
        self.optimizer.load_state_dict({"state": entries, "param_groups": [group | settings]})

    def _entries(
        self, tensors: Mapping[str, Mapping[str, Tensor]]
    ) -> dict[int, dict[str, Tensor]]:
        """Return copies of the tensors by parameter index, checked against the parameters."""
        (group,) = self.optimizer.param_groups
        parameters = dict(zip(group["param_names"], group["params"], strict=True))
        indices = {name: index for index, name in enumerate(parameters)}
        self._check_keys(tensors, parameters)
        entries: dict[int, dict[str, Tensor]] = defaultdict(dict)
        for key, named in tensors.items():
            # Scalars, such as a count of steps, differ in shape from the parameter.
            shaped = {name: tensor for name, tensor in named.items() if tensor.dim()}
            check_shapes({n: p for n, p in parameters.items() if n in shaped}, shaped)
            for name, tensor in named.items():
                p = parameters[name]
                # Fused kernels assume the memory layout of the parameter.
                copy = torch.empty_like(p) if tensor.shape == p.shape else torch.empty_like(tensor)
                entries[indices[name]][key] = copy.copy_(tensor)
        return dict(entries)

    def _check_keys(
        self, tensors: Mapping[str, Mapping[str, Tensor]], parameters: Mapping[str, Tensor]
    ) -> None:
        """Require all tensors of each parameter that has some.

        Raises:
            CheckpointError: One is missing or surplus.
        """
        keys_of = getattr(self.optimizer, "state_keys", lambda _: frozenset(tensors))
        for name in {name for named in tensors.values() for name in named}:
            found = {key for key, named in tensors.items() if name in named}
            if name in parameters and found != keys_of(parameters[name]):
                raise CheckpointError(
                    f"optimizer state of {name} must have {_listed(keys_of(parameters[name]))}, "
                    f"got {_listed(found)}"
                )


def group_settings(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a parameter group, without its parameters."""
    return {key: value for key, value in group.items() if key not in ("params", "param_names")}


def _listed(keys: Iterable[str]) -> str:
    return ", ".join(sorted(keys)) or "nothing"


def _like(value: Any, template: Any) -> Any:
    """Convert a value read from JSON to the type of `template`.

    Raises:
        TypeError, ValueError: It cannot be converted.
    """
    if isinstance(template, (tuple, list)):
        return type(template)(_like(v, t) for v, t in zip(value, template, strict=True))
    converted = value if template is None else type(template)(value)
    if isinstance(converted, float) and not math.isfinite(converted):
        raise ValueError(f"optimizer settings must be finite, got {converted}")
    return converted
