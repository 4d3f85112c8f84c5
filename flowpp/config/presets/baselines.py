"""Earlier flows, built from the same parts as Flow++."""

from __future__ import annotations

from dataclasses import replace

from flowpp.config.presets.cifar10 import CIFAR16
from flowpp.config.settings import Config, DataConfig, FlowConfig, ModelConfig, TrainingConfig

BASELINE_FLOW = FlowConfig(
    coupling="affine", attention="none", act_norm="channel", dropout=0.0, log_scale_floor=None
)
REALNVP = Config(
    preset="realnvp",
    description="RealNVP on CIFAR-10: 3.49 bits/dim published (Dinh et al., 2017, Table 1). "
    "Checkerboard and channel couplings, half of the channels factored out at each scale, affine "
    "maps, uniform noise. The original's networks were residual; these are gated.",
    model=ModelConfig(
        flow=replace(
            BASELINE_FLOW,
            filters=64,
            blocks=8,
            convolution="none",
            layout="checkerboard 3, squeeze, channels 3, factor, checkerboard 4",
        ),
        dequantization="uniform",
    ),
    data=DataConfig(source="cifar10"),
    training=TrainingConfig(
        steps=400_000,
        batch_size=64,
        learning_rate=1e-3,
        schedule="warm-up 2000",
        evaluate_every=5000,
    ),
)
GLOW = Config(
    preset="glow",
    description="Glow on CIFAR-10: 3.35 bits/dim published (Kingma and Dhariwal, 2018). "
    "Three scales of 32 steps: normalization per channel, a 1x1 convolution over all channels, an "
    "affine channel coupling. The original's networks were three plain convolutions; these are "
    "gated.",
    model=ModelConfig(
        flow=replace(
            BASELINE_FLOW,
            filters=64,
            blocks=2,
            convolution="lu",
            layout="squeeze, channels 32, factor, " * 2 + "squeeze, channels 32",
        ),
        dequantization="uniform",
    ),
    data=DataConfig(source="cifar10"),
    training=TrainingConfig(
        steps=400_000,
        batch_size=64,
        learning_rate=1e-3,
        schedule="warm-up 2000",
        evaluate_every=5000,
    ),
)

REALNVP16 = replace(
    CIFAR16,
    preset="realnvp16",
    description="RealNVP with as many weights as cifar16 (1.53M), for 16x16 images. "
    "Layout of realnvp, training of cifar16; for comparisons at equal size and steps.",
    model=replace(REALNVP.model, flow=replace(REALNVP.model.flow, filters=47, blocks=3)),
)
GLOW16 = replace(
    CIFAR16,
    preset="glow16",
    description="Glow with as many weights as cifar16 (1.54M), for 16x16 images. "
    "Two scales of 16 steps, down to 4x4 as in glow; training of cifar16.",
    model=replace(
        GLOW.model,
        flow=replace(
            GLOW.model.flow,
            filters=30,
            blocks=2,
            layout="squeeze, channels 16, factor, squeeze, channels 16",
        ),
    ),
)
