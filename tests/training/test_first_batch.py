"""The batch of the data-dependent initialization, and what none can be initialized from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from flowpp import train
from flowpp.config import TrainingConfig
from flowpp.config.context_spec import ContextSpec
from flowpp.data import ImageSet
from flowpp.runtime.distributed import SINGLE_PROCESS
from flowpp.training import loop
from flowpp.training.first_batch import check_first_batch, with_different_contexts
from flowpp.training.setup import initial_state, prepare
from tiny import TINY

SPEC = ContextSpec("vectors", "csv", ("smiles",), (1,))


def with_attribute(having):
    """Images of which those numbered in `having` have an attribute."""
    images = np.random.default_rng(0).integers(17, size=(400, 1, 8, 8), dtype=np.uint8)
    attribute = np.isin(np.arange(400), having).astype(np.float32)[:, None]
    contexts = {"train": attribute, "test": attribute[:4]}
    return ImageSet("faces", images, images[:4], 17, context=SPEC, contexts=contexts)


def test_a_rare_attribute_is_in_the_first_batch():
    """One of 400 images has it, which a first batch of 32 lacks with seed 0."""
    first = torch.randperm(400, generator=torch.Generator().manual_seed(0))[:32]
    rare = next(i for i in range(400) if i not in first)
    images = with_attribute([rare])
    rows = with_different_contexts(first, images)
    assert rows[-1] == rare and torch.equal(rows[:-1], first[:-1])
    state, _ = initial_state(TINY, *prepare(TINY, images=images), SINGLE_PROCESS, None)
    assert all(torch.isfinite(p).all() for p in state.model.parameters())


def test_each_column_that_varies_does_so_in_the_first_batch():
    """A constant column has scale 1, and rare values of 10^6 would enter the networks."""
    vectors = np.random.default_rng(0).normal(size=(400, 5)).astype(np.float32)
    vectors[:, 1:] = [0, 7, 0, 0]
    vectors[300, 1] = vectors[301, 3] = vectors[302, 3] = vectors[300, 4] = 1e6
    first = torch.arange(32)
    rows = with_different_contexts(first, with_vectors(vectors))
    assert rows.tolist() == [*range(30), 301, 300]
    model = prepare(TINY, images=with_vectors(vectors))[1]
    encoder, values = model.context_encoder, torch.from_numpy(vectors)
    encoder.initialize(values[rows])
    assert ((values - encoder.mean) / encoder.scale).abs().max() < 10
    few = with_different_contexts(torch.arange(2), with_vectors(vectors))
    assert few.tolist() == [0, 300]


def with_vectors(vectors):
    images = with_attribute([])
    spec = replace(SPEC, names=(), shape=(vectors.shape[1],))
    return replace(images, context=spec, contexts={"train": vectors, "test": vectors[:4]})


def test_other_batches_stay_as_they_are():
    first = torch.arange(32)
    for images in (with_attribute([3]), replace(with_attribute([]), context=None, contexts={})):
        assert with_different_contexts(first, images) is first


def test_equal_contexts_are_refused(tmp_path):
    images = with_attribute([])
    message = "faces must have training images of different contexts, got the same one for all 400"
    with pytest.raises(ValueError, match=message):
        loop.train(TINY, tmp_path / "run", prepare(TINY, images=images))
    assert not (tmp_path / "run").exists()


def test_one_image_is_refused_before_a_run_is_created(tmp_path, capsys):
    with pytest.raises(ValueError, match="init_batch_size must be at least 2, .* got 1"):
        check_first_batch(TrainingConfig(init_batch_size=1), with_attribute([1]))
    flags = ["--training.init-batch-size", "1", "--training.steps", "1"]
    with pytest.raises(SystemExit) as stop:
        train.main(["digits", *flags, "--out", str(tmp_path / "run")])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and "init_batch_size" in error
    assert not (tmp_path / "run").exists()
