"""flowpp's model of a topology: built, loaded with released variables, differentiated, trained."""

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
from flowpp.interop.released import load_released, released_views, rename_scopes
from flowpp.model import FlowPlusPlus
from flowpp.training.gradients import clip_by_global_norm
from flowpp.training.initialization import initialize
from flowpp.training.optimizer import Adam

from .side import Side
from .topology import Topology

DTYPES = {"f32": "float32", "f64": "float64"}


def build(topology: Topology, variables: Mapping[str, np.ndarray]) -> FlowPlusPlus:
    """The model in float64 and evaluation mode, with the released variables in it.

    Raises:
        ValueError: variables that do not belong to the topology.
    """
    config = from_dict(ModelConfig, topology.settings)
    model = build_model(config, topology.image_shape, topology.levels).double().eval()
    load_released(model, variables)
    return model


def flowpp_side(model: FlowPlusPlus, precision: str) -> Side:
    """flowpp, in either precision; the model is converted in place."""
    dtype = TORCH_DTYPES[DTYPES[precision]]
    spec = to_reference(model)
    main: Any = model.flow
    model = model.to(dtype)

    def speaking(module: Any) -> NumpyModule:
        return NumpyModule(module, dtype, "cpu")

    chain: Any = getattr(model.dequantizer, "flow", None)
    dequantizer = speaking(model.dequantizer)
    if chain is not None:
        dequantizer = _WithNetwork(model.dequantizer, dtype, "cpu")
    return Side(
        name="flowpp",
        precision=precision,
        model=spec,
        built=speaking(model),
        flow=[speaking(b) for b in main.bijectors],
        dequantizer_flow=[] if chain is None else [speaking(b) for b in chain.bijectors],
        dequantizer=dequantizer,
        conditioner=lambda element: speaking(element._twin.conditioner),
        build=FlowppAdapter(DTYPES[precision]).build,  # type: ignore[arg-type]
    )


class _WithNetwork(NumpyModule):
    """A dequantizer whose network can be called by itself."""

    @property
    def context_network(self) -> NumpyModule:
        return NumpyModule(self._twin.context_network, self._dtype, self._device)


def reference_twin(model: FlowPlusPlus) -> Any:
    """The reference's model with the same weights."""
    return to_reference(model)


def variables_of(model: Any, like: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Released variables of a flowpp or reference model, under the names that `like` uses.

    Variables that the released code owns without using them are none of the model's: `like`'s own.
    """
    if not isinstance(model, FlowPlusPlus):
        model = from_reference(model)
    held = {p.untyped_storage().data_ptr() for p in model.parameters()}
    views = zip(_names(model, like), released_views(model).values(), strict=True)
    return {
        name: view.numpy().copy() if view.untyped_storage().data_ptr() in held else like[name]
        for name, view in views
    }


def with_variables(model: FlowPlusPlus, variables: Mapping[str, np.ndarray]) -> Any:
    """The reference twin of the model with other weights put in; the model keeps them."""
    load_released(model, variables)
    return to_reference(model)


def gradients(
    model: FlowPlusPlus, images: np.ndarray, noise: np.ndarray, like: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Gradient of the loss in nats, under the released names; a parameter it lacks has zeros."""
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
    """Optimizer steps on one batch: losses before each step and after the last, norms, weights."""
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
    """Data-dependent initialization in place; loss and z of that same pass."""
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
    """The file's own names of the model's variables, in the model's order."""
    canonical = list(released_views(model))
    numbered = {name: np.array(i) for i, name in enumerate(like)}
    mine = rename_scopes(numbered, canonical)
    theirs = list(like)
    return [theirs[int(mine[name])] for name in canonical]
