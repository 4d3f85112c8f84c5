"""Loading and saving released variables, and `python -m flowpp.convert`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from flowpp import convert, evaluate, sample
from flowpp.config import FlowConfig, ModelConfig
from flowpp.config.build import build_model
from flowpp.config.presets import PRESETS
from flowpp.interop.released import (
    copy_released,
    read_variables,
    released_variables,
    released_views,
)
from flowpp.runs.run import Run

CASE = Path(__file__).resolve().parents[1] / "data" / "golden" / "case1_cifar_8x8.npz"
SMALL = ["--image_size", "8"] + [
    f"--model.{flow}.{setting}"
    for flow in ("flow", "dequantizer")
    for setting in ("filters=16", "blocks=2", "components=4")
]


def small_model() -> torch.nn.Module:
    flow = FlowConfig(filters=16, blocks=2, components=4)
    dequantizer = FlowConfig(layout="columns 4", filters=16, blocks=2, components=4)
    return build_model(ModelConfig(flow=flow, dequantizer=dequantizer), (3, 8, 8), 256)


@pytest.fixture
def variables():
    return read_variables(CASE)


def test_round_trip_is_exact(variables):
    model = small_model()
    copy_released(model, variables)
    back = released_variables(model)
    assert list(back) == list(variables)
    for name, array in variables.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)


def test_every_parameter_is_covered_once():
    model = small_model()
    pointers = [view.data_ptr() for view in released_views(model).values()]
    assert len(set(pointers)) == len(pointers)
    covered = sum(view.numel() for view in released_views(model).values())
    assert covered == sum(p.numel() for p in model.parameters())


def test_unused_positions_of_the_large_models_are_accounted_for():
    flow = FlowConfig(
        layout="columns 2",
        filters=8,
        blocks=1,
        components=2,
        activate_last=True,
        convolution="none",
    )
    plain = FlowConfig(
        layout="columns 2",
        filters=8,
        blocks=1,
        components=2,
        activate_last=True,
        convolution="none",
        attention="none",
    )
    model = build_model(ModelConfig(flow=flow, dequantizer=plain), (3, 8, 8), 256)
    names = released_variables(model)
    unused = [n for n in names if n.startswith("MixLogisticCoupling") and n.endswith("pos_emb")]
    assert len(unused) == 2
    assert all(names[n].shape == (8, 4, 8) and not names[n].any() for n in unused)
    copy_released(model, names)


@pytest.mark.parametrize("preset", ["imagenet64", "celeba128-5bit"])
def test_released_counts_hold_with_the_unused_positions(preset):
    from flowpp.data import declared_shape

    config = PRESETS[preset]
    with torch.device("meta"):
        model = build_model(config.model, *declared_shape(config.data))
        views = released_views(model)
    expected = {"imagenet64": 73_489_960, "celeba128-5bit": 122_790_952}[preset]
    assert sum(view.numel() for view in views.values()) == expected


def test_only_the_order_of_scope_numbers_matters(variables):
    shifted = {}
    for name, array in variables.items():
        scope, slash, rest = name.partition("/")
        kind, _, number = scope.partition("_")
        if kind == "Norm":
            scope = f"Norm_{int(number or 0) + 7}"
        shifted[scope + slash + rest] = array
    model = small_model()
    copy_released(model, shifted)
    back = released_variables(model)
    np.testing.assert_array_equal(back["Norm_4/norm0/g"], variables["Norm_4/norm0/g"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.pop("Pointwise_3/W1"), "missing Pointwise_3/W1"),
        (lambda v: v.update(extra=np.zeros(1)), "surplus extra"),
        (
            lambda v: v.update({"Norm/norm0/g": np.zeros((4, 4, 3))}),
            r"misshapen Norm/norm0/g: must have shape \(8, 4, 3\), got \(4, 4, 3\)",
        ),
    ],
)
def test_wrong_variables_are_refused_and_nothing_is_copied(variables, change, message):
    model = small_model()
    before = {name: p.clone() for name, p in model.named_parameters()}
    change(variables)
    with pytest.raises(ValueError, match=message):
        copy_released(model, variables)
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())


def test_convert_and_back(tmp_path, variables):
    weights, back = tmp_path / "model.safetensors", tmp_path / "back.npz"
    convert.main([str(CASE), "--preset", "cifar10", "--out", str(weights), *SMALL])
    convert.main([str(weights), "--preset", "cifar10", "--out", str(back), *SMALL])
    with np.load(back) as file:
        assert file.files == list(variables)
        for name in file.files:
            np.testing.assert_array_equal(file[name], variables[name])


def test_a_converted_run_directory_is_evaluated_and_sampled(tmp_path, variables, capsys):
    run, back = tmp_path / "run", tmp_path / "back.npz"
    convert.main([str(CASE), "--preset", "cifar10", "--out", str(run), *SMALL])
    config = Run.open(run).config()
    assert config.preset == "cifar10" and config.data.size == 8 and config.model.flow.filters == 16

    sample.main([str(run), "--count", "1"])  # needs no images
    assert (run / "samples" / "seed-0.png").is_file()

    with pytest.raises(SystemExit):
        evaluate.main([str(run)])
    assert "cifar10 needs data.path" in capsys.readouterr().err
    images = np.random.default_rng(0).integers(256, size=(3, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", train=images, test=images)
    evaluate.main([str(run), "--data.path", str(tmp_path / "images.npz")])
    text = capsys.readouterr().out
    assert "held-out bits/dim on cifar10, 8x8, 3 images" in text and "nan" not in text

    convert.main([str(run), "--out", str(back)])
    with np.load(back) as file:
        np.testing.assert_array_equal(file["Norm/norm0/g"], variables["Norm/norm0/g"])
    with pytest.raises(SystemExit):
        convert.main([str(CASE), "--preset", "cifar10", "--out", str(run), *SMALL])
    assert "run directory must be new or empty" in capsys.readouterr().err


def test_one_array_under_an_npz_name_is_refused(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(ValueError, match="readable .npz of variables: .*one.npz .*single array"):
        read_variables(tmp_path / "one.npz")


def test_required_arguments(capsys):
    with pytest.raises(SystemExit) as stop:
        convert.main([])
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert "SOURCE" in printed.upper() and "--out" in printed and "required" in printed.lower()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.npz", "--out", "b.npz"], "from an .npz to a run directory or .safetensors"),
        (["run", "--out", "b"], "got run and b; there is nothing at run"),
        (["a.safetensors", "--out", "b.npz"], "no checkpoint at a.safetensors"),
        (["none.npz", "--out", "b.safetensors"], "none.npz"),
        (["none.npz", "--out", "/proc/x/b.safetensors"], "folder /proc/x cannot be created"),
        (["none.npz", "--preset", "cifar", "--out", "b.safetensors"], "preset must be one of"),
    ],
)
def test_invalid_arguments_give_a_one_line_error(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        convert.main(arguments)
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
