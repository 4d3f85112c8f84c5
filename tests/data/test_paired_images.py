"""Images that others are conditioned on, in a second folder."""

from __future__ import annotations

import numpy as np
from PIL import Image

from flowpp import data
from flowpp.config import DataConfig


def test_what_is_done_with_contexts_is_said(tmp_path):
    draw = np.random.default_rng(0)
    frames = [Image.fromarray(draw.integers(0, 256, (8, 8)).astype(np.uint8)) for _ in range(24)]
    for name in ("images", "contexts"):
        (tmp_path / name).mkdir()
        for i, frame in enumerate(frames[:20]):
            frame.save(tmp_path / name / f"{i:02}.png")
    (tmp_path / "contexts" / "03.png").unlink()
    turned = Image.Exif()
    turned[274] = 3
    frames[4].save(tmp_path / "contexts" / "04.png", exif=turned)
    frames[3].save(
        tmp_path / "contexts" / "03.tif", save_all=True, append_images=frames[20:], format="TIFF"
    )
    config = DataConfig(
        source="folder", path=str(tmp_path / "images"), size=8, channels=1,
        context=str(tmp_path / "contexts"),
    )  # fmt: skip
    images = data.load(config)
    assert "contexts frames or pages after the first are not used: 1 file" in images.notes
    assert "contexts turned upright by their EXIF orientation: 1 file" in images.notes
    assert (images.context_of("train")[4] == images.train[4, :, ::-1, ::-1]).all()
    assert (images.context_of("train")[3] == images.train[3]).all()
