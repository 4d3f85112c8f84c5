"""Data files, spoiled: a clear error or images of the promised kind."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from flowpp import convert
from flowpp.config import DataConfig, presets
from flowpp.data import ImageSet, array_pickle, autoconfig, cifar10, imagenet, load
from flowpp.data.npz import NpzError, read
from harm import bytes_of

COUNT = 4


class Code:
    """Pickles to a call."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    monkeypatch.setattr(cifar10, "IMAGES_PER_FILE", COUNT)
    monkeypatch.setattr(imagenet, "NPZ_BATCHES", 1)


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(side, seed=0):
    file = io.BytesIO()
    Image.fromarray(pixels(side, side, 3, seed=seed)).save(file, "PNG")
    return file.getvalue()


def tar_of(contents, mode="w"):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def npz_of(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def batch(seed=0):
    return pickle.dumps({b"data": pixels(COUNT, 3072, seed=seed)}, protocol=2)


BATCHES = {f"{cifar10.FOLDER}/{name}": batch(i) for i, name in enumerate(
    (*cifar10.TRAIN_FILES, *cifar10.TEST_FILES))}  # fmt: skip
VARIABLES = {"a/W": np.ones((2, 3), np.float32), "b": np.zeros(3, np.float32)}
SOUND = {
    "cifar.tar.gz": tar_of(BATCHES, "w:gz"),
    "cifar.tar": tar_of(BATCHES),
    "cifar.npz": npz_of(train=pixels(6, 32, 32, 3), test=pixels(2, 32, 32, 3)),
    "batch": BATCHES[f"{cifar10.FOLDER}/data_batch_1"],
    "train_32x32.tar": tar_of({f"x/{i}.png": png(32, i) for i in range(3)}),
    "val_data.npz": npz_of(data=pixels(2, 3072)),
    "0.png": png(9),
    "variables.npz": npz_of(**VARIABLES),
}


def reader(name, raw, folder):
    """Reads the harmed file as the library would, with sound ones where there are several."""
    folder.mkdir()
    file = folder / name
    file.write_bytes(raw)
    if name == "variables.npz":
        return lambda: convert.read_variables(file)
    if name.startswith("cifar"):
        return lambda: load(DataConfig(source="cifar10", path=str(file)))
    if name == "batch":
        file.rename(folder / "data_batch_1")
        for path, content in list(BATCHES.items())[1:]:
            (folder / path.split("/")[1]).write_bytes(content)
        return lambda: load(DataConfig(source="cifar10", path=str(folder)))
    if name == "0.png":
        (folder / "1.png").write_bytes(png(9, 1))
        (folder / "2.png").write_bytes(png(9, 2))
        return lambda: load(DataConfig(source="folder", path=str(folder), size=8))
    if name == "train_32x32.tar":
        (folder / "valid_32x32.tar").write_bytes(SOUND[name])
    else:
        (folder / "train_data_batch_1.npz").write_bytes(npz_of(data=pixels(3, 3072)))
    return lambda: load(DataConfig(source="imagenet32", path=str(folder), partial=True))


@pytest.mark.parametrize("name", SOUND)
def test_the_sound_files_are_read(guard, tmp_path, name):
    read = reader(name, SOUND[name], tmp_path / "images")
    with guard.reading():
        found = read()
    assert guard.refused is None
    assert isinstance(found, ImageSet) or found.keys() == VARIABLES.keys()


@pytest.mark.parametrize("seed", range(18))
@pytest.mark.parametrize("name", SOUND)
def test_harmed_bytes(guard, tmp_path, name, seed):
    read = reader(name, bytes_of(SOUND[name], seed), tmp_path / "images")
    with guard.reading(str(tmp_path / "images")):
        found = read()
        assert isinstance(found, ImageSet | dict)


# ---- archives that are sound and hostile
# ------------------------------------------------------------------------------------------------


def links():
    """Members that are no files, under the names of batches; and paths that lead outside."""
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
    """One header that promises so many bytes, and a few that follow."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT) + bytes(2048)


def sparse():
    """A gigabyte of holes."""
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
    "far back": lambda: declared(-(1 << 50)),
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


@pytest.mark.parametrize("harm", HOSTILE_TARS)
def test_hostile_archives(guard, tmp_path, monkeypatch, harm):
    monkeypatch.setattr(cifar10, "MAX_ARCHIVE_BYTES", 32 << 20)
    monkeypatch.setattr(cifar10, "MAX_FILE_BYTES", 8 << 20)
    raw = HOSTILE_TARS[harm]()
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


def test_paths_that_climb_are_only_names(guard, tmp_path):
    read = reader("cifar.tar", climbing(), tmp_path / "images")
    with guard.reading():
        found = read()
    assert len(found.train) == 5 * COUNT
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["cifar.tar", "images"]


# ---- pickles
# ------------------------------------------------------------------------------------------------


def nested():
    """A list of lists of lists ...: a few hundred bytes as a pickle, 2^200 paths."""
    value: list = [0]
    for _ in range(200):
        value = [value, value]
    return value


def echo():
    """One long text, encoded again and again."""
    text = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20)
    again = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    return b"\x80\x02" + text + b"q\x000](" + again * 3000 + b"e."


NESTED = pickle.dumps(nested(), protocol=2)[2:-1]
HOSTILE_PICKLES = {
    "memo": b"\x80\x02]r\xff\xff\xff\x7f.",
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
    "byte array": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.",
    "deep": b"\x80\x02" + b"]" * 1_000_000 + b"a" * 999_999 + b".",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.",
    "digits": b"I" + b"9" * 100_000 + b"\n.",
    "nested": pickle.dumps({b"data": nested()}, protocol=2),
    "echo": echo(),
    "nested dtype": b"\x80\x02cnumpy\ndtype\n" + NESTED + b"\x85R.",
    "nested shape": b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01(" + NESTED
    + b"tcnumpy\ndtype\nX\x02\x00\x00\x00u1\x85R\x89B\x01\x00\x00\x00atb.",
    "nested codec": b"c_codecs\nencode\nX\x01\x00\x00\x00a" + NESTED + b"\x86R.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent": b"Pa\n.",
    "getattr": b"cbuiltins\ngetattr\n(cos\nS'system'\ntR.",
    "nested name": b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.tofile\x93.",
    "state of a function": b"cnumpy.core.multiarray\n_reconstruct\n}X\x01\x00\x00\x00aK\x01sb.",
}


@pytest.mark.parametrize("harm", HOSTILE_PICKLES)
def test_hostile_pickles(guard, tmp_path, harm):
    read = reader("batch", HOSTILE_PICKLES[harm], tmp_path / "images")
    with guard.reading("data_batch_1"):
        read()
    assert guard.refused is not None


@pytest.mark.parametrize("protocol", range(6))
def test_code_in_pickles(guard, tmp_path, protocol):
    mark = tmp_path / "mark"
    for value in (Code(mark), {b"data": Code(mark)}, {b"data": np.array([Code(mark)])}):
        raw = pickle.dumps(value, protocol=protocol)
        with guard.reading(), pytest.raises(ValueError):
            array_pickle.loads(raw)
        arrays = io.BytesIO()
        np.savez(arrays, train=np.array([value], dtype=object), test=pixels(1, 32, 32, 3))
        for name in ("cifar.npz", "variables.npz", "val_data.npz"):
            folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
            read = reader(name, arrays.getvalue().replace(b"train", b"data_"), folder)
            with guard.reading(name):
                read()
            assert guard.refused is not None
    assert not mark.exists()


# ---- npz
# ------------------------------------------------------------------------------------------------


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
    "beyond all": shaped("(1099511627776, 1099511627776, 1099511627776)"),
    "negative": shaped("(-1, 32, 32, 3)"),
    "nothing, often": shaped("(1099511627776,)", "|S0"),
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
@pytest.mark.parametrize("harm", HOSTILE_ARRAYS)
def test_hostile_arrays(guard, tmp_path, name, harm):
    raw = HOSTILE_ARRAYS[harm]
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
    for place in range(len(raw) - 8):
        if raw[place : place + 4] == b"PK\x01\x02":
            raw[place + 8] |= 1
        if raw[place : place + 4] == b"PK\x03\x04":
            raw[place + 6] |= 1
    return bytes(raw)


def lying():
    """A member that is longer than its entry says."""
    raw = bytearray(bomb())
    place = raw.rindex(b"PK\x01\x02")
    raw[place + 24 : place + 28] = struct.pack("<I", 100)
    return bytes(raw)


HOSTILE_ZIPS = {
    "bomb": bomb,
    "climbing": climbing_zip,
    "encrypted": encrypted,
    "lying": lying,
    "lzma": lambda: zip_of(
        {f"{n}.npy": shaped("(64,)") for n in ("train", "test", "data")},
        compression=zipfile.ZIP_LZMA,
    ),
    "no archive": lambda: b"PK\x03\x04" + bytes(100),
    "empty": lambda: zip_of({}),
}


@pytest.mark.parametrize("name", ["cifar.npz", "val_data.npz"])
@pytest.mark.parametrize("harm", HOSTILE_ZIPS)
def test_hostile_zips(guard, tmp_path, name, harm):
    read = reader(name, HOSTILE_ZIPS[harm](), tmp_path / "images")
    with guard.reading(name):
        read()
    assert guard.refused is not None
    assert len(list(tmp_path.rglob("*.np[yz]"))) == 1 + (name == "val_data.npz")


def test_a_bomb_is_told_by_its_size(tmp_path):
    (tmp_path / "a.npz").write_bytes(bomb())
    with pytest.raises(NpzError, match="at most 67,108,864 bytes, got 122,880,128"):
        read(tmp_path / "a.npz", ["train"])


# ---- pictures
# ------------------------------------------------------------------------------------------------


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width, height, *chunks):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks)


def postscript():
    """Pillow would start an interpreter of it."""
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
    "tiff that leads round": lambda: b"II*\x00\x08\x00\x00\x00\x00\x00\x08\x00\x00\x00",
    "svg": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script>evil()</script></svg>",
}  # fmt: skip


@pytest.mark.parametrize("harm", HOSTILE_IMAGES)
def test_hostile_images(guard, tmp_path, harm):
    raw = HOSTILE_IMAGES[harm]()
    folder = tmp_path / "images"
    read = reader("0.png", raw, folder)
    with guard.reading(str(folder / "0.png")):
        read()
    wanted = harm not in ("pixel bomb", "text bomb")  # Pillow reads as much as it needs
    assert guard.refused is not None or not wanted
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
