"""flowpp's model of a topology: construction, released variables, gradients and training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from conformance.adapters.flowpp import (
    TORCH_DTYPES,
    FlowppAdapter,
    NumpyModule,
    from_reference,
    to_reference,
)
from flowpp.config import ModelConfig
from flowpp.config.build import build_model
from flowpp.config.serialization import from_dict
from flowpp.interop.released import copy_released, released_views, rename_scopes
from flowpp.model import FlowPlusPlus
from flowpp.training.gradients import clip_by_global_norm
from flowpp.training.initialization import initialize
from flowpp.training.optimizer import Adam

from .implementation import Implementation
from .topology import Topology

DTYPES = {"f32": "float32", "f64": "float64"}


def build(topology: Topology, variables: Mapping[str, np.ndarray]) -> FlowPlusPlus:
    """Build the model in float64 and evaluation mode, with the released variables.

    Raises:
        ValueError: The variables do not match the topology.
    """
    config = from_dict(ModelConfig, topology.settings)
    model = build_model(config, topology.image_shape, topology.levels).double().eval()
    copy_released(model, variables)
    return model


def flowpp_implementation(model: FlowPlusPlus, precision: str) -> Implementation:
    """Return flowpp in either precision; converts the model in place."""
    dtype = TORCH_DTYPES[DTYPES[precision]]
    spec = to_reference(model)
    main: Any = model.flow
    model = model.to(dtype)

    def numpy_module(module: Any) -> NumpyModule:
        return NumpyModule(module, dtype, "cpu")

    chain: Any = getattr(model.dequantizer, "flow", None)
    dequantizer = numpy_module(model.dequantizer)
    if chain is not None:
        dequantizer = _WithNetwork(model.dequantizer, dtype, "cpu")
    return Implementation(
        name="flowpp",
        precision=precision,
        spec=spec,
        built=numpy_module(model),
        flow=[numpy_module(b) for b in main.bijectors],
        dequantizer_flow=[] if chain is None else [numpy_module(b) for b in chain.bijectors],
        dequantizer=dequantizer,
        conditioner=lambda element: numpy_module(element._twin.conditioner),
        build=FlowppAdapter(DTYPES[precision]).build,  # type: ignore[arg-type]
    )


class _WithNetwork(NumpyModule):
    """Dequantizer whose network can be called separately."""

    @property
    def context_network(self) -> NumpyModule:
        return NumpyModule(self._twin.context_network, self._dtype, self._device)


def reference_twin(model: FlowPlusPlus) -> Any:
    """Return the reference's model with the same weights."""
    return to_reference(model)


def variables_of(model: Any, like: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the released variables of a flowpp or reference model, under the names of `like`.

    Variables that the released code creates but does not use are taken from `like`.
    """
    if not isinstance(model, FlowPlusPlus):
        model = from_reference(model)
    stored = {p.untyped_storage().data_ptr() for p in model.parameters()}
    views = zip(_names(model, like), released_views(model).values(), strict=True)
    return {
        name: view.numpy().copy() if view.untyped_storage().data_ptr() in stored else like[name]
        for name, view in views
    }


def with_variables(model: FlowPlusPlus, variables: Mapping[str, np.ndarray]) -> Any:
    """Load other weights into the model, and return its reference twin."""
    copy_released(model, variables)
    return to_reference(model)


def gradients(
    model: FlowPlusPlus, images: np.ndarray, noise: np.ndarray, like: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the gradient of the loss in nats, by released name; zero for unused parameters."""
    _loss(model, images, noise).backward()
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    views = released_views(model, lambda p: p.grad)  # type: ignore[arg-type, return-value]
    found = dict(zip(_names(model, like), (v.numpy().copy() for v in views.values()), strict=True))
    model.zero_grad()
    return found


def train(
    model: FlowPlusPlus,
    images: np.ndarray,
    noise: np.ndarray,
    rates: np.ndarray,
    like: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Train on one batch; return losses before each step and after the last, norms, weights."""
    optimizer = Adam(model.parameters(), lr=0.0)
    losses, norms = [], []
    for rate in rates:
        optimizer.zero_grad()
        loss = _loss(model, images, noise)
        loss.backward()
        norms.append(float(clip_by_global_norm(model.parameters(), 1.0)))
        losses.append(loss.item())
        optimizer.param_groups[0]["lr"] = float(rate)
        optimizer.step()
    losses.append(_loss(model, images, noise).item())
    after = {f"w_after/{name}": array for name, array in variables_of(model, like).items()}
    return after | {"loss": np.array(losses), "grad_norm": np.array(norms)}


def initialized(
    model: FlowPlusPlus, images: np.ndarray, noise: np.ndarray, precision: str
) -> tuple[float, np.ndarray]:
    """Initialize the model from data in place; return loss and z of that pass."""
    dtype = TORCH_DTYPES[DTYPES[precision]]
    model = model.to(dtype)
    x, eps = torch.from_numpy(images), torch.from_numpy(noise).to(dtype)
    latents: list[torch.Tensor] = []
    hook = model.flow.register_forward_hook(lambda _m, _i, output: latents.append(output[0]))
    terms = initialize(model, x, eps)
    hook.remove()
    return -float(terms.total.mean()), latents[0].numpy()


def _loss(model: FlowPlusPlus, images: np.ndarray, noise: np.ndarray) -> torch.Tensor:
    dtype = next(model.parameters()).dtype
    terms = model.elbo(torch.from_numpy(images), torch.from_numpy(noise).to(dtype))
    return -terms.total.mean()


def _names(model: FlowPlusPlus, like: Mapping[str, np.ndarray]) -> list[str]:
    """Return the file's names of the model's variables, in the model's order."""
    canonical = list(released_views(model))
    numbered = {name: np.array(i) for i, name in enumerate(like)}
    positions = rename_scopes(numbered, canonical)
    names = list(like)
    return [names[int(positions[name])] for name in canonical]
