"""One implementation of the model, ready to be walked through: what both sides look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from reference.bijectors import Coupling
from reference.objective import bits_per_dim, log_normal

from .released_inverse import Clip, released_inverse
from .topology import Topology
from .vectors import Vectors, channels_last

Quantities = dict[str, np.ndarray]


@dataclass(frozen=True)
class Side:
    """An implementation that speaks NumPy.

    Args:
        name: "flowpp" or "reference".
        precision: "f32" or "f64".
        model: the reference twin, whose classes say what each element is.
        built: the implementation's model, with `dequantizer`, `elbo` and `encode`.
        flow: the implementation's elements of the main chain.
        dequantizer_flow: those of the dequantizer's chain; empty if it is uniform.
        dequantizer: the implementation's dequantizer.
        conditioner: the implementation's network of a coupling, given the element.
        build: makes the implementation's object of a reference object.
    """

    name: str
    precision: str
    model: Any
    built: Any
    flow: list[Any]
    dequantizer_flow: list[Any]
    dequantizer: Any
    conditioner: Callable[[Any], Any]
    build: Callable[[Any], Any]

    @property
    def dtype(self) -> np.dtype:
        """The dtype computed in."""
        return np.dtype(np.float32 if self.precision == "f32" else np.float64)


def forward_quantities(side: Side, vectors: Vectors, topology: Topology) -> Quantities:
    """Everything the released code records of the way from image to latent."""
    images, noise = vectors.images, vectors.noise.astype(side.dtype)
    u, log_q = side.dequantizer.sample(images, noise)
    dequantized = images.astype(side.dtype) + u
    found: Quantities = {"xdeq": channels_last(dequantized), "dequant_logd": -log_q}
    if side.dequantizer_flow:
        found |= _dequantizer_quantities(side, images, noise, topology)
    elements = list(zip(side.model.flow.bijectors, side.flow, strict=True))
    z, log_det, trace = _walk(side, elements, dequantized, None, "trace")
    terms = side.built.elbo(images, noise)
    dims = int(np.prod(images.shape[1:]))
    total = np.asarray(terms.total, side.dtype)
    found |= trace | {
        "z": channels_last(side.built.encode(images, noise)),
        "main_logd": terms.log_det,
        "logp_z": terms.log_prior,
        "total_logp": total,
        "loss": -total.mean(),
        "bpd": bits_per_dim(total, dims).mean(),
        "bpd_per_example": bits_per_dim(total, dims),
        "trace_z": channels_last(z),
        "trace_logd": log_det,
    }
    return found


def inverse_quantities(
    side: Side, recorded: Quantities, sample_z: np.ndarray, topology: Topology
) -> tuple[Quantities, Quantities]:
    """The released inverse of the recorded z and of `sample_z`, its clip of the CDF reproduced.

    Returns:
        The quantities, and how far each may be off because the released code rounds the CDF.
    """
    clip = Clip(1e-5, 50) if topology.imagenet else Clip(0.0, 200)
    found: Quantities = {}
    slack: Quantities = {}
    for latent, x_name, log_det_name in (
        (recorded.get("z"), "inverse", "inverse_logd"),
        (sample_z, "sample_x", "sample_inverse_logd"),
    ):
        if latent is None or x_name not in recorded:
            continue
        x, log_det, x_slack, log_det_slack = released_inverse(
            side, np.moveaxis(latent, -1, 1).astype(side.dtype), clip
        )
        found[x_name], found[log_det_name] = channels_last(x), log_det
        slack[x_name], slack[log_det_name] = channels_last(x_slack), log_det_slack
    return found, slack


def _dequantizer_quantities(
    side: Side, images: np.ndarray, noise: np.ndarray, topology: Topology
) -> Quantities:
    spec = side.model.dequantizer
    centred, _ = side.build(spec.split).forward(images.astype(side.dtype) / spec.levels - 0.5)
    context = np.asarray(side.dequantizer.context_network(centred))
    elements = list(zip(spec.flow.bijectors, side.dequantizer_flow, strict=True))
    # The ImageNet family applies the sigmoid outside the chain, and records what comes before it.
    traced = elements[:-1] if topology.imagenet else elements
    y, log_det, trace = _walk(side, traced, noise, context, "dtrace")
    return trace | {
        "dequant_context": channels_last(context),
        "dequant_flow_out": channels_last(y),
        "dequant_flow_logd": log_det,
        "eps_logp": log_normal(noise),
    }


def _walk(
    side: Side,
    elements: list[tuple[Any, Any]],
    x: np.ndarray,
    context: np.ndarray | None,
    chain: str,
) -> tuple[np.ndarray, np.ndarray, Quantities]:
    """Apply the elements one by one; keys are `trace/NN/what`, without the element's name."""
    found: Quantities = {}
    total = np.zeros(len(x), x.dtype)
    for number, (spec, element) in enumerate(elements):
        place = f"{chain}/{number:02d}"
        if isinstance(spec, Coupling):
            half = x[:, : x.shape[1] // 2]
            raw = side.conditioner(element)(half, context)
            found |= {f"{place}/{k}": v for k, v in _parameters(spec, raw, half.shape[1]).items()}
        x, log_det = element.forward(x, context)
        total = total + log_det
        a, b = np.split(channels_last(x), 2, axis=-1) if x.shape[1] % 2 == 0 else (x, x)
        found |= {f"{place}/a": a, f"{place}/b": b, f"{place}/x": channels_last(x)}
        found[f"{place}/logd"] = log_det
    return x, total, found


def _parameters(spec: Coupling, raw: np.ndarray, channels: int) -> Quantities:
    """A network's output as the released code's parameters, channels last, components last."""
    batch, _, height, width = raw.shape
    per_scalar = spec.family.parameters_per_scalar
    r = np.moveaxis(raw.reshape(batch, channels, per_scalar, height, width), (1, 2), (3, 4))
    found = {"s": np.tanh(r[..., 0]), "t": r[..., 1]}
    if per_scalar > 2:
        found["logits"], found["means"], scales = np.split(r[..., 2:], 3, axis=-1)
        found["logscales_raw"] = scales
        found["logscales_clamped"] = np.maximum(scales, spec.family.log_scale_floor)
    return found
