"""Named models: the settings behind every number this project reports.

A description says what the preset is, and what was published for it and where. "Table 1" and
"Table 2" are the Flow++ paper's; bits/dim of Table 1 are importance-weighted bounds on whole test
sets.
"""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches

from flowpp.config.settings import (
    Config,
    ContextConfig,
    DataConfig,
    FlowConfig,
    ModelConfig,
    TrainingConfig,
)


def get(name: str) -> Config:
    """The preset of that name.

    Raises:
        ValueError: there is none; the message suggests the nearest name.
    """
    if name not in PRESETS:
        near = get_close_matches(name, PRESETS, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown preset {name!r}, needed one of {', '.join(PRESETS)}{hint}")
    return PRESETS[name]


def _with_flows(model: ModelConfig, **changes: object) -> ModelConfig:
    """Change the same fields in the main flow and in the dequantizer's."""
    return replace(
        model,
        flow=replace(model.flow, **changes),  # type: ignore[arg-type]
        dequantizer=replace(model.dequantizer, **changes),  # type: ignore[arg-type]
    )


# ---- small ones, for a CPU
# ------------------------------------------------------------------------

DIGITS_FLOW = FlowConfig(
    layout="columns 2, squeeze, channels 2, columns 2",
    filters=32,
    blocks=1,
    components=4,
    dropout=0.2,
    log_scale_floor=None,
)
DIGITS = Config(
    preset="digits",
    description="scikit-learn's 8x8 digits, 17 grey levels: two minutes on two CPU cores",
    model=ModelConfig(
        flow=DIGITS_FLOW,
        dequantizer=replace(DIGITS_FLOW, layout="columns 2"),
        context=ContextConfig(blocks=1),
    ),
    data=DataConfig(source="digits"),
    training=TrainingConfig(
        steps=1000,
        batch_size=32,
        learning_rate=3e-3,
        schedule="warm-up 100, constant 50%, cosine end 0",
        ema_decay=0.995,
        init_batch_size=256,
        evaluate_every=500,
        threads=1,  # a second one gains nothing on networks this small
    ),
)

# Squeezed first: attention over all 512 positions of a half would take most of the time.
PHOTOS_FLOW = FlowConfig(
    layout="squeeze, checkerboard 4, channels 2, squeeze, checkerboard 2, channels 2",
    filters=32,
    blocks=1,
    components=8,
    dropout=0.0,
    log_scale_floor=None,
)
PHOTOS = Config(
    preset="photos",
    description="32x32 RGB crops of scikit-learn's two photographs: the pipeline in colour, "
    "without a download",
    model=ModelConfig(
        flow=PHOTOS_FLOW,
        dequantizer=replace(PHOTOS_FLOW, layout="checkerboard 2", components=4, attention="none"),
        context=ContextConfig(filters=16, blocks=1),
    ),
    data=DataConfig(source="photos"),
    training=TrainingConfig(
        steps=500,
        batch_size=16,
        learning_rate=1e-3,
        schedule="warm-up 100, constant 50%, cosine end 0",
        ema_decay=0.98,
        init_batch_size=64,
        evaluate_every=250,
        evaluation_images=64,
        sample_count=16,
    ),
)

SMALL_FLOW = replace(PHOTOS_FLOW, dropout=0.1)
SMALL = Config(
    preset="small",
    description="Your own folder of images (--data.path FOLDER): size, grey or colour, levels and "
    "model are chosen to fit it, for a CPU; what is said on the command line stays as it is said",
    model=ModelConfig(
        flow=SMALL_FLOW,
        dequantizer=replace(SMALL_FLOW, layout="checkerboard 2", components=4, attention="none"),
        context=ContextConfig(filters=16, blocks=1),
    ),
    data=DataConfig(source="folder"),
    training=TrainingConfig(
        steps=2000,
        batch_size=16,
        learning_rate=1e-3,
        schedule="warm-up 100, constant 50%, cosine end 0",
        ema_decay=0.995,
        init_batch_size=64,
        evaluate_every=500,
        evaluation_images=256,
        sample_count=36,
    ),
)

# ---- CIFAR-10, as in the released code, and the paper's ablations
# ---------------------------------

CIFAR10 = Config(
    preset="cifar10",
    description="Flow++ on CIFAR-10 as in the authors' released code (31.4M parameters). "
    "Published: 3.08 bits/dim (Table 1)",
    data=DataConfig(source="cifar10"),
    training=TrainingConfig(
        steps=400_000,
        batch_size=64,
        learning_rate=3e-4,
        schedule="warm-up 2000",
        ema_decay=0.999,
        init_batch_size=128,
        evaluate_every=5000,
    ),
)
CIFAR10_UNIFORM = replace(
    CIFAR10,
    preset="cifar10-uniform",
    description="Ablation: uniform dequantization, more filters instead (32.3M). "
    "Published: 3.292 bits/dim, not converged (Table 2)",
    model=_with_flows(replace(CIFAR10.model, dequantization="uniform"), filters=104),
)
CIFAR10_AFFINE = replace(
    CIFAR10,
    preset="cifar10-affine",
    description="Ablation: affine couplings, more filters instead (32.0M). "
    "Published: 3.200 bits/dim, not converged (Table 2)",
    model=_with_flows(CIFAR10.model, coupling="affine", filters=108),
)
CIFAR10_NO_ATTENTION = replace(
    CIFAR10,
    preset="cifar10-no-attention",
    description="Ablation: attention replaced by a maximum over three channels (31.4M). "
    "Published: 3.193 bits/dim, not converged (Table 2; the whole model there: 3.165)",
    model=_with_flows(CIFAR10.model, attention="maxout"),
)
CIFAR10_PAPER = replace(
    CIFAR10,
    preset="cifar10-paper",
    description="The paper's text instead of its code: a true checkerboard, weight normalization, "
    "no floor under the log-scales. No figure was published for it",
    model=replace(
        CIFAR10.model,
        flow=replace(
            CIFAR10.model.flow,
            layout="checkerboard 4, squeeze, channels 2, checkerboard 3",
            weight_norm=True,
            log_scale_floor=None,
        ),
        dequantizer=replace(
            CIFAR10.model.dequantizer,
            layout="checkerboard 4",
            weight_norm=True,
            log_scale_floor=None,
        ),
    ),
)
CIFAR16_FLOW = replace(CIFAR10.model.flow, filters=32, blocks=2, components=8, dropout=0.0)
CIFAR16 = Config(
    preset="cifar16",
    description="CIFAR-10 averaged to 16x16, a small model of the released topology (1.5M): the "
    "setting in which learning curves are compared. Released code after 1,500 steps: 4.81 +- 0.02",
    model=ModelConfig(flow=CIFAR16_FLOW, dequantizer=replace(CIFAR16_FLOW, layout="columns 4")),
    data=DataConfig(source="cifar10", size=16),
    training=TrainingConfig(
        steps=1500,
        batch_size=16,
        learning_rate=1e-3,
        schedule="warm-up 200",
        ema_decay=0.0,
        init_batch_size=64,
        evaluate_every=250,
    ),
)

# ---- the released ImageNet and CelebA family
# ------------------------------------------------------

IMAGENET32_FLOW = FlowConfig(
    layout="columns 4, columns 3, squeeze, channels 3, columns 3",
    filters=128,
    blocks=20,
    components=32,
    dropout=0.0,
    weight_norm=True,
    activate_last=True,
    convolution="none",
)
IMAGENET32 = Config(
    preset="imagenet32",
    description="Flow++ on ImageNet 32x32 as in the released code (169.0M). "
    "Published: 3.86 bits/dim (Table 1), on the PNG version of the data",
    model=ModelConfig(
        flow=IMAGENET32_FLOW,
        dequantizer=replace(IMAGENET32_FLOW, layout="columns 4, columns 4", blocks=8),
        context=ContextConfig(blocks=8, layer_norm=True, attention="attention"),
    ),
    data=DataConfig(source="imagenet32"),
    training=TrainingConfig(
        steps=400_000,
        batch_size=32,
        learning_rate=1e-3,
        schedule="warm-up 5000, constant 50000, exponential 0.99995 0.3",
        ema_decay=0.999222,
        init_batch_size=32,
        evaluate_every=50_000,
    ),
)

LARGE_FLOW = FlowConfig(
    layout="squeeze, columns 4, squeeze, channels 2, columns 2, squeeze, channels 2, columns 2",
    filters=96,
    blocks=16,
    components=4,
    dropout=0.0,
    activate_last=True,
    convolution="none",
)
LARGE_MODEL = ModelConfig(
    flow=LARGE_FLOW,
    dequantizer=replace(LARGE_FLOW, layout="columns 4", blocks=5, attention="none"),
    context=ContextConfig(blocks=5, layer_norm=True),
)
IMAGENET64 = Config(
    preset="imagenet64",
    description="Flow++ on ImageNet 64x64 as in the released code (73.5M). "
    "Published: 3.69 bits/dim (Table 1), on the PNG version of the data. The released learning "
    "rate turns undefined and negative late in training; here it falls as it evidently was to",
    model=LARGE_MODEL,
    data=DataConfig(source="imagenet64"),
    training=TrainingConfig(
        steps=400_000,
        batch_size=72,
        learning_rate=4e-4,
        schedule="warm-up 10000, constant 50000, exponential 0.99995 0.75, constant 230000, "
        "linear 240000 0.025, constant 280000, linear 290000 0.0025",
        ema_decay=0.999,
        init_batch_size=72,
        evaluate_every=50_000,
    ),
)
IMAGENET64_5BIT = replace(
    IMAGENET64,
    preset="imagenet64-5bit",
    description="Flow++ on ImageNet 64x64 with 5 bits, as in the released code (73.5M). No figure "
    "was published for it",
    data=DataConfig(source="imagenet64", bits=5),
    training=replace(
        IMAGENET64.training,
        batch_size=60,
        init_batch_size=60,
        schedule="warm-up 10000, constant 50000, exponential 0.9995 0.75, constant 110000, "
        "linear 130000 0.025",
    ),
)
CELEBA64_5BIT = replace(
    IMAGENET64,
    preset="celeba64-5bit",
    description="Flow++ on CelebA-HQ at 64x64 with 5 bits, as in the released code (73.5M), for "
    "samples; no figure was published for it",
    data=DataConfig(source="folder", size=64, bits=5),
    training=replace(
        IMAGENET64.training,
        batch_size=56,
        init_batch_size=56,
        learning_rate=4e-5,
        schedule="warm-up 20000, constant 50000, exponential 0.9995 0.25",
        evaluate_every=5000,
    ),
)
CELEBA64_3BIT = replace(
    CELEBA64_5BIT,
    preset="celeba64-3bit",
    description="Flow++ on CelebA-HQ at 64x64 with 3 bits, as in the released code (73.5M), for "
    "samples; no figure was published for it",
    data=DataConfig(source="folder", size=64, bits=3),
)
CELEBA128_5BIT = replace(
    CELEBA64_5BIT,
    preset="celeba128-5bit",
    description="Flow++ on CelebA-HQ at 128x128 with 5 bits, as in the released code (122.8M), "
    "for samples; no figure was published for it",
    model=replace(
        LARGE_MODEL,
        flow=replace(LARGE_FLOW, layout="squeeze, " + LARGE_FLOW.layout, blocks=12),
    ),
    data=DataConfig(source="folder", size=128, bits=5),
    training=replace(
        CELEBA64_5BIT.training,
        batch_size=48,
        init_batch_size=64,
        learning_rate=1e-5,
        schedule="warm-up 50000",
    ),
)

# ---- baselines: the same parts, put together as earlier flows were
# --------------------------------

BASELINE_FLOW = FlowConfig(
    coupling="affine", attention="none", act_norm="channel", dropout=0.0, log_scale_floor=None
)
REALNVP = Config(
    preset="realnvp",
    description="RealNVP's architecture on CIFAR-10: checkerboard and channel couplings, half of "
    "the channels factored out at each scale, affine maps, uniform noise. Its own networks were "
    "residual; these are gated. Published for RealNVP: 3.49 bits/dim (Dinh et al. 2017, Table 1)",
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
    description="Glow's architecture on CIFAR-10: three scales of 32 steps of normalization per "
    "channel, a 1x1 convolution over all channels and an affine channel coupling. Its own "
    "networks were three plain convolutions; these are gated. Published for Glow: 3.35 bits/dim "
    "(Kingma and Dhariwal 2018, Table 2)",
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

PRESETS: dict[str, Config] = {
    config.preset: config
    for config in (
        DIGITS,
        PHOTOS,
        SMALL,
        CIFAR10,
        CIFAR10_UNIFORM,
        CIFAR10_AFFINE,
        CIFAR10_NO_ATTENTION,
        CIFAR10_PAPER,
        CIFAR16,
        IMAGENET32,
        IMAGENET64,
        IMAGENET64_5BIT,
        CELEBA64_5BIT,
        CELEBA64_3BIT,
        CELEBA128_5BIT,
        REALNVP,
        GLOW,
    )
}
