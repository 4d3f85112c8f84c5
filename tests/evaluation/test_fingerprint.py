"""Fingerprints: each layer's output on a device, compared with float64 and the reference."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from conformance.fingerprint import __main__ as by_reference
from conformance.fingerprint import reference_comparison
from flowpp import evaluate
from flowpp.bijectors import Coupling
from flowpp.evaluation import comparison, fingerprint
from flowpp.evaluation.comparison import Float64
from flowpp.evaluation.fingerprint import Fingerprint
from flowpp.runs.open_model import load_images, open_model
from flowpp.runs.run import Run


def recorded(run):
    return next((run / "fingerprints").glob("*.npz"))


def report(run):
    return json.loads(recorded(run).with_suffix(".json").read_text())


@pytest.fixture(scope="module")
def model(trained):
    return open_model(trained).model


@pytest.fixture(scope="module")
def images(trained):
    return load_images(Run.open(trained).config()).test[:4]


def test_every_layer_is_close_in_float32(copy, capsys):
    evaluate.main([str(copy), "--fingerprint"])
    printed = capsys.readouterr().out
    found = report(copy)
    assert found["judge"] == "flowpp, float64, CPU" and found["images"] == 8
    assert found["dtype"] == "float32" and found["device"] == "cpu" and found["step"] == 2
    names = [row["layer"] for row in found["layers"]]
    assert names[0].startswith("dequantizer/") and names[-1].startswith("flow/")
    assert sum("Coupling" in name for name in names) == 2
    for row in found["layers"]:
        assert row["log_det"] < 1e-4 and row["output"] < 1e-4
    assert 0 < found["bits_per_dim"]["largest_difference"] < 1e-4
    assert max(names, key=len) in printed or names[0] in printed
    assert f"python -m conformance.fingerprint {copy}" in printed
    assert not (copy / "evaluations").exists()


def test_the_reference_agrees_with_float64_to_its_last_digits(copy, capsys):
    evaluate.main([str(copy), "--fingerprint", "--dtype", "float64", "--images", "3"])
    assert all(row["log_det"] == 0 for row in report(copy)["layers"])
    assert by_reference.main([str(copy)]) == 0
    printed = capsys.readouterr().out
    out = recorded(copy).with_name(f"{recorded(copy).stem}-reference.json")
    assert str(out) in printed
    found = json.loads(out.read_text())
    assert found["judge"] == "reference, NumPy float64" and found["images"] == 3
    assert [r["layer"] for r in found["layers"]] == [r["layer"] for r in report(copy)["layers"]]
    for row in found["layers"]:
        assert row["log_det"] < 1e-11 and row["output"] < 1e-11
    assert found["bits_per_dim"]["largest_difference"] < 1e-12


def test_both_comparisons_agree_in_float32(model, images):
    found = fingerprint.record(model, images, 0, {})
    reference = reference_comparison.Reference(model)
    one = comparison.compare(found, Float64(_copy(model)))
    other = comparison.compare(found, reference)
    for a, b in zip(one["layers"], other["layers"], strict=True):
        assert a["log_det"] == pytest.approx(b["log_det"], rel=1e-3, abs=1e-12)
        assert a["output"] == pytest.approx(b["output"], rel=1e-3, abs=1e-12)


def test_only_the_wrong_layer_is_reported(model, images, monkeypatch):
    """The layers after it are compared at their own recorded inputs."""
    names = fingerprint.named_layers(model)
    name = next(n for n, layer in names.items() if isinstance(layer, Coupling))
    spoiled = _copy(model)
    forward = Coupling.forward

    def wrong(self, x, context=None):
        y, log_det = forward(self, x, context)
        return y, log_det + (0.5 if self is fingerprint.named_layers(spoiled)[name] else 0)

    monkeypatch.setattr(Coupling, "forward", wrong)
    found = fingerprint.record(spoiled, images, 0, {"device": "cpu", "device_name": None})
    report = comparison.compare(found, Float64(_copy(model)))
    bad = [row["layer"] for row in report["layers"] if row["log_det"] > 1e-3]
    assert bad == [name]
    assert report["bits_per_dim"]["largest_difference"] == pytest.approx(
        0.5 / (64 * np.log(2)), rel=1e-3
    )
    first = comparison.table({**report, "dtype": "float32"}).splitlines()[2]
    assert name in first


def test_recordings_survive_saving_and_loading(model, images, tmp_path):
    found = fingerprint.record(model, images, 3, {"step": 2})
    found.save(tmp_path / "a.npz")
    again = Fingerprint.load(tmp_path / "a.npz")
    assert dict(again.facts) == {"step": 2} and list(again.layers) == list(found.layers)
    for name, layer in found.layers.items():
        for field in ("x", "y", "log_det", "context"):
            assert np.array_equal(getattr(layer, field), getattr(again.layers[name], field)), name
    with pytest.raises(ValueError, match=r"a\.npz is not a fingerprint"):
        np.savez(tmp_path / "a.npz", images=images)
        Fingerprint.load(tmp_path / "a.npz")


def test_missing_fingerprints_and_weights(copy, capsys):
    assert by_reference.main([str(copy)]) == 2
    error = capsys.readouterr().err
    assert "has no fingerprint" in error and f"python -m flowpp.evaluate {copy}" in error
    evaluate.main([str(copy), "--fingerprint", "--images", "1"])
    run = Run.open(copy)
    (newest,) = run.checkpoint_files()[-1:]
    spoiled = run.load_checkpoint()
    for tensor in spoiled.ema.values():
        tensor.add_(torch.ones_like(tensor))
    spoiled.save(newest)
    for other in (*run.checkpoint_files()[:-1], run.best_path):
        other.unlink(missing_ok=True)
    capsys.readouterr()
    assert by_reference.main([str(copy)]) == 2
    error = capsys.readouterr().err
    assert f"no checkpoint of {copy}" in error and "weights with hash" in error


def _copy(model):
    import copy

    return copy.deepcopy(model)
