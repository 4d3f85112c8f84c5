"""Common interface of flowpp and the reference, and the quantities computed through it."""

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
class Implementation:
    """Model of an implementation, with NumPy arrays as inputs and outputs.

    Args:
        name: "flowpp" or "reference".
        precision: "f32" or "f64".
        spec: Reference twin of the model; its classes identify the elements.
        built: Model, with `dequantizer`, `elbo` and `encode`.
        flow: Elements of the main chain.
        dequantizer_flow: Elements of the dequantizer's chain; empty if it is uniform.
        dequantizer: Dequantizer of the model.
        conditioner: Function from a coupling to its network.
        build: Function from a reference object to the implementation's object.
    """

    name: str
    precision: str
    spec: Any
    built: Any
    flow: list[Any]
    dequantizer_flow: list[Any]
    dequantizer: Any
    conditioner: Callable[[Any], Any]
    build: Callable[[Any], Any]

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the computation."""
        return np.dtype(np.float32 if self.precision == "f32" else np.float64)


def forward_quantities(tested: Implementation, vectors: Vectors, topology: Topology) -> Quantities:
    """Compute every quantity that the released code records between image and latent."""
    images, noise = vectors.images, vectors.noise.astype(tested.dtype)
    u, log_q = tested.dequantizer.sample(images, noise)
    dequantized = images.astype(tested.dtype) + u
    found: Quantities = {"xdeq": channels_last(dequantized), "dequant_logd": -log_q}
    if tested.dequantizer_flow:
        found |= _dequantizer_quantities(tested, images, noise, topology)
    elements = list(zip(tested.spec.flow.bijectors, tested.flow, strict=True))
    z, log_det, trace = _walk(tested, elements, dequantized, None, "trace")
    terms = tested.built.elbo(images, noise)
    dims = int(np.prod(images.shape[1:]))
    total = np.asarray(terms.total, tested.dtype)
    found |= trace | {
        "z": channels_last(tested.built.encode(images, noise)),
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
    tested: Implementation, recorded: Quantities, sample_z: np.ndarray, topology: Topology
) -> tuple[Quantities, Quantities]:
    """Invert the recorded z and `sample_z`, with the released code's clip of the CDF.

    Returns:
        The quantities, and the error of each that rounding the CDF explains.
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
            tested, np.moveaxis(latent, -1, 1).astype(tested.dtype), clip
        )
        found[x_name], found[log_det_name] = channels_last(x), log_det
        slack[x_name], slack[log_det_name] = channels_last(x_slack), log_det_slack
    return found, slack


def _dequantizer_quantities(
    tested: Implementation, images: np.ndarray, noise: np.ndarray, topology: Topology
) -> Quantities:
    spec = tested.spec.dequantizer
    centred, _ = tested.build(spec.split).forward(images.astype(tested.dtype) / spec.levels - 0.5)
    context = np.asarray(tested.dequantizer.context_network(centred))
    elements = list(zip(spec.flow.bijectors, tested.dequantizer_flow, strict=True))
    # The ImageNet family applies the sigmoid outside the chain, and records its input.
    traced = elements[:-1] if topology.imagenet else elements
    y, log_det, trace = _walk(tested, traced, noise, context, "dtrace")
    return trace | {
        "dequant_context": channels_last(context),
        "dequant_flow_out": channels_last(y),
        "dequant_flow_logd": log_det,
        "eps_logp": log_normal(noise),
    }


def _walk(
    tested: Implementation,
    elements: list[tuple[Any, Any]],
    x: np.ndarray,
    context: np.ndarray | None,
    chain: str,
) -> tuple[np.ndarray, np.ndarray, Quantities]:
    """Apply the elements one by one; keys are `trace/NN/quantity`, without the element's name."""
    found: Quantities = {}
    total = np.zeros(len(x), x.dtype)
    for number, (spec, element) in enumerate(elements):
        place = f"{chain}/{number:02d}"
        if isinstance(spec, Coupling):
            half = x[:, : x.shape[1] // 2]
            raw = tested.conditioner(element)(half, context)
            found |= {f"{place}/{k}": v for k, v in _parameters(spec, raw, half.shape[1]).items()}
        x, log_det = element.forward(x, context)
        total = total + log_det
        a, b = np.split(channels_last(x), 2, axis=-1) if x.shape[1] % 2 == 0 else (x, x)
        found |= {f"{place}/a": a, f"{place}/b": b, f"{place}/x": channels_last(x)}
        found[f"{place}/logd"] = log_det
    return x, total, found


def _parameters(spec: Coupling, raw: np.ndarray, channels: int) -> Quantities:
    """Convert a network's output to the released code's parameters, channels last."""
    batch, _, height, width = raw.shape
    per_scalar = spec.family.parameters_per_scalar
    r = np.moveaxis(raw.reshape(batch, channels, per_scalar, height, width), (1, 2), (3, 4))
    found = {"s": np.tanh(r[..., 0]), "t": r[..., 1]}
    if per_scalar > 2:
        found["logits"], found["means"], scales = np.split(r[..., 2:], 3, axis=-1)
        found["logscales_raw"] = scales
        found["logscales_clamped"] = np.maximum(scales, spec.family.log_scale_floor)
    return found
