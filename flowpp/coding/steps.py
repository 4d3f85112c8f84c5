"""Bijectors as reversible steps on bins and a stack of bits: as in `reference.coding.steps`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

from flowpp.bijectors import Inverse
from flowpp.bijectors.bijector import Bijector

from .bins import Bins
from .stack import Stack


class Step(ABC):
    """A bijection of bins that pops bits from a stack, and pushes bits onto it."""

    @abstractmethod
    def encode(self, stack: Stack, x: Bins) -> Bins:
        """Map x to y; the stack grows by -log2 |det dy/dx| bits in expectation, bins equal."""

    @abstractmethod
    def decode(self, stack: Stack, y: Bins) -> Bins:
        """Map y to x, and restore the stack: the inverse of `encode`."""

    @abstractmethod
    def inverted(self) -> Step:
        """Return the step of the inverse bijector."""

    def outline(self, x: Bins) -> Bins:
        """Return bins of the shape and widths of y; their numbers mean nothing."""
        return x


@dataclass(frozen=True)
class Sequence(Step):
    """Steps one after the other."""

    steps: tuple[Step, ...]

    def encode(self, stack: Stack, x: Bins) -> Bins:
        for step in self.steps:
            x = step.encode(stack, x)
        return x

    def decode(self, stack: Stack, y: Bins) -> Bins:
        for step in reversed(self.steps):
            y = step.decode(stack, y)
        return y

    def inverted(self) -> Sequence:
        return Sequence(tuple(step.inverted() for step in reversed(self.steps)))

    def outline(self, x: Bins) -> Bins:
        for step in self.steps:
            x = step.outline(x)
        return x


@dataclass(frozen=True)
class Permutation(Step):
    """A bijector that only moves numbers: no bits."""

    bijector: Bijector

    def encode(self, stack: Stack, x: Bins) -> Bins:
        return self.outline(x)

    def decode(self, stack: Stack, y: Bins) -> Bins:
        return y.moved(lambda numbers: self.bijector.inverse(numbers)[0])

    def inverted(self) -> Permutation:
        return Permutation(Inverse(self.bijector))

    def outline(self, x: Bins) -> Bins:
        return x.moved(lambda numbers: self.bijector(numbers)[0])


@dataclass(frozen=True)
class OnChannels(Step):
    """A step on the first channels; the others are unchanged."""

    step: Step
    channels: Callable[[int], int]

    def encode(self, stack: Stack, x: Bins) -> Bins:
        first, rest = x.split(self.channels(x.numbers.shape[1]))
        return self.step.encode(stack, first).joined(rest)

    def decode(self, stack: Stack, y: Bins) -> Bins:
        first, rest = y.split(self.channels(y.numbers.shape[1]))
        return self.step.decode(stack, first).joined(rest)

    def inverted(self) -> OnChannels:
        return replace(self, step=self.step.inverted())

    def outline(self, x: Bins) -> Bins:
        first, rest = x.split(self.channels(x.numbers.shape[1]))
        return self.step.outline(first).joined(rest)
