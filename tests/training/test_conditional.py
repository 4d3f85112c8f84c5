"""Training of conditional models: batches, bits of a resumed run, final figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conditional_images import LEVELS, NAMES, SIDE, SPECS, conditional_images, context_of
from same_runs import same_state

from flowpp.config import FlowConfig
from flowpp.config.build import build_model
from flowpp.config.context_spec import ContextSpec
from flowpp.data.derived_contexts import draw_masks
from flowpp.evaluation import bound
from flowpp.evaluation.contexts import label_rows
from flowpp.evaluation.importance import importance_bounds, importance_log_probs
from flowpp.evaluation.part_contexts import own_contexts
from flowpp.model import FlowPlusPlus
from flowpp.objective import bits_per_dim
from flowpp.runs.checkpoint import CheckpointError
from flowpp.runs.open_model import open_model
from flowpp.runtime.distributed import SINGLE_PROCESS, ProcessGroup
from flowpp.runtime.random_state import seeded_generator
from flowpp.training.batches import NoisyImages
from flowpp.training.contexts import TrainingContexts
from flowpp.training.gradients import accumulate_gradients
from flowpp.training.held_out import _chosen
from flowpp.training.initial_weights import LABELS, InitialWeights
from flowpp.training.loop import Trainer, train
from flowpp.training.non_finite import save_batch
from flowpp.training.objective import training_bound
from flowpp.training.result import Result
from flowpp.training.setup import _scale_note, prepare
from tiny import TINY

SHAPE = (1, SIDE, SIDE)
KINDS = list(SPECS)
FLOW = FlowConfig(layout="checkerboard 1", filters=4, blocks=1, components=2)
CONFIG = replace(
    TINY,
    model=replace(TINY.model, flow=FLOW),
    training=replace(TINY.training, steps=4, sample_count=6, init_batch_size=16),
)


def batches(kind, *, flip=False, dropout=0.0):
    """Return the sources of batches with and without contexts."""
    images = conditional_images(kind)
    model = build_model(CONFIG.model, SHAPE, LEVELS)
    contexts = TrainingContexts.of(images, dropout)
    return (
        images,
        NoisyImages(images.train, model, flip=flip, contexts=contexts),
        NoisyImages(images.train, model, flip=flip),
    )


def drawn(inputs, indices, seed=0):
    return inputs.draw(indices, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_has_the_contexts_of_its_images(kind, flip):
    """Images and noise are those of the same batch without contexts."""
    images, conditional, plain = batches(kind, flip=flip)
    indices = torch.tensor([5, 0, 17, 5, 23, 9, 2, 11])
    x, noise, context = drawn(conditional, indices)
    assert all(map(torch.equal, (x, noise), drawn(plain, indices)))
    if kind == "images":  # mirrored with the image
        assert torch.equal(context, x)
    elif kind == "mask":
        visible = context[:, 1:] == LEVELS - 1
        assert torch.equal(context[:, 1:], visible * (LEVELS - 1.0))
        assert torch.equal(context[:, :1], x * visible)
    else:
        expected = images.context_of("train")[indices.numpy()]
        np.testing.assert_array_equal(context.numpy(), expected)
        assert context.dtype == (torch.int64 if kind == "labels" else torch.float32)


def test_each_batch_has_masks_of_its_own():
    _, inputs, _ = batches("mask")
    generator = torch.Generator().manual_seed(0)
    indices = torch.arange(8)
    first, second = (inputs.draw(indices, generator)[2][:, 1] for _ in range(2))
    assert not torch.equal(first, second)
    after = torch.Generator().manual_seed(0)
    inputs.model.draw_noise((8, *SHAPE), generator=after)
    masks = draw_masks(8, SIDE, SIDE, after)[:, 0]
    np.testing.assert_array_equal(first.numpy() == LEVELS - 1, masks)


def test_labels_are_dropped_with_the_given_probability():
    images, inputs, _ = batches("labels", dropout=0.25)
    indices = torch.arange(24).repeat(100)
    labels = drawn(inputs, indices)[2].numpy()
    dropped = labels == len(NAMES)
    assert abs(dropped.mean() - 0.25) < 4 * (0.25 * 0.75 / 2400) ** 0.5
    kept = np.tile(images.context_of("train"), 100)
    np.testing.assert_array_equal(labels[~dropped], kept[~dropped])
    assert 20 < len({*indices.numpy()[dropped]})


def test_deep_context_images_keep_their_values():
    spec = SPECS["images"]
    rows = np.array([0, 1, 32767, 32768, 65535, 7], np.uint16).reshape(6, 1, 1, 1)
    contexts = TrainingContexts(spec, rows.repeat(4, 2).repeat(4, 3), 65536)
    x = torch.zeros(2, *SHAPE)
    found = contexts.draw(torch.tensor([4, 3]), x, None, torch.Generator())
    assert found[:, 0, 0, 0].tolist() == [65535.0, 32768.0] and found.dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_equals_an_uninterrupted_one(kind, tmp_path, monkeypatch):
    """With label dropout and flips; interrupted after two of four steps."""
    settings = replace(CONFIG.training, label_dropout=0.3, checkpoint_every=1)
    config = replace(CONFIG, data=replace(CONFIG.data, flip=True), training=settings)
    images = conditional_images(kind)

    def prepared():
        return prepare(config, images=images)

    train(config, tmp_path / "whole", prepared())
    original = Trainer._next_batch

    def interrupted(trainer):
        if trainer.state.step == 2:
            raise KeyboardInterrupt
        return original(trainer)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_next_batch", interrupted)
        train(config, tmp_path / "resumed", prepared())
    result = train(config, tmp_path / "resumed", prepared(), resume=True)
    assert same_state(tmp_path / "whole", tmp_path / "resumed")
    assert (tmp_path / "resumed" / "samples" / "step-00000004.png").is_file()
    assert result.bits_per_dim is not None


@pytest.fixture(scope="module")
def labelled_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("labelled") / "run"
    images = conditional_images("labels")
    config = replace(CONFIG, training=replace(CONFIG.training, learning_rate=0.1))
    return out, images, train(config, out, prepare(config, images=images))


def test_final_figures_by_class_and_without_label(labelled_run):
    out, images, result = labelled_run
    model, labels = open_model(out).model, images.context_of("test")
    nats = importance_log_probs(model, images.test, 1, contexts=labels)[1]
    bits = -nats / (16 * np.log(2))
    assert result.bits_per_dim == pytest.approx(bits.mean(), rel=1e-12)
    for label, name in enumerate(NAMES):
        own = bits[labels == label]
        row = result.per_class[name]
        assert row["count"] == len(own) > 1
        assert row["bits_per_dim"] == pytest.approx(own.mean(), rel=1e-12)
        assert row["standard_error"] == pytest.approx(own.std(ddof=1) / len(own) ** 0.5, rel=1e-9)
    none = label_rows(model.context_spec, len(NAMES), len(labels))
    unlabelled = importance_bounds(model, images.test, 1, contexts=none)[1]
    assert result.without_label == unlabelled.mean != result.bits_per_dim
    assert result.without_label_standard_error == unlabelled.standard_error
    written = json.loads((out / "result.json").read_text())
    assert written["per_class"] == result.per_class


def test_a_finished_conditional_run_keeps_its_result(labelled_run):
    out, images, result = labelled_run
    config = open_model(out).config
    assert train(config, out, prepare(config, images=images), resume=True) == replace(
        result, samples=str(out / "samples" / "step-00000004.png")
    )


def test_without_dropout_there_is_no_bound_without_label(tmp_path):
    settings = replace(CONFIG.training, steps=1, label_dropout=0.0)
    config, images = replace(CONFIG, training=settings), conditional_images("labels")
    result = train(config, tmp_path / "run", prepare(config, images=images))
    assert isinstance(result, Result)
    assert result.without_label is None and set(result.per_class) == set(NAMES)


def conditional_batch(kind, draws=1):
    images = conditional_images(kind)
    model = build_model(CONFIG.model, SHAPE, LEVELS, torch.Generator().manual_seed(0), SPECS[kind])
    contexts = TrainingContexts.of(images, 0.0)
    inputs = NoisyImages(images.train, model, draws=draws, contexts=contexts)
    return model.eval(), drawn(inputs, torch.arange(6))


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_conditional_batch_give_the_gradient_of_the_whole(kind):
    model, batch = conditional_batch(kind, draws=2)
    model.double()
    x, noise, context = (p.double() if p.is_floating_point() else p for p in batch)
    losses, gradients = [], []
    for parts in (1, 4):
        model.zero_grad()
        losses.append(accumulate_gradients(model, x, noise, parts, context))
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)
    assert all(p.grad is not None and p.grad.any() for p in model.context_encoder.parameters())


def test_several_draws_have_the_context_of_their_image():
    model, (x, noise, context) = conditional_batch("labels", draws=3)
    with torch.no_grad():
        many = training_bound(model, x, noise, context)
        each = torch.stack([model.elbo(x, noise[:, d], context).total for d in range(3)])
    torch.testing.assert_close(many, torch.logsumexp(each, 0) - np.log(3), rtol=1e-5, atol=1e-4)


def test_a_skipped_batch_is_kept_with_its_context(tmp_path, labelled_run):
    checkpoint = open_model(labelled_run[0]).checkpoint
    _, batch = conditional_batch("labels")
    kept = type(checkpoint).load(save_batch(tmp_path, checkpoint, {}, *batch))
    assert torch.equal(kept.state["batch/context"], batch[2])


def test_images_must_have_the_contexts_of_a_prepared_model(tmp_path):
    _, model = prepare(CONFIG, images=conditional_images("labels"))
    with pytest.raises(ValueError, match="must be conditioned on a vector of 2 .* label"):
        train(CONFIG, tmp_path / "run", (conditional_images("vectors"), model))


def test_bounds_need_a_context_for_each_image(labelled_run):
    out, images, _ = labelled_run
    model = open_model(out).model
    with pytest.raises(ValueError, match="a row for each of the 9 images, got 3"):
        importance_bounds(model, images.test, 1, contexts=np.zeros(3, np.int64))
    with pytest.raises(TypeError, match="contexts must be a NumPy array, got list"):
        importance_bounds(model, images.test, 1, contexts=[0] * 9)
    with pytest.raises(ValueError, match="conditional"):
        importance_bounds(model, images.test, 1)


def test_bits_do_not_depend_on_the_order_of_images_in_batches(labelled_run):
    """Contexts go with their images, in batches that hold an image several times."""
    out, images, _ = labelled_run
    model, labels = open_model(out).model, images.context_of("test")
    whole = importance_log_probs(model, images.test, 4, contexts=labels)[4]
    small = importance_log_probs(model, images.test, 4, contexts=labels, batch=3)[4]
    np.testing.assert_allclose(small, whole, rtol=1e-5)
    assert bits_per_dim(torch.from_numpy(whole), 16).isfinite().all()
    assert context_of("labels", images.test).tolist() == labels.tolist()


class Rank(ProcessGroup):
    """One rank of a group whose ranks run one after another in this process."""

    gathered: list[np.ndarray] = []

    def gather_array(self, array):
        self.gathered.append(array)
        return np.stack(self.gathered[-self.size :])


@pytest.mark.parametrize("kind", KINDS)
def test_shares_of_an_evaluation_are_the_whole(kind, monkeypatch):
    """Each process computes some batches: contexts are found by the image's index."""
    monkeypatch.setattr(bound, "BATCH", 2)
    model, _ = conditional_batch(kind)
    images = conditional_images(kind)
    contexts = images.context_of("test")

    def terms(group):
        return bound.evaluate_bound(
            model, images.test, seeded_generator(0), group, contexts=contexts
        )

    def bounds(group):
        return importance_bounds(model, images.test, 3, batch=4, contexts=contexts, group=group)

    expected = [terms(SINGLE_PROCESS), bounds(SINGLE_PROCESS)]
    Rank.gathered = [np.zeros((4, len(images.test)))] * 2
    shared = [terms(Rank(rank, 3)) for rank in range(3)][-1]
    assert shared == expected[0]
    each = importance_bounds(model, images.test, 1, batch=1, contexts=contexts)[1]
    assert each.mean == pytest.approx(expected[1][1].mean, rel=1e-5)
    assert each.mean == pytest.approx(expected[0]["bits_per_dim"].mean, rel=1e-5)


def test_weights_of_another_context_are_named(labelled_run, tmp_path):
    source, images, _ = labelled_run
    config = replace(CONFIG, training=replace(CONFIG.training, steps=1))
    vectors = conditional_images("vectors")
    with pytest.raises(CheckpointError, match=r"a model conditioned on a label .*cat, dog, owl"):
        train(config, tmp_path / "a", prepare(config, images=vectors), init_from=source)
    plain = replace(vectors, context=None, contexts={})
    with pytest.raises(CheckpointError, match="this one is without contexts"):
        train(config, tmp_path / "b", prepare(config, images=plain), init_from=source)


def source_of(context: ContextSpec) -> tuple[FlowPlusPlus, InitialWeights]:
    model = build_model(CONFIG.model, SHAPE, LEVELS, context=context)
    weights = dict(model.state_dict())
    return model, InitialWeights(Path("a"), 1, weights, CONFIG, LEVELS, SHAPE, context)


def test_weights_of_classes_go_by_their_names():
    spec = ContextSpec("labels", "folder", ("bird", "cat", "dog"))
    former, source = source_of(spec)
    model, _ = source_of(replace(spec, names=("ant", "dog", "cat")))
    source.copy_into(model)
    assert torch.equal(
        model.context_encoder.embedding, former.context_encoder.embedding[[0, 2, 1, 3]]
    )
    assert source.description(model).endswith("weights of names that are new: ant from bird")
    source.copy_into(former)
    assert torch.equal(former.context_encoder.embedding, source.weights[LABELS])
    assert "names" not in source.description(former)


def test_weights_of_columns_go_by_their_names():
    spec = ContextSpec("vectors", "csv", ("age", "height"), (2,))
    former, source = source_of(spec)
    former.context_encoder.initialize(torch.tensor([[1.0, 100.0], [3.0, 500.0]]))
    model, _ = source_of(replace(spec, names=("height", "age")))
    source.copy_into(model)
    given = torch.tensor([[2.0, 300.0], [3.0, -7.0]])
    expected = former.context_encoder(given, SHAPE)
    assert torch.equal(model.context_encoder(given.flip(1), SHAPE), expected)


def test_vectors_of_another_scale_are_named():
    images = conditional_images("vectors")
    model, _ = source_of(images.context)
    vectors = images.context_of("train")
    model.context_encoder.initialize(torch.from_numpy(vectors))
    assert _scale_note(images, model) == []
    moved = {part: array + np.float32([0, 1e4]) for part, array in images.contexts.items()}
    (line,) = _scale_note(replace(images, contexts=moved), model)
    assert "of another scale" in line and "column 2: mean 1e+04, where theirs was" in line


def test_held_out_images_in_the_order_of_their_classes_are_spread():
    images = conditional_images("labels", test=30)
    labels = np.sort(images.context_of("test"))
    given = replace(images, contexts={**images.contexts, "test": labels})
    assert set(labels[:6]) != set(labels) == set(labels[_chosen(given, 6)])
    assert len(_chosen(given, 6)) == 6 and _chosen(given, 30) == slice(30)
    mixed = replace(given, contexts={**images.contexts, "test": np.arange(30) % len(NAMES)})
    assert _chosen(mixed, 6).tolist() == list(range(6))
    assert _chosen(replace(images, context=None, contexts={}), 6) == slice(6)


def test_labels_may_have_moved_into_a_file():
    images = conditional_images("labels")
    moved = replace(images, context=replace(images.context, source="csv"))
    assert own_contexts(moved, "test", images.context) is moved.context_of("test")
    with pytest.raises(ValueError, match=r"for none \(owl, dog, cat\), got a label 0 \.\.\. 2"):
        own_contexts(moved, "test", replace(images.context, names=NAMES[::-1]))


def test_other_names_of_as_many_classes_are_said(labelled_run, tmp_path, capsys):
    source, images, _ = labelled_run
    config = replace(CONFIG, training=replace(CONFIG.training, steps=1))
    renamed = replace(images, context=replace(images.context, names=("a", "b", "c")))
    train(config, tmp_path / "run", prepare(config, images=renamed), init_from=source)
    printed = capsys.readouterr().out
    assert "(cat, dog, owl), now conditioned on" in printed and "(a, b, c)" in printed
