"""The commands compress and decompress."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from flowpp import compress, decompress
from flowpp.coding import stack
from flowpp.coding.container import FIXED, Container, Header

PLAIN = 6
"""Digits that give enough initial bits for another one."""


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return load_digits().images[: PLAIN + 1].astype(np.uint8)


def folder_of(digits: np.ndarray, path: Path) -> Path:
    path.mkdir()
    for i, digit in enumerate(digits):
        Image.fromarray(digit).save(path / f"{i}.png")
    return path


def test_compress_and_decompress_a_folder(digits, tmp_path, capsys):
    folder, file, out = folder_of(digits, tmp_path / "in"), tmp_path / "a.fpp", tmp_path / "out"
    compress.main(["digits", str(folder), "--out", str(file)])
    printed = capsys.readouterr().out
    assert f"all of its {file.stat().st_size:,} bytes" in printed
    for line in ("initial", "net", "bound", "overhead", "PNG", "WebP", "every image is exact"):
        assert line in printed
    decompress.main([str(file), "--out", str(out)])
    for i, digit in enumerate(digits):
        assert (np.asarray(Image.open(out / f"{i}.png")) == digit).all()

    damaged, (_, _, length, _) = bytearray(file.read_bytes()), FIXED.unpack_from(file.read_bytes())
    damaged[FIXED.size + length + 4 * 3] ^= 1  # the checksum of an image
    file.write_bytes(damaged)
    capsys.readouterr()
    refused(decompress.main, file, "--salvage", "--out", tmp_path / "rest")
    message = capsys.readouterr().err
    assert "1 of 7 images are damaged, 3.png: " in message
    assert f"; 6 intact images in {tmp_path / 'rest'}" in message
    assert len([*(tmp_path / "rest").iterdir()]) == 6


def refused(main, *arguments: object) -> None:
    with pytest.raises(SystemExit) as error:
        main([str(argument) for argument in arguments])
    assert error.value.code == 2


def test_images_that_do_not_fit_are_refused(digits, tmp_path, capsys):
    file = tmp_path / "a.fpp"
    for image, message in (
        (Image.fromarray(np.zeros((9, 8), np.uint8)), "must be 8x8, grey, 8 bits"),
        (Image.fromarray(np.zeros((8, 8, 3), np.uint8)), "got 8x8, colour, 8 bits"),
        (Image.fromarray(np.full((8, 8), 200, np.uint8)), "must have values 0 ... 16"),
    ):
        image.save(tmp_path / "x.png")
        refused(compress.main, "digits", tmp_path / "x.png", "--out", file)
        assert message in capsys.readouterr().err
    assert not file.exists()


def test_images_of_any_size_in_tiles(tmp_path, capsys):
    digits = load_digits().images.astype(np.uint8)
    wide, small = np.hstack([*digits[:3], digits[3][:, :5]]), digits[4][:3]
    folder, file = tmp_path / "in", tmp_path / "a.fpp"
    folder.mkdir()
    for name, image in (("wide", wide), ("small", small)):
        Image.fromarray(image).save(folder / f"{name}.png")
    refused(compress.main, "digits", folder, "--out", file)
    assert "got 3x8, grey, 8 bits; --tiles takes images of any size" in capsys.readouterr().err
    compress.main(["digits", str(folder), "--out", str(file), "--tiles"])
    printed = capsys.readouterr().out
    assert "bits/dim of 2 images" in printed and "5 tiles coded without the model" in printed
    assert "every image is exact" in printed
    decompress.main([str(file), "--out", str(tmp_path / "out")])
    assert "2 images in" in capsys.readouterr().out
    for name, image in (("wide", wide), ("small", small)):
        assert (np.asarray(Image.open(tmp_path / "out" / f"{name}.png")) == image).all()


def test_mistakes_are_one_line(digits, tmp_path, capsys, monkeypatch):
    folder, file = folder_of(digits[:1], tmp_path / "in"), tmp_path / "a.fpp"
    refused(compress.main, "digits", folder, "--out", tmp_path / "a.zip")
    assert "out must be a file that ends in .fpp" in capsys.readouterr().err
    refused(compress.main, "digits", folder, "--out", file, "--delta-bits", "30")
    assert "delta_bits must be at most 26" in capsys.readouterr().err
    refused(decompress.main, folder / "0.png", "--out", tmp_path)
    assert "must be a file of flowpp.compress" in capsys.readouterr().err
    compress.main(["digits", str(folder), "--out", str(file), "--no-verify"])
    assert "exact" not in capsys.readouterr().out
    refused(decompress.main, file, "--out", folder)
    assert "out must not have the file 0.png already" in capsys.readouterr().err
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    refused(decompress.main, file, "--out", tmp_path / "out")
    assert "its SHA-256 is wrong; --salvage" in capsys.readouterr().err

    def missing() -> None:
        raise ModuleNotFoundError("needs constriction: pip install 'flowpp[compress]'")

    monkeypatch.setattr(stack, "require_constriction", missing)
    refused(compress.main, "digits", folder, "--out", file)
    assert "flowpp[compress]" in capsys.readouterr().err


def test_a_file_may_not_say_where_its_model_is(tmp_path, capsys):
    header = Header("", "0", (1, 8, 8), 17, 14, 12, 1.0, 1, "", "", (0,), ("a.png",))
    container = Container(header, np.zeros(1, np.uint32), np.zeros(0, np.uint32))
    (tmp_path / "a.fpp").write_bytes(container.to_bytes())
    refused(decompress.main, tmp_path / "a.fpp", "--out", tmp_path)
    assert "--run must name the model" in capsys.readouterr().err


def test_a_file_finds_its_checkpoint_in_its_run(monkeypatch, tmp_path):
    """The run was trained further since, or the file is of its best checkpoint."""
    files = [tmp_path / f"step-{step}" for step in (1, 2)]

    def opened(path, **options):
        return SimpleNamespace(model=2 if path == tmp_path else int(path.name[-1]),
                               config=SimpleNamespace(model={}))  # fmt: skip

    run = SimpleNamespace(checkpoint_files=lambda: files, best_path=files[0])
    monkeypatch.setattr("flowpp.runs.open_model.open_model", opened)
    monkeypatch.setattr("flowpp.runs.run.Run.open", lambda path: run)
    monkeypatch.setattr("flowpp.coding.arithmetic.model_hash", lambda model, settings: model)
    monkeypatch.setattr("flowpp.config.serialization.to_dict", lambda settings: settings)
    found = [decompress._opened(tmp_path, SimpleNamespace(model=n)).model for n in (1, 2, 3)]
    assert found == [1, 2, 2]
