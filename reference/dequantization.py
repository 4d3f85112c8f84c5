"""Dequantization: noise u in [0, 1) that turns integer images into densities.

Noise from q(u|x) is added to an integer image x; Jensen's inequality then bounds the probability
of x by the density of x + u (Flow++ eqs. 5-8).
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from reference import truncated_normal
from reference.bijectors.bijector import Array, Bijector
from reference.bijectors.checks import check_images, check_real, owner_name
from reference.bijectors.log_dets import sum_per_example
from reference.conditioner import Conditioner
from reference.objective import log_normal


class Dequantizer(ABC):
    """Noise u for integer images, and log q(u|x).

    Attributes:
        levels: number of values of a channel; images hold integers 0 ... levels - 1.
    """

    levels: int

    def __post_init__(self) -> None:
        if not self.levels >= 2:
            raise ValueError(f"{owner_name(self)} needs at least 2 levels, got {self.levels}")

    @abstractmethod
    def draw_noise(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Draw the noise that `sample` needs for images of this shape."""

    @abstractmethod
    def sample(self, x: Array, noise: Array, context: Array | None = None) -> tuple[Array, Array]:
        """Return u of x's shape and log q(u|x), (B,), from noise drawn by `draw_noise`.

        In a conditional model `context` is (B, F, H, W), the features of each image's context.
        """

    @abstractmethod
    def log_prob(self, x: Array, u: Array, context: Array | None = None) -> Array:
        """Compute log q(u|x), (B,), for given u."""

    @abstractmethod
    def initialize(
        self, x: Array, noise: Array, context: Array | None = None
    ) -> tuple[Dequantizer, Array]:
        """Initialize from data: return the dequantizer fitted to a batch, and that batch's u."""

    def check_images(self, x: Any) -> Array:
        """Require integer images within the levels, and return them as float64.

        Raises:
            TypeError: x does not hold real numbers.
            ValueError: the wrong number of axes, or a value that is not an integer within
                0 ... levels - 1; the message shows the first one.
        """
        x = check_images(x, self)
        wrong = ~((x >= 0) & (x <= self.levels - 1) & (x == np.floor(x)))
        if wrong.any():
            raise ValueError(
                f"{owner_name(self)} needs integers within 0 ... {self.levels - 1}, "
                f"got {x[wrong][0]}"
            )
        return x

    def check_noise(self, noise: Any, x: Array) -> Array:
        """Require noise of the images' shape, and return it as float64.

        Raises:
            TypeError: the noise does not hold real numbers.
            ValueError: the noise has another shape.
        """
        array = check_real(noise, self, "its noise")
        if array.shape != x.shape:
            raise ValueError(
                f"{owner_name(self)} needs noise of shape {x.shape}, got {array.shape}"
            )
        return array

    def check_uniform_noise(self, noise: Any, x: Array) -> Array:
        """Require noise in [0, 1) of the images' shape, and return it as float64.

        Raises:
            TypeError, ValueError: as `check_noise`; a value outside [0, 1).
        """
        u = self.check_noise(noise, x)
        inside = _in_unit_interval(u)
        if not inside.all():
            raise ValueError(f"{owner_name(self)} needs noise in [0, 1), got {u[~inside][0]}")
        return u


@dataclass(frozen=True, eq=False)
class UniformDequantizer(Dequantizer):
    """u ~ Uniform[0, 1), log q(u|x) = 0.

    Source: Flow++ section 3.1; Theis, van den Oord and Bethge 2016.
    """

    levels: int

    def draw_noise(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Draw uniform noise in [0, 1) for images of this shape."""
        return rng.random(shape)

    def sample(self, x: Array, noise: Array, context: Array | None = None) -> tuple[Array, Array]:
        """Return the noise itself, and zeros (B,); a context has no influence.

        Raises:
            ValueError: x is not a batch of integer images, or the noise has another shape or a
                value outside [0, 1).
        """
        x = self.check_images(x)
        return self.check_uniform_noise(noise, x), np.zeros(len(x))

    def log_prob(self, x: Array, u: Array, context: Array | None = None) -> Array:
        """Compute log q(u|x), (B,): 0 inside the unit cube, -inf outside, NaN where u has one."""
        x = self.check_images(x)
        u = self.check_noise(u, x)
        log_q = np.where(_in_unit_interval(u).all(axis=(1, 2, 3)), 0.0, -np.inf)
        return np.where(np.isnan(u).any(axis=(1, 2, 3)), np.nan, log_q)

    def initialize(
        self, x: Array, noise: Array, context: Array | None = None
    ) -> tuple[UniformDequantizer, Array]:
        """Return the dequantizer itself, which has nothing to fit, and u."""
        return self, self.sample(x, noise)[0]


def beside_features(centred: Array, features: Array | None) -> Array:
    """Return images with the features of their contexts, if any, as further channels."""
    return centred if features is None else np.concatenate([centred, features], axis=1)


def _in_unit_interval(u: Array) -> Array:
    return (u >= 0.0) & (u < 1.0)


@dataclass(frozen=True, eq=False)
class VariationalDequantizer(Dequantizer):
    """u = flow(eps; c(x)), eps ~ N(0, I), log q(u|x) = log N(eps) - log|det du/deps|.

    Attributes:
        levels: number of values of a channel.
        split: puts halves of the image on channels before the context network.
        context_network: split(x / levels - 1/2) to context features c(x); in a conditional model
            `split` gets the features of the image's context too, as further channels.
        flow: conditional bijector from noise to (0, 1); its last bijector is a Sigmoid.

    Source: Flow++ eqs. 9-12.
    """

    levels: int
    split: Bijector
    context_network: Conditioner
    flow: Bijector

    def draw_noise(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Draw standard normal noise for images of this shape."""
        return rng.standard_normal(shape)

    def context(self, x: Array, features: Array | None = None) -> Array:
        """Compute c(x) of integer images, and of the features of their contexts."""
        return self.context_network(self._centred(self.check_images(x), features))

    def sample(self, x: Array, noise: Array, context: Array | None = None) -> tuple[Array, Array]:
        """Return u in (0, 1), shape of x, and log q(u|x), (B,), from standard normal noise.

        Raises:
            ValueError: x is not a batch of integer images, or the noise has another shape.
        """
        x = self.check_images(x)
        noise = self.check_noise(noise, x)
        u, log_det = self.flow.forward(noise, self.context(x, context))
        return u, log_normal(noise) - log_det

    def log_prob(self, x: Array, u: Array, context: Array | None = None) -> Array:
        """Compute log q(u|x), (B,), for given u in (0, 1)."""
        x = self.check_images(x)
        u = self.check_noise(u, x)
        noise, log_det = self.flow.inverse(u, self.context(x, context))
        return log_normal(noise) + log_det

    def initialize(
        self, x: Array, noise: Array, context: Array | None = None
    ) -> tuple[VariationalDequantizer, Array]:
        """Fit the context network, then the flow; return the fitted dequantizer and its u."""
        x = self.check_images(x)
        noise = self.check_noise(noise, x)
        network, c = self.context_network.initialize(self._centred(x, context))
        flow, u = self.flow.initialize(noise, c)
        return dataclasses.replace(self, context_network=network, flow=flow), u

    def _centred(self, x: Array, features: Array | None) -> Array:
        return self.split.forward(beside_features(x / self.levels - 0.5, features))[0]


@dataclass(frozen=True, eq=False)
class TruncatedNormalDequantizer(Dequantizer):
    """u ~ N(m(x), s(x)^2) truncated to [0, 1), independently for each number of the image.

    Attributes:
        levels: number of values of a channel.
        network: x / levels - 1/2 to m - 1/2 and log s, (B, C, H, W) -> (B, 2 C, H, W), those of m
            first; in a conditional model it gets the features of the image's context too, as
            further channels.

    Source: the alternative between uniform noise and a flow in Hoogeboom, Cohen and Tomczak 2020,
    who truncate a logistic distribution.
    """

    levels: int
    network: Conditioner

    def draw_noise(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Draw uniform noise in [0, 1) for images of this shape."""
        return rng.random(shape)

    def distribution(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        """Compute means and log-scales of u for integer images, both of x's shape.

        Raises:
            ValueError: a network whose output has another shape than (B, 2 C, H, W).
        """
        return self._split(self.network(self._centred(self.check_images(x), context)), x)

    def sample(self, x: Array, noise: Array, context: Array | None = None) -> tuple[Array, Array]:
        """Return u in [0, 1), shape of x, and log q(u|x), (B,), from uniform noise.

        Raises:
            ValueError: x is not a batch of integer images, or the noise has another shape or a
                value outside [0, 1).
        """
        x = self.check_images(x)
        parameters = self.distribution(x, context)
        return self._from_parameters(self.check_uniform_noise(noise, x), *parameters)

    def log_prob(self, x: Array, u: Array, context: Array | None = None) -> Array:
        """Compute log q(u|x), (B,): -inf outside the unit cube, NaN where u has one."""
        x = self.check_images(x)
        u = self.check_noise(u, x)
        return sum_per_example(truncated_normal.log_density(u, *self.distribution(x, context)))

    def initialize(
        self, x: Array, noise: Array, context: Array | None = None
    ) -> tuple[TruncatedNormalDequantizer, Array]:
        """Fit the network; return the fitted dequantizer and its u."""
        x = self.check_images(x)
        noise = self.check_uniform_noise(noise, x)
        network, output = self.network.initialize(self._centred(x, context))
        u, _ = self._from_parameters(noise, *self._split(output, x))
        return dataclasses.replace(self, network=network), u

    def _centred(self, x: Array, features: Array | None) -> Array:
        return beside_features(x / self.levels - 0.5, features)

    def _split(self, output: Array, x: Array) -> tuple[Array, Array]:
        batch, channels, height, width = x.shape
        needed = (batch, 2 * channels, height, width)
        if output.shape != needed:
            raise ValueError(
                f"{owner_name(self)} needs parameters of shape {needed} from its network, "
                f"got {output.shape}"
            )
        return 0.5 + output[:, :channels], output[:, channels:]

    def _from_parameters(self, noise: Array, mean: Array, log_scale: Array) -> tuple[Array, Array]:
        u = truncated_normal.quantile(noise, mean, log_scale)
        return u, sum_per_example(truncated_normal.log_density(u, mean, log_scale))
