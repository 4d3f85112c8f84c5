"""This library's recipe for training, which reaches lower bounds than the released one."""

from __future__ import annotations

from dataclasses import replace

from flowpp.config.settings import Config


def with_recipe(config: Config, *, learning_rate: float) -> Config:
    """Return settings with Muon, initial whitening, spread mixtures and orthogonal kernels.

    The schedule remains; it should fall to zero at the end of the run.
    """
    model = config.model
    return replace(
        config,
        model=replace(
            model,
            flow=replace(model.flow, whiten=True, spread=True),
            dequantizer=replace(model.dequantizer, whiten=True, spread=True),
            orthogonal=True,
        ),
        training=replace(config.training, optimizer="muon-inputs", learning_rate=learning_rate),
    )
