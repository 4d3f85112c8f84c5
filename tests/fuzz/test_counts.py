"""Files of very many small parts: refused at once, or read in a time that fits their size."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from flowpp.config import DataConfig
from flowpp.data import archive, load, npz
from flowpp.runs.checkpoint import Checkpoint, CheckpointError
from flowpp.runs.metrics import read_records
from flowpp.runtime.safetensors_header import MOST_TENSORS
from image_files import png


def images_of(path):
    return load(DataConfig(source="folder", path=str(path), size=8))


def header(name="x.png", kind=tarfile.REGTYPE, size=0):
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def test_an_archive_of_empty_files(tmp_path):
    (tmp_path / "set.tar.gz").write_bytes(gzip.compress(header() * 50_000, 1))
    with pytest.raises(ValueError, match="set.tar.gz must have at most 1[0-9],[0-9]{3} members"):
        images_of(tmp_path / "set.tar.gz")


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, b"x", b"g"])
def test_chained_headers(tmp_path, kind):
    content = b"5 a=b\n" if kind in b"xg" else b"a" * 20
    chain = header("././@LongLink", kind, len(content)) + content.ljust(512, b"\0")
    (tmp_path / "set.tar").write_bytes(chain * 3000)
    with pytest.raises(ValueError, match="set.tar is truncated or not a tar archive|must have"):
        images_of(tmp_path / "set.tar")


def test_a_zip_of_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "FEW_MEMBERS", 10)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as packed:
        for number in range(60):
            packed.writestr(str(number), b"")
    with pytest.raises(ValueError, match="must have at most .* members, got 60"):
        images_of(tmp_path / "set.zip")


def test_an_npz_of_many_arrays(tmp_path):
    array = io.BytesIO()
    np.save(array, np.zeros(1, np.uint8))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as packed:
        for number in range(npz.MOST_ARRAYS + 1):
            packed.writestr(f"{number}.npy", array.getvalue())
    with pytest.raises(npz.NpzError, match="must have at most 5,000 members, got 5,001"):
        npz.names(tmp_path / "a.npz")


def test_a_list_of_members_of_many_bytes(tmp_path):
    """The end of the archive declares a list of 2 GiB, in a file without contents."""
    with open(tmp_path / "a.npz", "wb") as file:
        file.truncate(1 << 31)
        file.seek(0, 2)
        file.write(b"PK\5\6" + struct.pack("<4H2LH", 0, 0, 1, 1, 1 << 31, 0, 0))
    with pytest.raises(npz.NpzError, match="list of members must have at most .* 2,147,483,648"):
        npz.names(tmp_path / "a.npz")


def test_torch_files(tmp_path):
    for name, method, count in (("packed", zipfile.ZIP_DEFLATED, 1), ("many", 0, 10_001)):
        with zipfile.ZipFile(tmp_path / f"{name}.pt", "w", method) as packed:
            packed.writestr("a/data.pkl", b"\x80\x02}.")
            for number in range(count):
                packed.writestr(f"a/data/{number}", b"")
    with pytest.raises(ValueError, match="members must not be compressed"):
        images_of(tmp_path / "packed.pt")
    with pytest.raises(ValueError, match="must have at most 10,000 members"):
        images_of(tmp_path / "many.pt")


def test_parquet_rows(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    table = pyarrow.table({"image": pyarrow.array([b"x"] * 100_000)})
    parquet.write_table(table, tmp_path / "set.parquet")
    with pytest.raises(ValueError, match="must have at most 10,[0-9]{3} rows, got 100,000"):
        images_of(tmp_path / "set.parquet")
    table = pyarrow.table({"image": pyarrow.array([png(9, i) for i in range(6)])})
    parquet.write_table(table, tmp_path / "set.parquet")
    assert len(images_of(tmp_path / "set.parquet").train) == 5


def test_a_checkpoint_of_many_tensors(tmp_path):
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    text = json.dumps({f"weights/{n}": entry for n in range(MOST_TENSORS + 1)}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(CheckpointError, match="must have at most 50,000 tensors, got 50,001"):
        Checkpoint.load(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="must have at most 50,000 tensors, got 50,001"):
        images_of(tmp_path / "a.safetensors")


def test_a_long_header_of_a_checkpoint(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", 17 << 20) + b" " * 100)
    with pytest.raises(CheckpointError, match="header of at most 16,777,216 bytes"):
        Checkpoint.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "record",
    [
        b'{"step": ' + b"9" * 4000 + b"}",
        b'{"step": ' + b"9" * 90 + b"}",
        b'{"step": -1}',
        b'{"step": 1.5}',
        b'{"step": true}',
        b'{"step": 1, "bits_per_dim": ' + b"1" * 60 + b"}",
        b'{"step": 1, "bits_per_dim": [1]}',
        b'{"step": 1, "layer_log_det": {"a": "b"}}',
        b'{"step": 1, "bits_per_dim": "' + b"x" * (1 << 20) + b'"}',
        b"[" * 100_000,
        b"[]",
        b"null",
    ],
)
def test_metrics(tmp_path, record):
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(record + b'\n{"step": 2}\n')
    with pytest.raises(ValueError, match="line 1 is damaged") as error:
        read_records(file)
    assert len(str(error.value)) < 500
    file.write_bytes(b'{"step": 2}\n' + record)  # what a crash may leave
    assert read_records(file) == [{"step": 2}]
