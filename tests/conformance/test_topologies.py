"""The topology of every preset is inferred from its released variables."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
import torch

from conformance.released.comparison import compare_model
from conformance.released.topology import infer_topology
from conformance.released.vectors import Vectors
from flowpp.config import ModelConfig
from flowpp.config.build import build_model
from flowpp.config.presets import PRESETS
from flowpp.config.serialization import from_dict
from flowpp.interop.released import released_variables, released_views
from flowpp.training.initialization import initialize

SHAPES = {
    "cifar10": (3, 8, 12),
    "cifar10-uniform": (3, 8, 8),
    "cifar10-affine": (3, 8, 8),
    "cifar10-no-attention": (3, 8, 8),
    "imagenet32": (3, 8, 16),
    "imagenet64": (3, 16, 32),
    "celeba64-3bit": (3, 16, 16),
    "celeba128-5bit": (3, 32, 32),
}
LEVELS = {"celeba64-3bit": 8, "celeba128-5bit": 32}


def small_config(name: str) -> ModelConfig:
    config = PRESETS[name].model
    small = {"filters": 4, "blocks": 2, "components": 3, "dropout": 0.0}
    if config.flow.coupling == "affine":
        small["components"] = 1
    return dataclasses.replace(
        config,
        flow=dataclasses.replace(config.flow, **small),
        dequantizer=dataclasses.replace(config.dequantizer, **small | {"blocks": 1}),
        context=dataclasses.replace(config.context, filters=8, blocks=2),
    )


@pytest.fixture(params=SHAPES)
def example(request):
    """Return name, initialized model with perturbed weights, images and noise."""
    name = request.param
    levels = LEVELS.get(name, 256)
    torch.manual_seed(0)
    model = build_model(small_config(name), SHAPES[name], levels).double().eval()
    x = torch.randint(levels, (3, *SHAPES[name]))
    noise = model.dequantizer.draw_noise(x.shape).double()
    initialize(model, x, noise)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
            parameter.copy_(parameter.float().double())  # files store float32
    return name, model, x, noise


def scopes(model) -> dict[str, str]:
    """Return `meta.scopes`: the scope of each numbered element of a chain."""
    found = {}
    names = list(dict.fromkeys(name.partition("/")[0] for name in released_views(model)))
    queues = {
        kind: [n for n in names if re.fullmatch(rf"{pattern}(_\d+)?", n)]
        for kind, pattern in (
            ("ActNorm", "Norm"),
            ("InvertibleConv", "Pointwise"),
            ("Coupling", r"\w*Coupling"),
        )
    }
    chains = [("trace", model.flow)]
    if hasattr(model.dequantizer, "flow"):
        chains.insert(0, ("dtrace", model.dequantizer.flow))
    for chain, flow in chains:
        for number, element in enumerate(flow.bijectors):
            queue = queues.get(type(element).__name__)
            if queue:
                found[f"{chain}/{number:02}_{type(element).__name__}"] = queue.pop(0)
    return found


def test_the_settings_are_inferred(example):
    name, model, x, _ = example
    meta = {
        "case": {"name": "abl_noattn" if "no-attention" in name else "case"},
        "scopes": scopes(model),
    }
    topology = infer_topology(meta, released_variables(model), SHAPES[name], model.levels)
    inferred, expected = from_dict(ModelConfig, topology.settings), small_config(name)
    assert inferred.flow == expected.flow
    if expected.dequantization == "variational":
        assert inferred == expected
    assert topology.imagenet == expected.flow.activate_last


def test_without_scopes_the_topology_is_still_equivalent(example):
    """Without scopes, groups of columns are joined, which does not change the model."""
    name, model, *_ = example
    topology = infer_topology({}, released_variables(model), SHAPES[name], model.levels)
    expected = small_config(name).flow.layout.replace("columns 4, columns 3", "columns 7")
    assert topology.settings["flow"]["layout"] == expected


def test_a_file_of_any_topology_is_compared(example, tmp_path):
    """The vectors are recorded from flowpp, so this tests the reader and not the arithmetic."""
    name, model, x, noise = example
    with torch.no_grad():
        terms = model.elbo(x, noise)
        z = model.encode(x, noise)
        u, _ = model.dequantizer.sample(x, noise)
    recorded = {
        "xdeq": np.moveaxis((x + u).numpy(), 1, -1),
        "z": np.moveaxis(z.numpy(), 1, -1),
        "total_logp": terms.total.numpy(),
        "dequant_logd": -terms.log_q.numpy(),
    }
    meta = {
        "case": {"name": "case_abl_noattn" if "no-attention" in name else "case", "kw": {}},
        "image_max": model.levels - 1,
        "scopes": scopes(model),
        "variables": list(released_views(model)),
    }
    path = tmp_path / "vectors.npz"
    weights = {f"w/{n}": a.astype(np.float32) for n, a in released_variables(model).items()}
    np.savez(
        path,
        meta=json.dumps(meta),
        x=np.moveaxis(x.numpy(), 1, -1).astype(np.uint8),
        **{"u" if name == "cifar10-uniform" else "eps": np.moveaxis(noise.numpy(), 1, -1)},
        **weights,
        **{f"f64/{n}": a for n, a in recorded.items()},
    )
    _, rows = compare_model(Vectors(path), [])
    assert {row.implementation for row in rows} == {"flowpp", "reference"}
    assert [row for row in rows if not row.holds] == []
