"""The audit of a trained model: round trips, clamps, replaced mixtures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from conformance.adapters.flowpp import FlowppAdapter
from conformance.audit import trained_model, verdicts
from conformance.audit.measures import models
from conformance.audit.subjects.specimens import ClippedInverse, Specimen, clamped_at
from conformance.audit.subjects.subject import Subject
from flowpp import data
from flowpp.config import DataConfig
from flowpp.config.build import build_model
from flowpp.runs.checkpoint import Checkpoint
from flowpp.runs.open_model import model_facts
from tiny import TINY


@pytest.fixture(scope="module")
def model(run_directory):
    return trained_model.Model.open(run_directory, images=24, seed=0)


@pytest.fixture(scope="module")
def sharp(run_directory):
    """Open the model with enough images for the sharpest edges, whose outputs are extreme."""
    whole = trained_model.Model.open(run_directory, images=96, seed=0)
    assert whole.mixture_outputs(trained=False).max() > 15
    return whole


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trips(model, dtype, trained):
    found = model.trace(dtype, trained=trained)
    for start in ("data", "prior"):
        assert np.median(found[start]["total"]) < verdicts.MEDIAN_ROUND_TRIP[dtype]
        names = [name for name, _ in found[start]["layers"]]
        assert names[0] == "1 DataLogit"
        assert sum("Coupling" in name for name in names) == 6
        assert all(len(errors) == 24 * 64 for _, errors in found[start]["layers"])


def test_a_conditional_model_is_audited_with_its_contexts(tmp_path):
    config = replace(TINY, data=DataConfig(labels="folder"))
    images = data.load(config.data)
    generator = torch.Generator().manual_seed(0)
    built = build_model(config.model, images.shape, images.levels, generator, images.context)
    facts = model_facts(config, images.shape, images.levels, images.context)
    path = tmp_path / "model.safetensors"
    Checkpoint(0, built.state_dict(), {}, {}, facts).save(path)
    audited = trained_model.Model.open(path, images=8, seed=0)
    assert audited.context.tolist() == images.context_of("test")[:8].tolist()
    found = audited.trace("float64", trained=False)
    for start in ("data", "prior"):
        assert np.median(found[start]["total"]) < verdicts.MEDIAN_ROUND_TRIP["float64"]
    own = audited.bits_per_dim("float64", trained=False)
    others = replace(audited, context=(audited.context + 1) % 10)
    assert (abs(own - others.bits_per_dim("float64", trained=False)) > 1e-6).all()


def test_a_clipped_inverse_fails_the_round_trip(sharp):
    build = Subject("ClippedInverse", ClippedInverse, "float64", "specimen").build
    clipped = sharp.trace("float64", build, trained=False)
    clean = sharp.trace("float64", trained=False)
    assert clipped["data"]["total"].max() > 1e6 * clean["data"]["total"].max()


def test_a_correct_replacement_mixture_changes_nothing(model):
    build = Subject("flowpp", FlowppAdapter, "float64", "judged").build
    true = model.bits_per_dim("float64")
    np.testing.assert_allclose(model.bits_per_dim("float64", build), true, atol=1e-12)
    assert np.abs(model.bits_per_dim("float32") - true).max() < 1e-4


def test_cost_of_a_clamp(sharp):
    true = sharp.bits_per_dim("float64", trained=False)

    def cost(size):
        build = Subject("clamped", clamped_at(size), "float64", "specimen").build
        got = sharp.bits_per_dim("float64", build, trained=False)
        return models.difference(got, true)["largest_difference"]

    assert cost(1e-2) > 0.01
    assert cost(1e-22) < 1e-3 * cost(1e-2)


def test_costs_of_images_without_a_likelihood():
    found = models.difference(np.array([1.0, np.inf, np.nan, 2.5]), np.array([1.0, 1.0, 1.0, 2.0]))
    assert found["mean_difference"] == 0.25
    assert found["largest_difference"] == 0.5
    assert found["non_finite_percent"] == 50


def test_a_subject_that_raises_in_a_model_gets_bad_verdicts(model):
    class Breaking(Specimen):
        def build(self, spec):
            raise RuntimeError("too large")

    subject = Subject("Breaking", Breaking, "float32", "judged")
    few = replace(model, images=model.images[:2], noise=model.noise[:2])
    study = {
        "mixtures": {str(subject): models._cost(few, subject, np.zeros(2))},
        "round_trips": {str(subject): {"trained": models._round_trip(few, subject, "trained")}},
    }
    found = verdicts.of_model(str(subject), "float32", study)
    assert [v.status for v in found] == ["bad", "bad"]
    assert all("RuntimeError: too large" in v.text for v in found)
