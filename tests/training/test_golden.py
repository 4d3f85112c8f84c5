"""Five optimizer steps of the authors' released code: gradients, clipping, Adam, warm-up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from flowpp.config import ContextConfig, FlowConfig, ModelConfig, TrainingConfig
from flowpp.config.build import build_model
from flowpp.interop.released import copy_released, released_views
from flowpp.training.gradients import clip_by_global_norm
from flowpp.training.learning_rate import learning_rate
from flowpp.training.optimizer import Adam

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "golden" / "case1_cifar_8x8.npz"


def test_five_steps_agree_with_the_released_code():
    golden = np.load(GOLDEN)
    network = {"filters": 16, "blocks": 2, "components": 4, "dropout": 0.0}
    config = ModelConfig(
        flow=FlowConfig(**network),
        dequantizer=FlowConfig(layout="columns 4", **network),
        context=ContextConfig(filters=32, blocks=3),
    )
    model = build_model(config, image_shape=(3, 8, 8), levels=256).double()
    copy_released(
        model,
        {name[2:]: golden[name].astype(np.float64) for name in golden.files if name[:2] == "w/"},
    )
    x = torch.from_numpy(golden["x"].transpose(0, 3, 1, 2).astype(np.float64))
    noise = torch.from_numpy(golden["eps"].transpose(0, 3, 1, 2).astype(np.float64))
    settings = TrainingConfig(steps=1000, learning_rate=3e-4, schedule="warm-up 3")
    optimizer = Adam(model.parameters(), lr=0.0)

    rates, losses, norms = [], [], []
    for step in range(1, 7):
        loss = -model.elbo(x, noise).total.mean()
        losses.append(loss.item())
        if step == 6:
            break
        optimizer.zero_grad()
        loss.backward()
        norms.append(clip_by_global_norm(model.parameters(), settings.max_grad_norm).item())
        rates.append(learning_rate(step, settings))
        optimizer.param_groups[0]["lr"] = rates[-1]
        optimizer.step()

    np.testing.assert_allclose(rates, golden["train/lr"], rtol=1e-13)
    np.testing.assert_allclose(losses, golden["train/loss"], rtol=1e-11)
    np.testing.assert_allclose(norms, golden["train/grad_norm"], rtol=1e-10)
    weights = released_views(model)
    recorded = [name for name in golden.files if name.startswith("train/w_after/")]
    assert len(recorded) == 167  # a subset, to keep the file small
    for name in recorded:
        ours = weights[name.removeprefix("train/w_after/")].numpy()
        # Weights move by about 1e-3 in these steps.
        np.testing.assert_allclose(ours, golden[name], rtol=0, atol=1e-11, err_msg=name)
