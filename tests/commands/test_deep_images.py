"""16-bit images from training to samples, and random crops, through the commands."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import flowpp
from flowpp import evaluate, reconstruct, sample, train
from flowpp.evaluation.grids import save_grid

FLAGS = ["--training.steps", "2", "--training.evaluate_every", "1", "--training.batch_size", "4",
         "--training.init_batch_size", "4", "--training.sample_count", "2", "--data.size", "8",
         "--model.flow.layout", "squeeze,channels\t1", "--model.flow.filters", "4",
         "--model.flow.blocks", "1", "--model.dequantizer.filters", "4"]  # fmt: skip


@pytest.fixture(scope="module", params=[1, 3])
def run(request, tmp_path_factory):
    """A run on 20 images of 16 bits, grey or colour."""
    folder = tmp_path_factory.mktemp("deep")
    shape = (20, 8, 8) if request.param == 1 else (20, 8, 8, 3)
    pixels = np.random.default_rng(0).integers(65536, size=shape).astype(np.uint16)
    np.save(folder / "x.npy", pixels)
    out = folder / "run"
    train.main(["small", "--data.path", str(folder / "x.npy"), "--data.bits", "16", "--out",
                str(out), *FLAGS])  # fmt: skip
    return out, request.param


def test_results_are_those_of_65536_levels(run):
    out, _ = run
    result = json.loads((out / "result.json").read_text())
    assert result["uniform"] == 16 and 12 < result["bits_per_dim"] < 40
    assert result["histogram"] == pytest.approx(16, abs=0.1)
    model = flowpp.load(out)
    assert model.levels == 65536
    drawn = model.sample(3, seed=1)
    assert drawn.dtype == np.uint16 and drawn.max() > 255
    assert np.isfinite(model.log_prob(drawn)).all()


def test_a_run_of_16_bits_is_evaluated_sampled_and_reconstructed(run, tmp_path):
    out, channels = run
    evaluate.main([str(out), "--images", "2", "--out", str(tmp_path / "receipt.json")])
    assert json.loads((tmp_path / "receipt.json").read_text())["data"]["levels"] == 65536
    evaluate.main([str(out), "--fingerprint", "--images", "2", "--out", str(tmp_path / "f.json")])
    sample.main([str(out), "--count", "2", "--out", str(tmp_path / "s.png")])
    reconstruct.main([str(out), "--count", "2", "--dtype", "float64", "--out",
                      str(tmp_path / "r.png")])  # fmt: skip
    arrays = np.load(tmp_path / "r.npz")
    np.testing.assert_array_equal(arrays["images"], arrays["reconstructed"])
    assert arrays["images"].dtype == np.uint16
    with Image.open(tmp_path / "s.png") as picture:
        assert picture.mode == ("I;16" if channels == 1 else "RGB")


def test_grids_of_16_bits_keep_them_if_grey(tmp_path):
    pixels = np.array([0, 1, 300, 65535], np.uint16).reshape(4, 1, 1, 1)
    save_grid(tmp_path / "g.png", pixels, 65536, columns=4)
    with Image.open(tmp_path / "g.png") as picture:
        values = np.asarray(picture)[30, 30::66]
    assert values.tolist() == [0, 1, 300, 65535]
