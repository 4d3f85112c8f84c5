"""Faults that remember: caches, random generators, buffers shared by threads."""

from __future__ import annotations

import random
import time

import numpy as np

from conformance.numerics.specs import map_arrays

from . import fault
from .wrappers import Faulty, FaultyLayer

# Caches


class Kept(Faulty):
    """Keeps results by a key of the input."""

    def __init__(self, spec, key, kept=None):
        super().__init__(spec)
        self.key, self.kept = key, {} if kept is None else kept

    def call(self, direction, x, context):
        key = (direction, *self.key(self.spec, x))
        if key not in self.kept:
            self.kept[key] = (super().call(direction, x, context), x)
        return tuple(part.copy() for part in self.kept[key][0])


@fault(
    "caches",
    "Affine",
    "affine/shared",
    "determinism",
    hint="results are kept by the identity, address or shape",
)
def kept_by_the_identity_of_its_input(spec):
    return Kept(spec, lambda s, x: (id(x),))


@fault(
    "caches",
    "MixtureLogistic",
    "mixture_logistic/four_components",
    "determinism",
    hint="results are kept by the identity, address or shape",
)
def kept_by_the_address_of_its_input(spec):
    return Kept(spec, lambda s, x: (x.ctypes.data, x.shape, float(x.flat[0]) if x.size else 0.0))


class KeptLogDet(Faulty):
    """Keeps the log-det of a map by shape, though it depends on the values."""

    def call(self, direction, x, context):
        y, log_det = super().call(direction, x, context)
        kept = self.__dict__.setdefault("kept", {})
        return y, kept.setdefault((direction, x.shape), log_det).copy()


@fault(
    "caches",
    "Sigmoid",
    "sigmoid",
    "determinism",
    hint="results are kept by the identity, address or shape",
)
def log_det_kept_by_shape(spec):
    return KeptLogDet(spec)


EVERYWHERE: dict = {}


@fault("caches", "ActNorm", "act_norm/channel", "determinism", hint="is kept for all objects")
def log_det_kept_by_shape_for_all_objects(spec):
    def forward(s, x, c):
        y, log_det = s.forward(x, c)
        key = (s.gain.shape, x.shape)
        return y, EVERYWHERE.setdefault(key, log_det)

    EVERYWHERE.clear() if len(EVERYWHERE) > 10_000 else None
    return Faulty(spec, forward=forward)


BY_SHAPE: dict = {}


@fault(
    "caches",
    "InvertibleConv",
    "invertible_conv/joint",
    "determinism",
    hint="is kept for all objects",
)
def inverse_matrix_kept_by_shape(spec):
    def inverse(s, y, c):
        kept = BY_SHAPE.setdefault(s.weight.shape, s)
        return kept.inverse(y, c)

    return Faulty(spec, inverse=inverse)


class Assignable(Faulty):
    """Computes a value from its parameters once, which `assign` does not renew."""

    def __init__(self, spec):
        super().__init__(spec)
        self.first = spec

    def assign(self, spec):
        self.spec = map_arrays(spec, lambda path, array: array.copy())


@fault("caches", "Affine", "affine/shared", "assignment", hint="is kept when they change")
def scale_kept_after_an_assignment(spec):
    class Scaled(Assignable):
        def call(self, direction, x, context):
            y, log_det = super().call(direction, x, context)
            return y, np.asarray(getattr(self.first, direction)(x)[1]).astype(x.dtype)

    return Scaled(spec)


@fault(
    "caches",
    "InvertibleConv",
    "invertible_conv/joint",
    "assignment",
    hint="is kept when they change",
)
def inverse_matrix_kept_after_an_assignment(spec):
    class Inverted(Assignable):
        def inverse(self, y, context=None):
            return tuple(part.astype(y.dtype) for part in self.first.inverse(y, context))

    return Inverted(spec)


# Generators


def reseeding(seed):
    def build(spec):
        def forward(s, x, c):
            seed()
            return s.forward(x, c)

        return Faulty(spec, forward=forward)

    return build


@fault(
    "generators",
    "Affine",
    "affine/shared",
    "determinism",
    hint="a seed is set for the whole process",
)
def numpy_reseeded(spec):
    return reseeding(lambda: np.random.seed(0))(spec)


@fault(
    "generators",
    "MixtureLogistic",
    "mixture_logistic/four_components",
    "determinism",
    hint="a seed is set for the whole process",
)
def python_reseeded(spec):
    return reseeding(lambda: random.seed(1))(spec)


@fault("generators", "Flip", "flip", "determinism", hint="a seed is set for the whole process")
def torch_reseeded(spec):
    import torch

    return reseeding(lambda: torch.manual_seed(0))(spec)


@fault(
    "generators",
    "LayerNorm",
    "layer_norm",
    "layer_contract",
    hint="a seed is set for the whole process",
)
def numpy_reseeded_by_a_layer(spec):
    def change(layer, x):
        np.random.seed(0)
        return layer(x)

    return FaultyLayer(spec, change)


@fault(
    "generators",
    "ActNorm",
    "act_norm/channel",
    "determinism",
    hint="depends on a global random generator",
)
def noise_from_the_global_generator(spec):
    def forward(s, x, c):
        y, log_det = s.forward(x, c)
        return y, log_det + 1e-12 * np.random.random()

    return Faulty(spec, forward=forward)


# Threads


class Buffered(Faulty):
    """Computes in a buffer that all threads share."""

    def call(self, direction, x, context):
        self.buffer = x.copy()
        pause()
        return super().call(direction, self.buffer, context)


def pause():
    """Let another thread run, as NumPy and torch do inside a large operation."""
    time.sleep(1e-4)


@fault(
    "threads", "Affine", "affine/shared", "threads", hint="is shared by calls in several threads"
)
def input_kept_in_an_attribute(spec):
    return Buffered(spec)


SHARED: dict = {}


@fault(
    "threads",
    "InvertibleConv",
    "invertible_conv/joint",
    "threads",
    hint="is shared by calls in several threads",
)
def result_kept_in_a_module(spec):
    def inverse(s, y, c):
        x, log_det = s.inverse(y, c)
        buffer = SHARED.setdefault(x.shape, np.empty_like(x))
        buffer[...] = x
        pause()
        return buffer.copy(), log_det

    return Faulty(spec, inverse=inverse)


@fault(
    "threads",
    "Conv2d",
    "conv2d/plain",
    "layer_threads",
    hint="is shared by calls in several threads",
)
def layer_with_a_shared_buffer(spec):
    class Layer(FaultyLayer):
        def __call__(self, x):
            self.x = x.copy()
            pause()
            return super().__call__(self.x)

    return Layer(spec, lambda layer, x: layer(x))
