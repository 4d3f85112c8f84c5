"""Trained models of flowpp for the audit: its only module that imports flowpp and torch.

Inputs and outputs are NumPy arrays. The mixtures of a model can be replaced by those of any
adapter, to measure the effect of a formula on real images with the networks of a trained model.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conformance.adapters.flowpp import TORCH_DTYPES
from flowpp.bijectors import Bijector, Chain, Coupling, MixtureLogistic
from flowpp.config import presets
from flowpp.config.build import build_model
from flowpp.data import load
from flowpp.data.image_set import Part
from flowpp.elementwise import Family, MixtureLogisticFamily
from flowpp.kernels.backend import backend_for
from flowpp.kernels.mixture_logistic import solve_with_certificate
from flowpp.model import FlowPlusPlus
from flowpp.objective import bits_per_dim
from flowpp.runs.open_model import open_model
from flowpp.runtime.precision import float32_precision
from flowpp.training.initialization import initialize
from flowpp.training.loop import train

Build = Callable[..., Any]
"""Function from logits, means and log-scales to an object with forward and inverse, in NumPy."""

HALF_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def environment() -> dict[str, Any]:
    """Return the facts of torch that results depend on."""
    cuda = torch.cuda.is_available()
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "flowpp_backend": backend_for(torch.zeros(1)),
        "cuda": torch.version.cuda if cuda else None,
        "cuda_device": torch.cuda.get_device_name() if cuda else None,
    }


def one_thread() -> None:
    """Use one thread: for small arrays, more are slower."""
    torch.set_num_threads(1)


def newton(
    targets: np.ndarray, *parameters: np.ndarray, dtype: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return flowpp's roots of logit F(x) = target, and the evaluations of F for each."""
    arguments = (torch.from_numpy(a).to(TORCH_DTYPES[dtype]) for a in (targets, *parameters))
    found = solve_with_certificate(*arguments)
    return found.root.numpy(), found.evaluations.numpy()


def train_small(folder: Path, steps: int, seed: int) -> Path:
    """Train the preset `digits` with fewer filters and steps; return the run directory."""
    preset = presets.get("digits")
    flow = replace(preset.model.flow, filters=16)
    dequantizer = replace(preset.model.dequantizer, filters=16)
    settings = replace(
        preset.training, steps=steps,
        schedule=f"warm-up {max(1, min(50, steps // 2))}, constant 50%, cosine end 0",
        ema_decay=0.95, evaluate_every=steps, evaluation_images=32, sample_count=4, seed=seed,
    )  # fmt: skip
    model = replace(preset.model, flow=flow, dequantizer=dequantizer)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        train(replace(preset, model=model, training=settings), folder / "run")
    return folder / "run"


@dataclass(frozen=True)
class Model:
    """A trained model and held-out images of its data set.

    Attributes:
        name: Preset and step.
        flowpp: Model with averaged weights, float64.
        untrained: Model with the same settings, initialized from data, float64.
        images, noise: Integer images, and noise for the dequantizer, `(N, C, H, W)`.
        seed: Seed of `noise` and of prior samples.
        context: Contexts of the images; None for an unconditional model.
    """

    name: str
    flowpp: FlowPlusPlus
    untrained: FlowPlusPlus
    images: np.ndarray
    noise: Tensor
    seed: int
    context: Tensor | None = None

    @classmethod
    def open(cls, path: Path, images: int, seed: int) -> Model:
        """Open a run directory.

        Raises:
            FileNotFoundError: `path` is not a run directory.
            ValueError: The run is damaged, or its data set has other contexts.
        """
        opened = open_model(path)
        config, model = opened.config, opened.model.double()
        data = load(config.data)
        generator = torch.Generator().manual_seed(seed)
        if data.context != model.context_spec:
            raise ValueError(
                f"{path} must be a model for the contexts of {data.name}, {data.context}, got one "
                f"for {model.context_spec}"
            )
        untrained = build_model(
            config.model, data.shape, data.levels, generator, data.context
        ).double()

        def noise(count: int) -> Tensor:
            return model.draw_noise((count, *data.shape), dtype=torch.float64, generator=generator)

        def context(part: Part, count: int) -> Tensor | None:
            given = data.context_of(part)
            return None if given is None else torch.from_numpy(np.array(given[:count]))

        first = torch.from_numpy(data.train[:128]).double()
        initialize(untrained, first, noise(len(first)), context("train", len(first)))
        test = data.test[:images]
        name = f"{config.preset}, step {opened.checkpoint.step}"
        given = context("test", len(test))
        return cls(name, model, untrained.eval(), test, noise(len(test)), seed, given)

    @property
    def dims(self) -> int:
        """Number of values in an image."""
        return int(self.images[0].size)

    @torch.no_grad()
    def bits_per_dim(
        self,
        dtype: str,
        build: Build | None = None,
        *,
        trained: bool = True,
        tf32: bool = False,
    ) -> np.ndarray:
        """Return the one-sample bound of each image, `(N,)`.

        Args:
            dtype: float64, float32, or bfloat16 or float16, which autocast applies to networks.
            build: Replacement of the mixtures; None for flowpp's own.
            trained: Whether to use the trained model, or else the initialized one.
            tf32: Whether to compute on the GPU with TF32 products.
        """
        half = HALF_DTYPES.get(dtype)
        device = "cuda" if tf32 else "cpu"
        chosen = self.flowpp if trained else self.untrained
        model = _with_mixtures(chosen, "float32" if half else dtype, build).to(device)
        noise = self.noise.to(next(model.parameters()))
        x = torch.from_numpy(self.images).to(noise)
        with (
            torch.autocast(device, half) if half else contextlib.nullcontext(),
            float32_precision("tf32" if tf32 else "ieee"),
        ):
            total = model.elbo(x, noise, self._context_on(device)).total
        return bits_per_dim(total.double(), self.dims).cpu().numpy()

    def _context_on(self, device: str) -> Tensor | None:
        return None if self.context is None else self.context.to(device)

    @torch.no_grad()
    def mixture_outputs(self, *, trained: bool = True) -> np.ndarray:
        """Return |logit F(x)| of every scalar transformed by a mixture, in float64."""
        seen: list[np.ndarray] = []

        def build(*parameters: np.ndarray) -> _RecordedMixture:
            return _RecordedMixture(parameters, seen)

        self.bits_per_dim("float64", build, trained=trained)
        return np.concatenate(seen)

    @torch.no_grad()
    def trace(
        self, dtype: str, build: Build | None = None, *, trained: bool = True
    ) -> dict[str, Any]:
        """Compute round trips of the whole flow, and of each layer on its actual inputs.

        Returns:
            "data" (starting from images) and "prior" (from N(0, 1)), each with "total" and
            "layers": a list of (name, errors), where errors is an array of |round trip - start|.
        """
        model = _with_mixtures(self.flowpp if trained else self.untrained, dtype, build)
        layers = list(_layers(model.flow))
        forward = [layer.forward for layer in layers]
        inverse = [layer.inverse for layer in reversed(layers)]
        noise = self.noise.to(next(model.parameters()).dtype)
        x = torch.from_numpy(self.images).to(noise)
        features = model.features(self.context, x.shape)
        start = model.flow_input(x, noise, features)[0]
        from_data = _apply(forward, start, features)
        generator = torch.Generator().manual_seed(self.seed)
        z = torch.randn(from_data[-1].shape, dtype=torch.float64, generator=generator).to(noise)
        from_prior = _apply(inverse, z, features)[::-1]
        data_errors = [
            _distance(layer.inverse(after, features)[0], before)
            for layer, before, after in zip(layers, from_data[:-1], from_data[1:], strict=True)
        ]
        prior_errors = [
            _distance(layer.forward(before, features)[0], after)
            for layer, before, after in zip(layers, from_prior[:-1], from_prior[1:], strict=True)
        ]
        names = [f"{i} {_name(layer)}" for i, layer in enumerate(layers, start=1)]
        return {
            "data": {
                "total": _distance(_apply(inverse, from_data[-1], features)[-1], start),
                "layers": list(zip(names, data_errors, strict=True)),
            },
            "prior": {
                "total": _distance(_apply(forward, from_prior[0], features)[-1], z),
                "layers": list(zip(names, prior_errors, strict=True)),
            },
        }


def _apply(maps: list[Any], x: Tensor, features: Tensor | None) -> list[Tensor]:
    """Apply maps with a log-det in order; return `x` and the output of each map."""
    values = [x]
    for function in maps:
        values.append(function(values[-1], features)[0])
    return values


def _layers(flow: Any) -> Iterator[Any]:
    for bijector in flow.bijectors if isinstance(flow, Chain) else [flow]:
        if isinstance(bijector, Chain):
            yield from _layers(bijector)
        else:
            yield bijector


def _name(layer: Any) -> str:
    inner = getattr(layer, "bijector", None)
    return f"{type(layer).__name__}({type(inner).__name__})" if inner else type(layer).__name__


def _distance(one: Tensor, other: Tensor) -> np.ndarray:
    return (one.double() - other.double()).abs().flatten().numpy()


def _with_mixtures(model: FlowPlusPlus, dtype: str, build: Build | None) -> FlowPlusPlus:
    model = copy.deepcopy(model).to(TORCH_DTYPES[dtype]).eval()
    if build is not None:
        for module in list(model.modules()):
            if isinstance(module, Coupling) and isinstance(module.family, MixtureLogisticFamily):
                module.family = _Family(module.family, build)
    return model


class _Family(Family):
    """Mixture family whose members are computed by another implementation."""

    def __init__(self, family: MixtureLogisticFamily, build: Build) -> None:
        super().__init__()
        self.family, self.build = family, build
        self.parameters_per_scalar = family.parameters_per_scalar

    def forward(self, parameters: Tensor) -> Chain:
        mixture, affine = self.family(parameters).bijectors
        fields = (mixture.logits, mixture.means, mixture.log_scales)
        return Chain([_NumpyMixture(self.build(*(f.numpy() for f in fields))), affine])


class _NumpyMixture(Bijector):
    """NumPy mixture as a bijector of flowpp."""

    def __init__(self, built: Any) -> None:
        super().__init__()
        self.built = built

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, log_det = self.built.forward(x.numpy())
        return torch.as_tensor(y).to(x), torch.as_tensor(log_det).to(x)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, log_det = self.built.inverse(y.numpy())
        return torch.as_tensor(x).to(y), torch.as_tensor(log_det).to(y)


class _RecordedMixture:
    """Mixture of flowpp that records its outputs."""

    def __init__(self, parameters: tuple[np.ndarray, ...], seen: list[np.ndarray]) -> None:
        self._mixture = MixtureLogistic(*(torch.from_numpy(p) for p in parameters))
        self._seen = seen

    def forward(self, x: np.ndarray) -> tuple[Tensor, Tensor]:
        y, log_det = self._mixture.forward(torch.from_numpy(x))
        self._seen.append(y.abs().flatten().numpy())
        return y, log_det
