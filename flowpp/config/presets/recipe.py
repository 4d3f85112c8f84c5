"""This library's recipe for training, which reaches lower bounds than the released one."""

from __future__ import annotations

from dataclasses import replace

from flowpp.config.settings import Config, OptimizerKind


def with_recipe(
    config: Config,
    *,
    learning_rate: float,
    optimizer: OptimizerKind = "muon-inputs",
    orthogonal: bool = False,
) -> Config:
    """Return settings with Muon, initial whitening and spread mixtures.

    The schedule remains; it should fall to zero at the end of the run.

    Args:
        config: Settings of the model, the data and the released training.
        learning_rate: The peak.
        optimizer: Which kernels Muon updates.
        orthogonal: Whether kernels start orthogonal.
    """
    model = config.model
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
