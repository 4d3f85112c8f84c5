"""Hostile images, and links among them: a clear error, nothing run or written."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from dataclasses import replace

import pytest

from flowpp.config import DataConfig, presets
from flowpp.data import autoconfig, load
from image_files import png, reader, tar_of, zip_of

pytestmark = pytest.mark.usefixtures("few_images")


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width, height, *chunks):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks)


def postscript():
    """A PostScript program, for which Pillow would start Ghostscript."""
    return (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
            b"(evil) (w) file closefile showpage\n%%EOF\n")  # fmt: skip


HOSTILE_IMAGES = {
    "postscript": postscript,
    "wide": lambda: png_of(30_000, 1),
    "vast": lambda: png_of(19_999, 19_999, chunk(b"IDAT", zlib.compress(bytes(1000)))),
    "large": lambda: png_of(8_000, 8_000, chunk(b"IDAT", zlib.compress(bytes(1000)))),
    "infinite": lambda: png_of((1 << 31) - 1, (1 << 31) - 1),
    "no pixels": lambda: png_of(0, 0, chunk(b"IDAT", b"")),
    "text bomb": lambda: png_of(
        9, 9, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80 << 20), 1)),
        chunk(b"IDAT", zlib.compress(bytes(9 * 28))), chunk(b"IEND", b""),
    ),
    "pixel bomb": lambda: png_of(9, 9, chunk(b"IDAT", zlib.compress(bytes(80 << 20), 1))),
    "icns": lambda: b"icns" + struct.pack(">I", 1 << 30),
    "circular tiff": lambda: b"II*\x00\x08\x00\x00\x00\x00\x00\x08\x00\x00\x00",
    "svg": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script>evil()</script></svg>",
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE_IMAGES)
def test_hostile_images(guard, tmp_path, case):
    raw = HOSTILE_IMAGES[case]()
    folder = tmp_path / "images"
    read = reader("0.png", raw, folder)
    with guard.reading(str(folder / "0.png")):
        read()
    if case not in ("pixel bomb", "text bomb"):  # Pillow reads no more than it needs of these
        assert guard.refused is not None
    with guard.reading(str(folder / "0.png")):
        data = DataConfig(source="folder", path=str(folder))
        autoconfig.configure(replace(presets.get("small"), data=data))
    read = reader("train_32x32.tar", tar_of({"x/0.png": raw}), tmp_path / "more")
    with guard.reading("x/0.png"):
        read()


def test_links_among_images(guard, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name, target in (("a", "/dev/zero"), ("b", "nowhere"), ("c", "c.png"), ("d", "/etc")):
        (folder / f"{name}.png").symlink_to(target)
    os.mkfifo(folder / "e.png")
    (folder / "up").symlink_to("..")
    for i in range(3):
        (folder / f"{i}.png").write_bytes(png(9, i))
    with guard.reading():
        found = load(DataConfig(source="folder", path=str(folder), size=8))
    assert len(found.train) + len(found.test) == 3
    with guard.reading("imagenet32", "folder"):
        load(DataConfig(source="imagenet32", path=str(folder)))
    with guard.reading("e.png"):
        load(DataConfig(source="cifar10", path=str(folder / "e.png")))
    assert guard.refused is not None


def test_zip_bombs(guard, tmp_path):
    """A member that unpacks to gigabytes, one that overlaps many others, one of a slow method."""
    folder = tmp_path / "sets"
    folder.mkdir()
    with zipfile.ZipFile(folder / "large.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"{number}.png", png(9, number))
        with archive.open("4.png", "w", force_zip64=True) as member:
            for _ in range(40):
                member.write(bytes(32 << 20))
    with zipfile.ZipFile(folder / "slow.zip", "w", zipfile.ZIP_LZMA) as archive:
        for number in range(3):
            archive.writestr(f"{number}.png", png(9, number))
    for name in ("large.zip", "slow.zip"):
        with guard.reading(name):
            load(DataConfig(source="folder", path=str(folder / name), size=8))
        assert guard.refused is not None


def test_an_encrypted_zip_is_refused(guard, tmp_path):
    raw = bytearray(zip_of({f"{i}.png": png(9, i) for i in range(3)}))
    for start in (b"PK\x03\x04", b"PK\x01\x02"):  # the flag is in both headers
        at = raw.find(start)
        while at >= 0:
            raw[at + (6 if start[2] == 3 else 8)] |= 1
            at = raw.find(start, at + 1)
    (tmp_path / "set.zip").write_bytes(raw)
    with guard.reading("set.zip"):
        load(DataConfig(source="folder", path=str(tmp_path / "set.zip"), size=8))
    assert guard.refused is not None and "must not be encrypted" in guard.refused


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_lead_out_of_an_archive(guard, tmp_path, kind):
    names = ["../../evil.png", "/etc/evil.png", "a/../../evil.png", "C:\\evil.png", "a\\b.png"]
    contents = {name: png(9, number) for number, name in enumerate(names)}
    contents |= {f"{number}.png": png(9, 9 + number) for number in range(3)}
    path = tmp_path / f"set.{kind}"
    path.write_bytes(zip_of(contents) if kind == "zip" else tar_of(contents))
    before = sorted(tmp_path.parent.rglob("evil.png"))
    with guard.reading():
        images = load(DataConfig(source="folder", path=str(path), size=8))
    assert len(images.train) + len(images.test) >= 3
    assert sorted(tmp_path.parent.rglob("evil.png")) == before
