"""Random horizontal flips of training images."""

from __future__ import annotations

import json

import numpy as np
import torch

from flowpp import evaluate, train
from flowpp.config.build import build_model
from flowpp.runs.run import Run
from flowpp.training.batches import NoisyImages
from tiny import TINY

FLAGS = ["--training.steps", "4", "--training.batch_size", "8", "--training.init_batch_size", "8",
         "--training.sample_count", "1", "--training.evaluate_every", "2", "--model.flow.filters",
         "4", "--model.dequantizer.filters", "4", "--training.schedule", "warm-up 2"]  # fmt: skip


def source(images, *, flip):
    model = build_model(TINY.model, image_shape=images.shape[1:], levels=256)
    return NoisyImages(images, model, flip=flip)


def images(dtype=np.uint8):
    return np.random.default_rng(0).integers(256, size=(200, 1, 8, 8)).astype(dtype)


def test_half_of_the_images_are_mirrored_and_no_other_number_changes():
    pixels, indices = images(), torch.arange(200)
    plain, noise = source(pixels, flip=False).draw(indices, torch.Generator().manual_seed(1))
    x, same_noise = source(pixels, flip=True).draw(indices, torch.Generator().manual_seed(1))
    assert torch.equal(noise, same_noise)
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(x, plain, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(x, plain, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True)) and 70 < sum(mirrored) < 130


def test_they_change_from_draw_to_draw_and_repeat_with_the_generator():
    drawn, indices = source(images(), flip=True), torch.arange(200)
    generator = torch.Generator().manual_seed(1)
    first, second = drawn.draw(indices, generator)[0], drawn.draw(indices, generator)[0]
    assert not torch.equal(first, second)
    assert torch.equal(first, drawn.draw(indices, torch.Generator().manual_seed(1))[0])


def test_sixteen_bits_reach_the_model():
    pixels = np.array([0, 1, 32767, 32768, 65535], np.uint16).reshape(1, 1, 1, 5).repeat(2, 2)
    model = build_model(TINY.model, image_shape=(1, 8, 8), levels=65536)
    x, _ = NoisyImages(np.pad(pixels, ((0, 0), (0, 0), (0, 6), (0, 3))), model).draw(
        torch.tensor([0]), torch.Generator()
    )
    assert x[0, 0, 0, :5].tolist() == [0.0, 1.0, 32767.0, 32768.0, 65535.0]


def test_results_say_so_and_a_run_resumes(tmp_path, capsys):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    train.main(["digits", "--data.flip", "--out", str(whole), *FLAGS])
    assert "random horizontal flips of the training images" in capsys.readouterr().out
    assert "flips" in json.loads((whole / "result.json").read_text())["augmentation"]
    evaluate.main([str(whole), "--images", "4", "--out", str(tmp_path / "receipt.json")])
    assert (
        "flips" in json.loads((tmp_path / "receipt.json").read_text())["weights"]["augmentation"]
    )
    train.main(["digits", "--data.flip", "--out", str(resumed), *FLAGS, "--training.steps", "2"])
    train.main(["--resume", str(resumed), "--training.steps", "4"])
    a, b = (Run.open(run).load_checkpoint() for run in (whole, resumed))
    assert all(torch.equal(a.weights[name], b.weights[name]) for name in a.weights)
