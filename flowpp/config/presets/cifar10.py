"""CIFAR-10: the released model, the paper's ablations, and a small model.

Tables are those of the Flow++ paper. Its Table 1 has importance-weighted bounds on the whole test
set; Table 2 has bounds before convergence.
"""

from __future__ import annotations

from dataclasses import replace

from flowpp.config.presets.recipe import with_recipe
from flowpp.config.settings import Config, DataConfig, ModelConfig, TrainingConfig


def _with_flows(model: ModelConfig, **changes: object) -> ModelConfig:
    """Change the same fields in the main flow and in the dequantizer's."""
    return replace(
        model,
        flow=replace(model.flow, **changes),  # type: ignore[arg-type]
        dequantizer=replace(model.dequantizer, **changes),  # type: ignore[arg-type]
    )


CIFAR10 = Config(
    preset="cifar10",
    description="Flow++ on CIFAR-10 (31.4M parameters): 3.08 bits/dim published (Table 1). "
    "Architecture of the authors' released code.",
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
    description="Ablation with uniform dequantization (32.3M): 3.292 bits/dim (Table 2). "
    "More filters instead. Not converged in the paper.",
    model=_with_flows(replace(CIFAR10.model, dequantization="uniform"), filters=104),
)
CIFAR10_AFFINE = replace(
    CIFAR10,
    preset="cifar10-affine",
    description="Ablation with affine couplings (32.0M): 3.200 bits/dim (Table 2). "
    "More filters instead. Not converged in the paper.",
    model=_with_flows(CIFAR10.model, coupling="affine", filters=108),
)
CIFAR10_NO_ATTENTION = replace(
    CIFAR10,
    preset="cifar10-no-attention",
    description="Ablation with maxout for attention (31.4M): 3.193 bits/dim (Table 2). "
    "A maximum over three channels replaces attention. Not converged in the paper, where the "
    "complete model has 3.165.",
    model=_with_flows(CIFAR10.model, attention="maxout"),
)
CIFAR10_PAPER = replace(
    CIFAR10,
    preset="cifar10-paper",
    description="CIFAR-10 after the paper's text rather than its code; no published figure. "
    "A true checkerboard, weight normalization, no lower bound on the log-scales.",
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
CIFAR10_PLUS = with_recipe(
    replace(
        CIFAR10,
        preset="cifar10-plus",
        description="Flow++ on CIFAR-10 (31.4M) with this library's recipe. Muon, a rate that "
        "falls to zero, initial whitening and spread mixtures; not trained to the end yet.",
        training=replace(CIFAR10.training, steps=100_000, schedule="warm-up 500, linear end 0"),
    ),
    learning_rate=2e-3,
)
CIFAR16_FLOW = replace(CIFAR10.model.flow, filters=32, blocks=2, components=8, dropout=0.0)
CIFAR16 = Config(
    preset="cifar16",
    description="CIFAR-10 averaged to 16x16, a small model (1.5M) for learning curves. "
    "Released topology; the released code has 4.81 +- 0.02 bits/dim after 1,500 steps.",
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
CIFAR16_PLUS = with_recipe(
    replace(
        CIFAR16,
        preset="cifar16-plus",
        description="The model of cifar16 with this library's recipe instead of the released one. "
        "Muon, a rate that falls to zero, initial whitening and spread mixtures, initialized from "
        "512 images.",
        training=replace(
            CIFAR16.training, schedule="warm-up 40, linear end 0", init_batch_size=512
        ),
    ),
    learning_rate=3e-3,
)
CIFAR16_VFLOW = replace(
    CIFAR16_PLUS,
    preset="cifar16-vflow",
    description="cifar16-plus with 3 channels of augmentation (VFlow). "
    "Fewer filters for equal parameters (1.5M). VFlow's paper has 2.98 bits/dim on CIFAR-10, "
    "Flow++'s 3.08.",
    model=replace(
        CIFAR16_PLUS.model,
        flow=replace(CIFAR16_PLUS.model.flow, filters=24),
        dequantizer=replace(CIFAR16_PLUS.model.dequantizer, filters=16),
        context=replace(CIFAR16_PLUS.model.context, filters=27),
        augment=3,
    ),
)
