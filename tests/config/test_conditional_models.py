"""Conditional models: built from settings, converted, stored; contexts that do not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import flowpp
from conformance.adapters.flowpp import to_reference
from flowpp.bijectors import ActNorm, Flip, LiftedContext
from flowpp.config import (
    ConditionConfig,
    Config,
    ContextConfig,
    ContextSpec,
    FlowConfig,
    ModelConfig,
)
from flowpp.config.build import build_model, set_compute
from flowpp.runs.checkpoint import Checkpoint, CheckpointError
from flowpp.runs.open_model import model_facts, open_model
from flowpp.training.initialization import initialize

SHAPE = (2, 4, 4)
LEVELS = 16
BATCH = 6
SMALL = {"filters": 4, "blocks": 1, "components": 2, "heads": 2, "dropout": 0.0}
LAYOUT = "columns 1, squeeze, channels 1, factor, checkerboard 1"
SPECS = {
    "labels": ContextSpec("labels", "folder", ("cat", "dog", "owl")),
    "vectors": ContextSpec("vectors", "csv", ("a", "b"), (2,)),
    "images": ContextSpec("images", "low-resolution", (), (2, 2, 2)),
}
KINDS = pytest.mark.parametrize("kind", SPECS)


def settings(**options) -> ModelConfig:
    return ModelConfig(
        FlowConfig(layout=LAYOUT, **SMALL),
        dequantizer=FlowConfig(layout="columns 1", **SMALL),
        context=ContextConfig(filters=4, blocks=1),
        condition=ConditionConfig(filters=3, blocks=1),
        **options,
    )


def contexts(kind: str, generator: torch.Generator) -> torch.Tensor:
    if kind == "labels":
        return torch.arange(BATCH) % 4
    if kind == "vectors":
        return torch.randn(BATCH, 2, generator=generator)
    return torch.randint(LEVELS, (BATCH, 2, 2, 2), generator=generator, dtype=torch.uint8)


def initialized(kind: str, **options):
    """Return a model in float64, initialized from a batch, and that batch."""
    generator = torch.Generator().manual_seed(1)
    model = build_model(settings(**options), SHAPE, LEVELS, generator, SPECS[kind]).double()
    x = torch.randint(LEVELS, (BATCH, *SHAPE), generator=generator).double()
    noise = model.draw_noise(x.shape, dtype=torch.float64, generator=generator)
    batch = x, noise, contexts(kind, generator)
    initialize(model.eval(), *batch)
    return model, batch


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("labels", {}),
        ("vectors", {"dequantization": "truncated-normal"}),
        ("images", {"dequantization": "uniform", "augment": 2}),
    ],
)
def test_a_model_converts_to_its_reference_twin(kind, options):
    model, (x, noise, context) = initialized(kind, **options)
    twin = to_reference(model)
    arrays = [part.numpy() for part in (x, noise, context)]
    with torch.no_grad():
        bound, z = model(x, noise, context), model.encode(x, noise, context)
        assert (model.decode_images(z, context) == x).all()
    for term in ("log_q", "log_det", "log_prior"):
        want = torch.from_numpy(getattr(twin.elbo(*arrays), term))
        torch.testing.assert_close(getattr(bound, term), want, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(z, torch.from_numpy(twin.encode(*arrays)), rtol=1e-9, atol=1e-9)
    decoded = torch.from_numpy(twin.decode(z.numpy(), arrays[2]))
    torch.testing.assert_close(model.decode(z, context), decoded, rtol=1e-9, atol=1e-9)


@KINDS
def test_every_weight_gets_a_gradient_and_low_memory_the_same(kind):
    model, batch = initialized(kind, augment=1)
    gradients = []
    for memory in ("normal", "low"):
        set_compute(model, memory=memory)
        model.zero_grad()
        model(*batch).total.mean().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
        assert all(gradient.any() for gradient in gradients[-1].values())
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


@KINDS
def test_half_precision_changes_little(kind):
    model, (x, noise, context) = initialized(kind)
    model.float()
    with torch.no_grad():
        full = model(x, noise.float(), context).total
        set_compute(model, precision="bfloat16")
        half = model(x, noise.float(), context).total
    assert 0 < (half - full).abs().max() < 0.1 * full.abs().max()


def test_an_unconditional_model_has_no_part_of_it():
    generator = torch.Generator().manual_seed(0)
    model = build_model(settings(), SHAPE, LEVELS, generator)
    wider = settings(augment=0)
    same = build_model(
        ModelConfig(wider.flow, dequantizer=wider.dequantizer, context=wider.context),
        SHAPE, LEVELS, generator,
    )  # fmt: skip
    assert model.context_encoder is None and model.context_spec is None
    assert not any(isinstance(module, LiftedContext) for module in model.modules())
    state, other = model.state_dict(), same.state_dict()
    assert all(torch.equal(state[name], other[name]) for name in state)
    assert "context" not in model_facts(Config(), SHAPE, LEVELS, model.context_spec)


@KINDS
def test_a_checkpoint_describes_the_context(kind, tmp_path):
    model, (x, noise, context) = initialized(kind)
    model.float()
    facts = model_facts(Config(model=settings()), SHAPE, LEVELS, model.context_spec)
    Checkpoint(0, model.state_dict(), {}, {}, facts).save(tmp_path / "model.safetensors")
    opened = open_model(tmp_path / "model.safetensors").model
    assert opened.context_spec == SPECS[kind]
    with torch.no_grad():
        both = [one(x, noise.float(), context).total for one in (model, opened)]
    assert torch.equal(*both)
    assert flowpp.load(tmp_path / "model.safetensors").model.context_spec == SPECS[kind]


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        ({"kind": "labels", "source": "folder", "names": ["a", "b"]}, "another model"),
        ({"kind": "sounds", "source": "folder"}, "must be one of labels"),
        ({"kind": "labels", "source": "folder", "names": "ab"}, "must be a tuple"),
        ({"source": "folder"}, "must be a dictionary"),
        ([1], "must be a dictionary"),
    ],
)
def test_a_damaged_description_is_named(damaged, message, tmp_path):
    model, _ = initialized("labels")
    facts = model_facts(Config(model=settings()), SHAPE, LEVELS, model.context_spec)
    checkpoint = Checkpoint(0, model.float().state_dict(), {}, {}, {**facts, "context": damaged})
    checkpoint.save(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        open_model(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("kind", "context", "error", "message"),
    [
        ("labels", None, ValueError, r"the model is conditional: labels 0 \.\.\. 3"),
        ("labels", torch.tensor([0, 1, 2, 3, 4, 0]), ValueError, r"lie in 0 \.\.\. 3, got 4"),
        ("labels", torch.tensor([0, 1, 2, 3, -1, 0]), ValueError, r"lie in 0 \.\.\. 3, got -1"),
        ("labels", torch.zeros(BATCH), TypeError, "integers, got torch.float32"),
        ("labels", torch.zeros(BATCH, 1).long(), ValueError, r"shape \(B,\), got \(6, 1\)"),
        ("labels", torch.arange(3), ValueError, "each of the 6 images, got 3"),
        ("labels", [0] * BATCH, TypeError, "must be a torch.Tensor, got list"),
        ("vectors", torch.zeros(BATCH, 3), ValueError, r"shape \(B, 2\), got \(6, 3\)"),
        ("vectors", torch.full((BATCH, 2), torch.nan), ValueError, "finite, got nan"),
        ("vectors", torch.zeros(1, 2), ValueError, "each of the 6 images, got 1"),
        ("images", torch.full((BATCH, 2, 2, 2), 16), ValueError, r"0 \.\.\. 15, got 16"),
        ("images", torch.zeros(BATCH, 2, 3, 3), ValueError, "size 4x4 of the images divided"),
        ("images", torch.zeros(BATCH, 1, 2, 2), ValueError, "2, height, width"),
    ],
)
def test_contexts_that_do_not_fit_are_named(kind, context, error, message):
    model = build_model(settings(), SHAPE, LEVELS, context=SPECS[kind]).eval()
    x = torch.zeros(BATCH, *SHAPE)
    noise = model.draw_noise(x.shape)
    for call in (model.elbo, model.encode):
        with pytest.raises(error, match=message):
            call(x, noise, context)
    z = torch.zeros(BATCH, *model.latent_shape)
    for call in (model.decode, model.decode_images):
        with pytest.raises(error, match=message):
            call(z, context)


def test_a_context_for_an_unconditional_model_is_refused():
    model = build_model(settings(), SHAPE, LEVELS).eval()
    x = torch.zeros(BATCH, *SHAPE)
    with pytest.raises(ValueError, match=r"the model is unconditional; got a Tensor of shape"):
        model(x, model.draw_noise(x.shape), torch.zeros(BATCH).long())
    with pytest.raises(ValueError, match="the model is unconditional"):
        model.decode(torch.zeros(BATCH, *model.latent_shape), torch.zeros(BATCH).long())


def test_labels_that_may_not_be_read_give_nan(monkeypatch):
    monkeypatch.setattr("flowpp.context.may_read_values", lambda tensor, owner: False)
    model, (x, noise, _) = initialized("labels")
    with torch.no_grad():
        total = model(x, noise, torch.tensor([0, 1, 2, 3, 4, -1])).total
    assert total.isnan().tolist() == [False] * 4 + [True] * 2


def test_context_images_that_may_not_be_read_give_nan(monkeypatch):
    """The bounds of the other images have the same bits."""
    model, (x, noise, context) = initialized("images")
    context = context.int()
    with torch.no_grad():
        expected = model(x, noise, context).total
        monkeypatch.setattr("flowpp.context.may_read_values", lambda tensor, owner: False)
        context[1, 0, 0, 0], context[4, 1, 1, 1] = LEVELS, -1
        total = model(x, noise, context).total
    assert total.isnan().tolist() == [False, True, False, False, True, False]
    assert torch.equal(total[~total.isnan()], expected[~total.isnan()])


def test_equal_contexts_cannot_scale_their_influence():
    model = build_model(settings(), SHAPE, LEVELS, context=SPECS["labels"])
    x = torch.randint(LEVELS, (BATCH, *SHAPE)).float()
    with pytest.raises(ValueError, match="images of different contexts, got the same one"):
        initialize(model, x, model.draw_noise(x.shape), torch.ones(BATCH).long())


def test_vectors_are_standardized_by_the_first_batch():
    model, (_, _, vectors) = initialized("vectors")
    encoder = model.context_encoder
    torch.testing.assert_close(encoder.mean, vectors.double().mean(0))
    torch.testing.assert_close(encoder.scale, vectors.double().std(0, correction=0))


def test_layers_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="size 4x4 of the images divided by a whole number"):
        build_model(
            settings(), SHAPE, LEVELS, context=ContextSpec("images", "grey", (), (1, 3, 3))
        )
    with pytest.raises(TypeError, match="context must be a ContextSpec, got dict"):
        build_model(settings(), SHAPE, LEVELS, context=SPECS["labels"].to_dict())
    with pytest.raises(ValueError, match="only moves numbers"):
        LiftedContext(Flip(), ActNorm.create(2))


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_description_survives_json(spec):
    assert ContextSpec.from_dict(spec.to_dict()) == spec
    assert spec.description.startswith("a")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("labels", "folder"), "must name each class"),
        (("labels", "folder", ("a", "none")), "must name each class, none of them 'none'"),
        (("labels", "folder", ("a", "a")), "must differ"),
        (("labels", "folder", ("a",), (1,)), "must have 0 numbers"),
        (("vectors", "csv", ("a",), (2,)), "each of the 2 columns"),
        (("vectors", "csv", (), ()), "must have 1 numbers"),
        (("images", "grey", (), (1, 0, 4)), "must have 3 numbers of at least 1"),
        (("words", "csv"), "must be one of labels, vectors, images"),
    ],
)
def test_descriptions_that_say_nothing_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ContextSpec(*fields)


def test_labels_alone_have_one_for_none():
    assert SPECS["labels"].none_label == 3
    with pytest.raises(ValueError, match="only labels"):
        _ = SPECS["vectors"].none_label


def test_labels_and_vectors_mean_the_same_from_another_source():
    """A run may be resumed with its labels in a file; image contexts depend on their source."""
    labels = ContextSpec("labels", "folder", ("cat", "dog"))
    assert labels.means(replace(labels, source="csv"))
    assert not labels.means(replace(labels, names=("dog", "cat")))
    assert not labels.means(None)
    vectors = ContextSpec("vectors", "csv", ("age", "height"), (2,))
    assert vectors.means(replace(vectors, source="array"))
    assert not vectors.means(replace(vectors, names=())) and not vectors.means(labels)
    grey = ContextSpec("images", "grey", shape=(1, 4, 4))
    assert grey.means(replace(grey)) and not grey.means(replace(grey, source="folder"))
