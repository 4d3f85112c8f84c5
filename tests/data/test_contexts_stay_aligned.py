"""A context belongs to its image, however both are stored, split, skipped and kept decoded.

The value of each image's pixels is its number, from which its context follows.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flowpp import data
from flowpp.config import DataConfig
from flowpp.data import decoded

CLASSES = ("ant", "bee", "cat")
COUNT = 36
SIDE = 8


def class_of(number):
    return CLASSES[number * 7 % 5 % 3]


def pixels_of(number):
    return np.full((SIDE, SIDE, 3), number, np.uint8)


def png(number):
    file = io.BytesIO()
    Image.fromarray(pixels_of(number)).save(file, "PNG")
    return file.getvalue()


def names(layout):
    """Return a path for each image: in class folders, with a split or without."""
    order = np.random.default_rng(1).permutation(COUNT)  # names and numbers are in other orders
    for number in range(COUNT):
        stem = f"{class_of(number)}/{order[number]:03}.png"
        part = "test" if number % 4 == 0 else "val" if number % 4 == 1 else "train"
        yield (
            number,
            {
                "plain": stem,
                "split": f"{part}/{stem}",
                "class first": f"{class_of(number)}/{part}/{order[number]:03}.png",
                "wrapped": f"photos/{stem}",
            }[layout],
        )


def write(path, contents):
    """Write files into a folder, a zip or a tar, by the path's suffix."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
    elif path.suffix == ".tar":
        with tarfile.open(path, "w") as archive:
            for name in reversed(contents):
                member = tarfile.TarInfo(name)
                member.size = len(contents[name])
                archive.addfile(member, io.BytesIO(contents[name]))
    else:
        for name, content in contents.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)


def load(path, **settings):
    return data.load(DataConfig(source="folder", path=str(path), size=SIDE, **settings))


def numbers(images, part):
    pixels = images.part(part)
    assert (pixels == pixels[:, :1, :1, :1]).all()
    return pixels[:, 0, 0, 0].tolist()


def check_labels(images, count=COUNT):
    assert images.context.names == CLASSES and sum(images.counts.values()) == count
    for part in images.counts:
        found = [images.context.names[label] for label in images.context_of(part)]
        assert found == [class_of(number) for number in numbers(images, part)]


@pytest.mark.parametrize("container", ["folder", "set.zip", "set.tar"])
@pytest.mark.parametrize("layout", ["plain", "split", "class first", "wrapped"])
def test_labels_of_class_folders(tmp_path, layout, container):
    write(tmp_path / container, {name: png(number) for number, name in names(layout)})
    images = load(tmp_path / container, labels="folder")
    check_labels(images)
    assert ("valid" in images.counts) == (layout in ("split", "class first"))
    check_labels(load(tmp_path / container, labels="folder", split="fifth"))


def test_bad_files_are_skipped_with_their_contexts(tmp_path):
    contents = {name: png(number) for number, name in names("plain")}
    bad = list(contents)[5::7]
    write(tmp_path / "set", contents | {name: b"no image" for name in bad})
    table = [f"{name},{class_of(number)}" for number, name in names("plain")]
    (tmp_path / "labels.csv").write_text("\n".join(table))
    vectors = [f"{name},{number},{-number}" for number, name in names("plain")]
    (tmp_path / "vectors.csv").write_text("\n".join(vectors))
    left = COUNT - len(bad)
    for labels in ("folder", str(tmp_path / "labels.csv")):
        check_labels(load(tmp_path / "set", labels=labels, skip_bad=True), left)
    ordered = sorted((name, number) for number, name in names("plain"))
    np.save(tmp_path / "vectors.npy", [[number, -number] for _, number in ordered])
    write(tmp_path / "pairs", {name: png(255 - number) for number, name in names("plain")})
    for context in ("vectors.csv", "vectors.npy", "pairs"):
        images = load(tmp_path / "set", context=str(tmp_path / context), skip_bad=True)
        assert len(images.skipped) == len(bad) and sum(images.counts.values()) == left
        for part in images.counts:
            found, expected = images.context_of(part), np.array(numbers(images, part))
            if context == "pairs":
                assert (found == (255 - expected)[:, None, None, None]).all()
            else:
                assert (found == np.stack([expected, -expected], 1)).all()


@pytest.mark.parametrize("row", ["{name}", "{last}", "{stem}", "./{name}", "set/{name}", "{path}"])
@pytest.mark.parametrize("head", ["", "file,label\n", "\ufeffimage_id,label\n"])
def test_a_table_names_images_in_many_ways(tmp_path, row, head):
    write(tmp_path / "set", {name: png(number) for number, name in names("split")})
    lines = []
    for number, name in names("split"):
        path = Path(name)
        text = row.format(name=name, last=path.name, stem=path.stem, path=tmp_path / "set" / name)
        lines.append(f'"{text}", {class_of(number)}')
    (tmp_path / "labels.csv").write_text(head + "\n".join(lines[::-1]) + "\n\n", "utf-8")
    check_labels(load(tmp_path / "set", labels=str(tmp_path / "labels.csv")))


def test_labels_beside_arrays(tmp_path):
    order = np.random.default_rng(2).permutation(COUNT)
    images = np.stack([pixels_of(number) for number in order])
    labels = np.array([CLASSES.index(class_of(number)) for number in order])
    parts = {"train": slice(0, 20), "test": slice(20, None)}
    arrays = {name: images[rows] for name, rows in parts.items()}
    arrays |= {f"{name}_labels": labels[rows, None] for name, rows in parts.items()}
    arrays |= {f"{name}_context": labels[rows, None] * 0.5 for name, rows in parts.items()}
    path = tmp_path / "set.npz"
    np.savez(path, label_names=CLASSES, **arrays)
    check_labels(load(path, labels="folder"))
    found = load(path, context=str(path))
    for part in ("train", "test"):
        expected = [CLASSES.index(class_of(n)) * 0.5 for n in numbers(found, part)]
        assert found.context_of(part)[:, 0].tolist() == expected
    np.savez(path, images=images, y=labels, label_names=CLASSES)
    check_labels(load(path, labels="folder"))


def test_labels_in_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    feature = {"names": CLASSES, "_type": "ClassLabel"}
    facts = json.dumps({"info": {"features": {"label": feature}}}).encode()
    shards = {"train-00000-of-00002": range(15), "train-00001-of-00002": range(15, 26),
              "test-00000-of-00001": range(26, COUNT)}  # fmt: skip
    for shard, rows in shards.items():
        table = pyarrow.table({
            "image": [{"bytes": png(number)} for number in rows],
            "label": [CLASSES.index(class_of(number)) for number in rows],
        }).replace_schema_metadata({b"huggingface": facts})  # fmt: skip
        (tmp_path / "set").mkdir(exist_ok=True)
        parquet.write_table(table, tmp_path / "set" / f"{shard}.parquet")
    check_labels(load(tmp_path / "set", labels="folder"))


@pytest.mark.parametrize("kind", ["labels.csv", "vectors.csv", "pairs", "low-resolution", "mask"])
def test_kept_decoded_with_contexts(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("FLOWPP_CACHE", str(tmp_path / "cache"))
    write(tmp_path / "set", {name: png(number) for number, name in names("split")})
    write(tmp_path / "pairs", {name: png(255 - number) for number, name in names("split")})
    for name, value in (("labels.csv", class_of), ("vectors.csv", str)):
        table = [f"{image},{value(number)}" for number, image in names("split")]
        (tmp_path / name).write_text("\n".join(table))
    path = str(tmp_path / kind) if "." in kind or kind == "pairs" else kind
    settings = {"labels" if kind == "labels.csv" else "context": path}
    plain = load(tmp_path / "set", bits=7, **settings)
    if kind == "pairs":
        expected = (255 - np.arange(COUNT)) >> 1
        found = {part: plain.context_of(part)[:, 0, 0, 0] for part in plain.counts}
        assert sorted(np.concatenate(list(found.values()))) == sorted(expected)
    monkeypatch.setattr(decoded, "LARGE", 0)
    for _ in ("written", "opened"):
        kept = load(tmp_path / "set", bits=7, **settings)
        assert kept.sha256 == plain.sha256 and kept.context == plain.context
        assert load(tmp_path / "set", bits=7).context is None
    if kind == "labels.csv":  # a changed file of labels is read again
        text = re.sub(",cat$", ",dog", (tmp_path / kind).read_text(), flags=re.MULTILINE)
        (tmp_path / kind).write_text(text)
        assert load(tmp_path / "set", bits=7, **settings).context.names == ("ant", "bee", "dog")
