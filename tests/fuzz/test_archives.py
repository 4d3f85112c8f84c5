"""Hostile tar and npz archives: a clear error, within bounds on memory, nothing run or written."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from flowpp.data import cifar10
from flowpp.data.npz import NpzError, read
from image_files import BATCHES, COUNT, npz_of, reader, tar_of

pytestmark = pytest.mark.usefixtures("few_images")


def links():
    """Links, devices and folders under the names of batch files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for kind, name, target in (
            (tarfile.SYMTYPE, "data_batch_1", "/etc/passwd"),
            (tarfile.LNKTYPE, "data_batch_2", "../../../etc/passwd"),
            (tarfile.CHRTYPE, "data_batch_3", ""),
            (tarfile.FIFOTYPE, "data_batch_4", ""),
            (tarfile.DIRTYPE, "data_batch_5", ""),
        ):
            member = tarfile.TarInfo(f"{cifar10.FOLDER}/{name}")
            member.type, member.linkname = kind, target
            archive.addfile(member)
    return file.getvalue()


def climbing():
    return tar_of({f"../../../{name}": content for name, content in BATCHES.items()} | {
        "/tmp/absolute": b"x", "../../evil": b"x"})  # fmt: skip


def declared(size, kind=tarfile.REGTYPE, name=f"{cifar10.FOLDER}/data_batch_1"):
    """A header that declares `size` bytes, and a few bytes after it."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT) + bytes(2048)


def sparse():
    """A sparse file of a gigabyte."""
    header = bytearray(declared(0, tarfile.GNUTYPE_SPARSE)[:512])
    header[483:495] = b"%011o\0" % (1 << 30)
    header[386:410] = b"%011o\0" % (1 << 30) + b"%011o\0" % 0
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(1024)


HOSTILE_TARS = {
    "links": links,
    "huge": lambda: declared(1 << 40),
    "negative": lambda: declared(-1024),
    "far backwards": lambda: declared(-(1 << 50)),
    "sparse": sparse,
    "long name": lambda: declared(1 << 40, tarfile.GNUTYPE_LONGNAME),
    "extended header": lambda: declared(1 << 40, tarfile.XHDTYPE),
    "broken extended header": lambda: declared(512, tarfile.XHDTYPE),
    "bomb": lambda: gzip.compress(declared(40 << 20, name="x") + bytes(80 << 20), 1),
    "bomb of headers": lambda: gzip.compress(declared(0, name="x")[:512] * 100_000, 1),
    "bomb in a header": lambda: gzip.compress(
        declared(40 << 20, tarfile.XHDTYPE) + bytes(41 << 20), 1
    ),
}


@pytest.mark.parametrize("case", HOSTILE_TARS)
def test_hostile_archives(guard, tmp_path, monkeypatch, case):
    monkeypatch.setattr(cifar10, "MAX_ARCHIVE_BYTES", 32 << 20)
    monkeypatch.setattr(cifar10, "MAX_FILE_BYTES", 8 << 20)
    raw = HOSTILE_TARS[case]()
    read = reader("cifar.tar.gz", raw, tmp_path / "images")
    with guard.reading("cifar.tar.gz"):
        read()
    assert guard.refused is not None
    if raw[:2] != b"\x1f\x8b":
        read = reader(
            "train_32x32.tar", raw.replace(b"data_batch_1", b"123456789.png"), tmp_path / "more"
        )
        with guard.reading(str(tmp_path / "more")):
            read()
        assert guard.refused is not None


def test_paths_in_an_archive_are_never_written(guard, tmp_path):
    read = reader("cifar.tar", climbing(), tmp_path / "images")
    with guard.reading():
        found = read()
    assert len(found.train) == 5 * COUNT
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["cifar.tar", "images"]


def zip_of(contents, **options):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file.getvalue()


def npy(header, data=b""):
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def shaped(shape, dtype="|u1"):
    return npy(f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}", bytes(64))


HOSTILE_ARRAYS = {
    "huge": shaped("(1099511627776, 32, 32, 3)"),
    "overflow": shaped("(1099511627776, 1099511627776, 1099511627776)"),
    "negative": shaped("(-1, 32, 32, 3)"),
    "items of no bytes": shaped("(1099511627776,)", "|S0"),
    "wide": shaped("(1,)", "|V2147483647"),
    "not a shape": shaped("'x'"),
    "true": shaped("(True, 32, 32, 3)"),
    "objects": shaped("(1,)", "|O"),
    "code": npy("__import__('os').system('touch evil')"),
    "nested": npy("(" * 4000),
    "minus": npy("-" * 9000 + "1"),
    "unknown version": b"\x93NUMPY\x09\x00" + bytes(80),
    "no array": b"hello",
    "short": b"\x93NUMPY",
}


@pytest.mark.parametrize("name", ["cifar.npz", "val_data.npz", "variables.npz"])
@pytest.mark.parametrize("case", HOSTILE_ARRAYS)
def test_hostile_arrays(guard, tmp_path, name, case):
    raw = HOSTILE_ARRAYS[case]
    archive = zip_of({f"{n}.npy": raw for n in ("train", "test", "data")})
    read = reader(name, archive, tmp_path / "images")
    with guard.reading(name):
        read()
    assert guard.refused is not None


def bomb():
    array = np.zeros((40_000, 32, 32, 3), np.uint8)
    return npz_of(train=array, test=array[:1], data=array.reshape(-1, 3072))


def climbing_zip():
    return zip_of({f"../../{n}.npy": shaped("(64,)") for n in ("train", "test", "data")})


def encrypted():
    raw = bytearray(zip_of({f"{n}.npy": shaped("(64,)") for n in ("train", "test", "data")}))
    for i in range(len(raw) - 8):
        if raw[i : i + 4] == b"PK\x01\x02":
            raw[i + 8] |= 1
        if raw[i : i + 4] == b"PK\x03\x04":
            raw[i + 6] |= 1
    return bytes(raw)


def wrong_size():
    """A member longer than its directory entry states."""
    raw = bytearray(bomb())
    entry = raw.rindex(b"PK\x01\x02")
    raw[entry + 24 : entry + 28] = struct.pack("<I", 100)
    return bytes(raw)


HOSTILE_ZIPS = {
    "bomb": bomb,
    "climbing": climbing_zip,
    "encrypted": encrypted,
    "wrong size": wrong_size,
    "lzma": lambda: zip_of(
        {f"{n}.npy": shaped("(64,)") for n in ("train", "test", "data")},
        compression=zipfile.ZIP_LZMA,
    ),
    "not an archive": lambda: b"PK\x03\x04" + bytes(100),
    "empty": lambda: zip_of({}),
}


@pytest.mark.parametrize("name", ["cifar.npz", "val_data.npz"])
@pytest.mark.parametrize("case", HOSTILE_ZIPS)
def test_hostile_zips(guard, tmp_path, name, case):
    read = reader(name, HOSTILE_ZIPS[case](), tmp_path / "images")
    with guard.reading(name):
        read()
    assert guard.refused is not None
    assert len(list(tmp_path.rglob("*.np[yz]"))) == 1 + (name == "val_data.npz")


def test_a_bomb_is_refused_by_its_size(tmp_path):
    (tmp_path / "a.npz").write_bytes(bomb())
    with pytest.raises(NpzError, match="at most 67,108,864 bytes, got 122,880,128"):
        read(tmp_path / "a.npz", ["train"])
