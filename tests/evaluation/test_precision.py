"""Results are computed in float32 whatever a model was trained in, and name their precision."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

import flowpp
from flowpp import data, evaluate
from flowpp.evaluation.importance import importance_bounds
from flowpp.evaluation.precision import evaluated_in
from flowpp.runs.open_model import open_model
from flowpp.runtime.precision import precision_name, tf32_switches
from flowpp.training.loop import train


@pytest.fixture(scope="module")
def run(tiny_config, tmp_path_factory):
    """A run trained in bfloat16."""
    out = tmp_path_factory.mktemp("bfloat16") / "run"
    training = dataclasses.replace(tiny_config.training, precision="bfloat16", steps=1)
    result = train(dataclasses.replace(tiny_config, training=training), out)
    return out, result


def evaluated(run, out, *flags):
    evaluate.main([str(run), "--device", "cpu", "--out", str(out), *flags])
    return json.loads(out.read_text())


def test_a_bfloat16_run_is_evaluated_in_float32(run, tmp_path, capsys):
    out, result = run
    assert result.precision == "float32"
    assert json.loads((out / "environment.json").read_text())["precision"] == "bfloat16"
    receipt = evaluated(out, tmp_path / "float32.json")
    assert receipt["precision"] == receipt["environment"]["precision"] == "float32"
    assert receipt["bounds"][0]["mean"] == pytest.approx(result.bits_per_dim, rel=1e-6)
    half = evaluated(out, tmp_path / "bfloat16.json", "--precision", "bfloat16")
    assert half["precision"] == "bfloat16"
    assert half["bounds"][0]["mean"] != receipt["bounds"][0]["mean"]
    assert half["bounds"][0]["mean"] == pytest.approx(result.bits_per_dim, abs=0.05)


def test_tf32_is_float32_on_the_cpu_and_called_so(run, tmp_path, capsys):
    out, _ = run
    receipt = evaluated(out, tmp_path / "tf32.json", "--precision", "tf32")
    expected = evaluated(out, tmp_path / "float32.json")
    assert receipt["bounds"] == expected["bounds"]
    assert receipt["precision"] == "float32"
    assert evaluated(out, tmp_path / "64.json", "--dtype", "float64")["precision"] == "float64"
    assert precision_name("tf32", torch.float32, torch.device("cuda")) == "tf32"


def test_float64_with_another_precision_is_refused(run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        evaluated(run[0], tmp_path / "o.json", "--dtype", "float64", "--precision", "tf32")
    assert "precision must be float32" in capsys.readouterr().err


def test_fingerprints_name_their_precision(run, tmp_path, capsys):
    report = evaluated(run[0], tmp_path / "f.json", "--fingerprint", "--images", "2")
    assert '"precision": "float32"' in json.dumps(report)


def test_evaluation_does_not_depend_on_torchs_switches(run, monkeypatch):
    opened = open_model(run[0])
    images = data.load(opened.config.data).test[:4]
    seen = set()
    original = opened.model.elbo

    def elbo(*args):
        seen.add(tuple(tf32_switches().values()))
        return original(*args)

    monkeypatch.setattr(opened.model, "elbo", elbo)
    importance_bounds(opened.model, images, 1)
    assert seen == {(False, False)}
    importance_bounds(opened.model, images, 1, precision="tf32")
    assert seen == {(False, False), (True, True)}


def test_models_in_python_are_computed_in_the_precision_asked_for(run, tiny_config):
    images = data.load(tiny_config.data).test[:4]
    default = flowpp.load(run[0]).log_prob(images)
    half = flowpp.load(run[0], precision="bfloat16").log_prob(images)
    assert (default != half).any()
    assert (flowpp.load(run[0], precision="tf32").log_prob(images) == default).all()


def test_the_networks_have_their_own_precision_again_after_an_error(run):
    model = open_model(run[0]).model
    networks = [m for m in model.modules() if hasattr(m, "compute_dtype")]
    networks[0].compute_dtype = torch.bfloat16
    before = [n.compute_dtype for n in networks]
    with pytest.raises(KeyError), evaluated_in(model):
        assert all(n.compute_dtype is None for n in networks)
        raise KeyError
    assert [n.compute_dtype for n in networks] == before
