"""The vectorized coder: exact round trips, lengths as the bound claims, as the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from conformance.adapters.flowpp import from_reference
from conformance.cases import CASES, LAYER_CASES
from flowpp.coding import Bins, Coder, CodingError, Precision, Stack, step_of
from flowpp.coding import elementwise as elementwise_of_flowpp
from flowpp.coding.cut_normals import CutNormals
from flowpp.coding.normals import Normals
from flowpp.coding.stack import TooFewBitsError
from flowpp.config.build import build_model
from flowpp.objective import log_normal
from reference import coding as reference_coding
from reference.coding import elementwise as elementwise_of_reference
from tiny import TINY

SHAPE = (1, 8, 8)
LEVELS = 17
FINE = Precision(delta=2.0**-20, per_level=2**14)
VARIANTS = {
    "variational": TINY.model,
    "uniform": replace(TINY.model, dequantization="uniform"),
    "truncated-normal": replace(TINY.model, dequantization="truncated-normal"),
    "augmented": replace(TINY.model, augment=1),
    "lu": replace(TINY.model, flow=replace(TINY.model.flow, convolution="lu")),
    "factor": replace(
        TINY.model, flow=replace(TINY.model.flow, layout="squeeze, channels 1, factor, channels 1")
    ),
    "affine": replace(TINY.model, flow=replace(TINY.model.flow, coupling="affine")),
}


def stack_of(words: int = 20_000) -> Stack:
    return Stack(np.random.default_rng(0).integers(1, 2**32, words, dtype=np.uint32))


def model_of(variant: str, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    model = build_model(VARIANTS[variant], SHAPE, LEVELS, generator).double().eval()
    with torch.no_grad():  # fresh models are close to the identity
        for parameter in model.parameters():
            parameter += 0.03 * torch.randn(parameter.shape, generator=generator)
    return model


def images_of(count: int) -> torch.Tensor:
    return torch.randint(3, 14, (count, *SHAPE), generator=torch.Generator().manual_seed(1))


class Recording(Coder):
    """A coder that keeps the dequantized images."""

    def _dequantized(self, stack, x):
        image = super()._dequantized(stack, x)
        object.__setattr__(self, "image", image)
        return image


@pytest.mark.parametrize("variant", VARIANTS)
def test_lengths_are_those_of_the_bound_and_images_are_exact(variant):
    model, x, stack = model_of(variant), images_of(4), stack_of()
    coder, words, before = Recording(model, FINE), stack.words, stack.bits
    z = coder.encode(stack, x)
    length = stack.bits - before
    with torch.no_grad():
        given = coder.image.values
        log_q = model.dequantizer.log_prob(x, given - x)
        if model.augmenter is not None:
            e = model.flow.inverse(z.values)[0][:, 1:]
            log_q = log_q + model.augmenter.log_prob(given, e)
            given = torch.cat([given, e], dim=1)
        y, log_det = model.flow(given)
        bound = -float((log_normal(y) + log_det - log_q).sum()) / np.log(2)
    # Beyond 5 standard deviations the prior's code is shorter than its density says.
    assert z.values.abs().max() < 5.0
    assert length == pytest.approx(bound, abs=0.02 * x.numel())
    assert (coder.decode(stack, x.shape) == x).all()
    assert (stack.words == words).all()


def test_the_layout_of_images_in_memory_does_not_matter():
    model, x = model_of("variational"), images_of(4)
    ways = [x, x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), x.to(torch.uint8)]
    words = []
    for images in ways:
        stack = stack_of()
        Coder(model).encode(stack, images)
        words.append(stack.words.tolist())
    assert words[0] == words[1] == words[2]


BIJECTORS = [
    name
    for name, case in CASES.items()
    if case.family == "bijector" and not name.endswith(("/random", "/log_scales_to_90"))
]


@pytest.mark.parametrize("name", BIJECTORS)
def test_steps_agree_with_the_reference(name, monkeypatch):
    """With noise 0 both trees compute the same bins, means and scales."""
    case = CASES[name]
    spec = case.build(np.random.default_rng(0))
    x = case.typical(np.random.default_rng(1))
    numbers, precision = np.floor(x * 2.0**12).astype(np.int64), {"delta": 2.0**-12}
    context = None if case.context is None else case.context(np.random.default_rng(2))
    seen: dict[str, list[np.ndarray]] = {"reference": [], "flowpp": []}

    def reference_pop(stack, distributions, shape):
        mean = np.array([d.mean for d in distributions])
        seen["reference"] += [mean, np.array([d.std for d in distributions])]
        return np.rint(mean).astype(np.int64).reshape(shape)

    def flowpp_pop(stack, normals, like):
        seen["flowpp"] += [normals.mean, normals.std]
        return torch.from_numpy(np.rint(normals.mean).astype(np.int64)).reshape(like.numbers.shape)

    monkeypatch.setattr(elementwise_of_reference, "pop_all", reference_pop)
    monkeypatch.setattr(elementwise_of_reference, "push_all", lambda *arguments: None)
    monkeypatch.setattr(elementwise_of_flowpp, "_pop", flowpp_pop)
    monkeypatch.setattr(elementwise_of_flowpp, "_push", lambda *arguments: None)
    step = reference_coding.step_of(spec, reference_coding.Precision(**precision), context)
    wanted = step.encode(None, reference_coding.Bins.of_width(numbers, 2.0**-12))
    own = from_reference(spec)
    with torch.no_grad():
        twin = step_of(
            own, Precision(**precision), None if context is None else torch.from_numpy(context)
        )
        got = twin.encode(None, Bins.of_width(torch.from_numpy(numbers), 2.0**-12))
    assert np.abs(got.numbers.numpy() - wanted.numbers).max() <= 1
    np.testing.assert_array_equal(got.widths.numpy(), wanted.widths)
    assert len(seen["flowpp"]) == len(seen["reference"])
    for mine, theirs in zip(seen["flowpp"], seen["reference"], strict=True):
        # Means and widths in bins; other orders of summation differ by far less than a bin.
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("limit", [None, 4096])
@pytest.mark.parametrize("log_std", [-1, 0, 0.7, 3, 4.9, 5.1, 9, 20])
def test_normal_numbers_are_exact_and_as_long_as_they_should_be(log_std, limit):
    rng, count = np.random.default_rng(0), 4000
    std = np.full(count, 2.0**log_std)
    mean = rng.uniform(0, 4096, count)
    numbers = np.rint(mean + std * rng.standard_normal(count)).astype(np.int64)
    if limit:
        numbers = numbers.clip(0, limit - 1)
    else:
        numbers[:4] += [10**6, -(10**9), 10**12, -(10**12)]  # beyond their windows
    stack, normals = stack_of(), Normals(mean, std, "coded", limit)
    before, words = stack.bits, stack.words
    normals.push(stack, numbers)
    if limit is None and log_std >= 0:
        ideal = count * (0.5 * np.log2(2 * np.pi * np.e * (4.0**log_std + 1 / 12)))
        assert stack.bits - before == pytest.approx(ideal + 4 * 72, abs=0.05 * count)
    assert (normals.pop(stack) == numbers).all()
    assert (stack.words == words).all()


def test_popped_noise_has_its_mean_and_variance_within_its_limits():
    mean, std = np.full(4000, 3.0), np.full(4000, 2.5)
    stack = stack_of()
    words = stack.words
    free = Normals(mean, std, "cut")
    numbers = free.pop(stack)
    assert numbers.mean() == pytest.approx(3.0, abs=0.2)
    assert numbers.std() == pytest.approx(2.5, abs=0.15)
    free.push(stack, numbers)
    within = Normals(mean, std, "cut", limit=64)
    numbers = within.pop(stack)
    assert numbers.min() >= 0
    within.push(stack, numbers)
    assert (stack.words == words).all()


@pytest.mark.parametrize("mean", [-40_000.0, -10.0, 2000.0, 4100.0, 50_000.0])
def test_cut_normals_are_exact(mean):
    count = 500
    cut = CutNormals(np.full(count, mean), np.full(count, 400.0), 4096)
    stack = stack_of()
    words = stack.words
    numbers = cut.pop(stack)
    reference = reference_coding.Normal.of(mean - 0.5, 400.0, 4095)
    shares = [reference.start(k) / reference.total for k in range(4097)]
    expected = sum(k * (b - a) for k, (a, b) in enumerate(zip(shares, shares[1:], strict=False)))
    assert numbers.mean() == pytest.approx(expected, abs=5 * numbers.std() / count**0.5 + 1)
    cut.push(stack, numbers)
    assert (stack.words == words).all()


def test_what_cannot_be_coded_is_refused():
    with pytest.raises(TooFewBitsError):
        Coder(model_of("variational")).encode(Stack(), images_of(1))
    one = np.ones(1)
    for mean, std in ((np.nan, 1.0), (np.inf, 1.0), (0.0, np.nan), (1e30, 1.0)):
        with pytest.raises(CodingError, match="mean and std must be finite"):
            Normals(mean * one, std * one, "coded")
    with pytest.raises(CodingError, match="a number must be in the window"):
        Normals(0 * one, one, "cut").push(stack_of(), np.array([1000]))
    with pytest.raises(TypeError, match="a model in float64 on the CPU, got torch.float32"):
        Coder(model_of("uniform").float())
    for precision, message in (
        ({"delta": 0.0}, "delta must be in"),
        ({"per_level": 1000}, "per_level must be a power of 2"),
        ({"sigma": 0.1}, "sigma must be at least 0.5 bins"),
    ):
        with pytest.raises(ValueError, match=message):
            Precision(**precision)


def test_conditional_models_are_refused():
    model = LAYER_CASES["flow_plus_plus/alphabet_by_label"].build(np.random.default_rng(0))
    for coder, given in ((reference_coding.Coder, model), (Coder, from_reference(model))):
        with pytest.raises(ValueError, match="must be unconditional"):
            coder(given)
