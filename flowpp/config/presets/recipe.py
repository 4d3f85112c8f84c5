"""This library's recipe for training, which reaches lower bounds than the released one."""

from __future__ import annotations

from dataclasses import replace

from flowpp.config.settings import Config, OptimizerKind


def with_recipe(config: Config, *, learning_rate: float, orthogonal: bool = True) -> Config:
    """Return settings with Muon, initial whitening and spread mixtures.

    The schedule remains; it should fall to zero at the end of the run.

    Args:
        config: The released settings.
        learning_rate: The peak.
        orthogonal: Whether kernels start orthogonal, and Muon updates those of the first
            convolutions too; without effect on the bound of few images.
    """
    model = config.model
    optimizer: OptimizerKind = "muon-inputs" if orthogonal else "muon"
    return replace(
        config,
        model=replace(
            model,
            flow=replace(model.flow, whiten=True, spread=True),
            dequantizer=replace(model.dequantizer, whiten=True, spread=True),
            orthogonal=orthogonal,
        ),
        training=replace(config.training, optimizer=optimizer, learning_rate=learning_rate),
    )
