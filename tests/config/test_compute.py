"""Activation checkpointing keeps the gradients' bits; bfloat16 is confined to the networks."""

from __future__ import annotations

import pytest
import torch

from flowpp import elementwise
from flowpp.bijectors import ActNorm
from flowpp.conditioner import Conv2d
from flowpp.config import presets
from flowpp.config.build import build_model, set_compute
from flowpp.kernels.backend import use_backend
from flowpp.training.initialization import initialize


def small_model(*, memory="normal", precision="float32"):
    """A model set up as training does it: first how it computes, then its initialization."""
    generator = torch.Generator().manual_seed(0)
    model = build_model(presets.get("digits").model, (1, 8, 8), 17, generator)
    set_compute(model, memory=memory, precision=precision)
    x = torch.randint(17, (4, 1, 8, 8), generator=generator).float()
    noise = torch.randn(x.shape, generator=generator)
    initialize(model, x, noise)
    return model.train(), x, noise


def loss_and_gradients(model, x, noise):
    torch.manual_seed(3)  # dropout
    model.zero_grad()
    loss = -model.elbo(x, noise).total.mean()
    loss.backward()
    after = torch.rand(())
    return [loss.detach(), after, *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_low_memory_gives_the_same_bits(backend):
    model, x, noise = small_model()
    with use_backend(backend):
        expected = loss_and_gradients(model, x, noise)
        set_compute(model, memory="low")
        got = loss_and_gradients(model, x, noise)
    assert len(got) == len(expected) > 50
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_low_memory_keeps_less():
    model, x, noise = small_model()
    kept = {}
    for memory in ("normal", "low"):
        set_compute(model, memory=memory)
        sizes: dict[int, int] = {}

        def pack(tensor, sizes=sizes):
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model.elbo(x, noise)
        kept[memory] = sum(sizes.values())
    assert kept["low"] < kept["normal"] / 5


def test_half_precision_is_close_and_excludes_the_mixture(monkeypatch):
    model, x, noise = small_model()
    model.eval()
    with torch.no_grad():
        expected = model.elbo(x, noise).total
    seen, inside = set(), set()
    original = elementwise.packed_logit_cdf

    def recorded(x, parameters, floor):
        results = original(x, parameters, floor)
        seen.update(t.dtype for t in (x, *results))
        for got, want in zip(results, original(x, parameters.float(), floor), strict=True):
            assert torch.equal(got, want)
        return results

    monkeypatch.setattr(elementwise, "packed_logit_cdf", recorded)
    set_compute(model, precision="bfloat16")
    for module in model.modules():
        if type(module).__name__ == "GatedConv":
            module.register_forward_hook(lambda _, args, out: inside.add(out.dtype))
    with torch.no_grad():
        got = model.elbo(x, noise).total
    assert seen == {torch.float32}
    assert torch.bfloat16 in inside
    assert not torch.equal(got, expected)
    dims = x[0].numel()
    torch.testing.assert_close(got / dims, expected / dims, rtol=0, atol=0.02)


def eval_model(precision):
    """A model without dropout, initialized from enough images for its statistics."""
    generator = torch.Generator().manual_seed(0)
    model = build_model(presets.get("digits").model, (1, 8, 8), 17, generator).eval()
    set_compute(model, precision=precision)
    x = torch.randint(17, (128, 1, 8, 8), generator=generator).float()
    noise = torch.randn(x.shape, generator=generator)
    initialize(model, x, noise)
    return model, x, noise


def layer_deviations(model, x, noise):
    """Return each initialized layer's output deviations, divided by those intended."""
    deviations = []

    def record(layer, arguments, output):
        axes, intended = (0, 2, 3), 1.0
        if isinstance(layer, Conv2d):
            intended = layer.init_scale
        else:
            output, _ = output
            axes = (0,) + tuple(a + 1 for a in (1, 2) if layer.gain.shape[a] == 1)
        deviations.append(output.float().std(axes, correction=0).flatten() / intended)

    handles = [
        layer.register_forward_hook(record)
        for layer in model.modules()
        if isinstance(layer, (ActNorm, Conv2d))
    ]
    with torch.no_grad():
        bound = model.elbo(x, noise).total.mean() / x[0].numel()
    for handle in handles:
        handle.remove()
    return torch.cat(deviations), bound


@pytest.mark.parametrize("nested", [False, True], ids=["own", "nested"])
def test_half_precision_initializes_each_layer(nested):
    """Autocast caches half-precision weights, which initialization changes in place."""
    _, expected = layer_deviations(*eval_model("float32"))
    with torch.autocast("cpu", torch.bfloat16, enabled=nested):
        model, x, noise = eval_model("bfloat16")
    deviations, bound = layer_deviations(model, x, noise)
    assert len(deviations) > 1000
    torch.testing.assert_close(deviations, torch.ones_like(deviations), rtol=0.01, atol=0)
    torch.testing.assert_close(bound, expected, rtol=0, atol=0.01)


def test_half_precision_trains():
    expected = loss_and_gradients(*small_model())
    model, x, noise = small_model(precision="bfloat16", memory="low")
    got = loss_and_gradients(model, x, noise)
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in got)
    one, other = (torch.cat([g.flatten() for g in all_[2:]]) for all_ in (got, expected))
    assert torch.cosine_similarity(one, other, dim=0) > 0.9


def test_settings_reach_the_model():
    from dataclasses import replace

    from flowpp.bijectors import Coupling
    from flowpp.conditioner import Conditioner
    from flowpp.training.setup import prepare

    config = presets.get("digits")
    training = replace(config.training, memory="low", precision="bfloat16")
    _, model = prepare(replace(config, training=training))
    couplings = [m for m in model.modules() if isinstance(m, Coupling)]
    networks = [m for m in model.modules() if isinstance(m, Conditioner)]
    assert couplings and all(m.recompute for m in couplings)
    assert networks and all(m.compute_dtype is torch.bfloat16 for m in networks)


@pytest.mark.parametrize("convolution", ["joint", "halves", "lu"])
def test_autocast_around_a_model_reaches_the_networks_alone(convolution):
    from dataclasses import replace

    from flowpp.conditioner import Conditioner

    settings = presets.get("digits").model
    settings = replace(settings, flow=replace(settings.flow, convolution=convolution))
    generator = torch.Generator().manual_seed(0)
    model = build_model(settings, (1, 8, 8), 17, generator).eval()
    x = torch.randint(17, (32, 1, 8, 8), generator=generator).float()
    noise = torch.randn(x.shape, generator=generator)
    initialize(model, x, noise)
    networks = [m for m in model.modules() if isinstance(m, Conditioner)]
    inside = {part for network in networks for part in network.modules()}
    dtypes = {True: set(), False: set()}

    def record(module, _, output):
        outputs = output if isinstance(output, tuple) else (output,)
        dtypes[module in inside].update(o.dtype for o in outputs if isinstance(o, torch.Tensor))

    for module in model.modules():
        module.register_forward_hook(record)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        bound = model.elbo(x, noise)
        u, log_q = model.dequantizer.sample(x, noise)
        z, log_det = model.flow(x + u)
        back, inverse_log_det = model.flow.inverse(z)
        log_p = model.dequantizer.log_prob(x, u)
    results = (bound.total, bound.log_q, bound.log_det, bound.log_prior, u, log_q, z, log_p)
    assert {t.dtype for t in (*results, log_det, back, inverse_log_det)} == {torch.float32}
    assert torch.bfloat16 in dtypes[True]
    assert dtypes[False] == {torch.float32}
    torch.testing.assert_close(back, x + u, rtol=0, atol=1e-4)
    torch.testing.assert_close(inverse_log_det, -log_det, rtol=0, atol=1e-2)


def test_tf32_computes_float32_on_the_cpu():
    from flowpp.runtime.precision import float32_precision

    model, x, noise = small_model()
    expected = loss_and_gradients(model, x, noise)
    set_compute(model, precision="tf32")
    with float32_precision("tf32"):
        got = loss_and_gradients(model, x, noise)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
