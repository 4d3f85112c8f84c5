"""Bugs hidden by a cache of the last (x, y) pair, which many transform libraries keep.

The inverse of a forward result comes from the cache, so a round trip shows nothing. The bugs are
in mixtures of many components only, as if these had a kernel of their own.
"""

from __future__ import annotations

import torch

from flowpp.bijectors import MixtureLogistic

from .catalogue import bug

CASE = "mixture_logistic/thirty_two_components"
TYPICAL = (1e-30, 15.0)
"""Sizes of numbers whose results are corrupted: tiny and large ones have laws of their own."""
TOO_SMALL = {"float32": "less than a unit in the last place of float32"}


def same(x, log_det):
    return x, log_det


def rounded(x):
    """Round as if stored in half the bytes."""
    return x.to(torch.float32 if x.dtype == torch.float64 else torch.bfloat16).to(x.dtype)


def cached(patch, *, forward=same, inverse=same, hit_forward=same, hit_inverse=same):
    """Patch both directions with a cache.

    `forward` and `inverse` corrupt a computed (array, log_det), `hit_...` a cached one.
    """
    originals = {name: getattr(MixtureLogistic, name) for name in ("forward", "inverse")}
    corrupt = {"forward": forward, "inverse": inverse}
    hits = {"forward": hit_forward, "inverse": hit_inverse}

    def around(direction):
        other = "inverse" if direction == "forward" else "forward"

        def call(self, x, context=None):
            result = originals[direction](self, x, context)
            sizes = x.abs().flatten(1)
            tiny = (sizes < TYPICAL[0]) & ~((sizes == 0) & ~torch.signbit(x.flatten(1)))
            typical = ((sizes < TYPICAL[1]) & ~tiny).all(1)
            result = tuple(
                torch.where(typical.reshape(-1, *[1] * (good.dim() - 1)), bad, good)
                for bad, good in zip(corrupt[direction](*result), result, strict=True)
            )
            if self.logits.shape[-1] < 8:
                return originals[direction](self, x, context)
            if torch.is_grad_enabled():
                return result
            kept = self.__dict__.get(f"kept_{other}")
            if kept is not None and torch.equal(kept[1], x):
                return hits[direction](kept[0].clone(), -kept[2])
            self.__dict__[f"kept_{direction}"] = (x.clone(), result[0].clone(), result[1].clone())
            return result

        return call

    for direction in originals:
        patch.setattr(MixtureLogistic, direction, around(direction))


@bug(CASE, "forward", alone="forward")
def forward_shifted_and_undone_by_a_cache(patch):
    cached(patch, forward=lambda y, log_det: (y + 1e-3, log_det))


@bug(CASE, "inverse", alone="inverse")
def inverse_shifted_and_undone_by_a_cache(patch):
    cached(patch, inverse=lambda x, log_det: (x + 1e-3, log_det))


@bug(CASE, "log_det", alone="log_det", without=TOO_SMALL)
def log_det_with_a_constant_of_ten_digits(patch):
    cached(patch, forward=lambda y, log_det: (y, log_det + 1e-10))


@bug(CASE, "inverse_log_det", alone="inverse_log_det", without=TOO_SMALL)
def inverse_log_det_with_a_constant_of_ten_digits(patch):
    cached(patch, inverse=lambda x, log_det: (x, log_det + 1e-10))


@bug(CASE, "round_trip_x", alone="round_trip_x")
def x_rounded_in_the_cache(patch):
    cached(patch, hit_inverse=lambda x, log_det: (rounded(x), log_det))


@bug(CASE, "round_trip_y", alone="round_trip_y")
def y_rounded_in_the_cache(patch):
    cached(patch, hit_forward=lambda y, log_det: (rounded(y), log_det))


@bug(CASE, "opposite", alone="opposite")
def log_det_rounded_in_the_cache(patch):
    cached(patch, hit_forward=lambda y, log_det: (y, rounded(log_det)))
