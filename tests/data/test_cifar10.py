"""CIFAR-10 files, written by the tests: intact ones load, others are refused with a reason."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile

import numpy as np
import pytest

from flowpp import data
from flowpp.config import DataConfig
from flowpp.data import array_pickle, cifar10

COUNT = 6


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Batch files of six images instead of 10000."""
    monkeypatch.setattr(cifar10, "IMAGES_PER_FILE", COUNT)


def load(path):
    return data.load(DataConfig(source="cifar10", path=str(path)))


def pixels(seed, count=COUNT):
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def rows(images):
    """One row per image as in the archive: all red, all green, all blue."""
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def python2_pickle(array):
    """A batch as written by Python 2's cPickle and NumPy at the time: protocol 2, by opcode.

    {'data': uint8 array, 'labels': [...]} with text as 8-bit strings.
    """

    def text(value: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(value)) + value

    dtype = (
        b"cnumpy\ndtype\n"
        + text(b"u1")
        + b"K\x00K\x01\x87R(K\x03"
        + text(b"|")
        + b"NNN"
        + b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    shape = b"".join(b"J" + struct.pack("<i", n) for n in array.shape) + b"\x86"
    state = b"(K\x01" + shape + dtype + b"\x89" + text(array.tobytes()) + b"t"
    reconstruct = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b")
    labels = b"](" + b"K\x03" * len(array) + b"e"
    return (
        b"\x80\x02}("
        + text(b"data")
        + reconstruct
        + b"\x87R"
        + state
        + b"b"
        + text(b"labels")
        + labels
        + b"u."
    )


@pytest.fixture(scope="module")
def batches():
    """Six batch files as bytes: written by Python 2, and by NumPy in protocols 2 to 5."""
    arrays = [pixels(i) for i in range(6)]
    writers = [python2_pickle] + [
        lambda a, p=p: pickle.dumps({b"data": a, b"labels": [3] * len(a)}, protocol=p)
        for p in (2, 3, 4, 5)
    ]
    writers.append(python2_pickle)
    names = (*cifar10.TRAIN_FILES, *cifar10.TEST_FILES)
    contents = [write(rows(a)) for write, a in zip(writers, arrays, strict=True)]
    return arrays, dict(zip(names, contents, strict=True))


@pytest.fixture
def folder(tmp_path, batches):
    inner = tmp_path / cifar10.FOLDER
    inner.mkdir()
    for name, content in batches[1].items():
        (inner / name).write_bytes(content)
    return inner


def write_archive(path, contents):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{cifar10.FOLDER}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def check(images, arrays):
    assert images.name == "cifar10" and images.levels == 256
    expected = np.concatenate(arrays[:5]).transpose(0, 3, 1, 2)
    assert np.array_equal(images.train, expected)
    assert np.array_equal(images.test, arrays[5].transpose(0, 3, 1, 2))


def test_folder(folder, batches):
    check(load(folder), batches[0])
    check(load(folder.parent), batches[0])  # its parent is accepted too


def test_archive(tmp_path, batches):
    write_archive(tmp_path / "cifar-10-python.tar.gz", batches[1])
    check(load(tmp_path / "cifar-10-python.tar.gz"), batches[0])


def test_npz(tmp_path):
    train, test = pixels(0, 7), pixels(1, 3)
    np.savez_compressed(tmp_path / "c.npz", train=train, test=test)
    images = load(tmp_path / "c.npz")
    assert np.array_equal(images.train, train.transpose(0, 3, 1, 2))
    assert np.array_equal(images.test, test.transpose(0, 3, 1, 2))


def test_one_array_under_an_npz_name_is_refused(tmp_path):
    np.save(tmp_path / "one.npy", pixels(0, 7))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(ValueError, match=r"one\.npz must be an \.npz archive, got a single array"):
        load(tmp_path / "one.npz")


def test_no_path():
    with pytest.raises(ValueError, match="needs data.path: .* got none"):
        data.load(DataConfig(source="cifar10"))


def test_missing_path(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent does not exist"):
        load(tmp_path / "absent")


def test_missing_batch(folder):
    (folder / "data_batch_4").unlink()
    with pytest.raises(FileNotFoundError, match="has no file data_batch_4"):
        load(folder)


def test_missing_member(tmp_path, batches):
    contents = {n: c for n, c in batches[1].items() if n != "test_batch"}
    write_archive(tmp_path / "a.tar.gz", contents)
    with pytest.raises(FileNotFoundError, match="has no member cifar-10-batches-py/test_batch"):
        load(tmp_path / "a.tar.gz")


@pytest.mark.parametrize("kept", [0, 10, 1000, 18_000])
def test_truncated_batch(folder, kept):
    batch = folder / "data_batch_2"
    batch.write_bytes(batch.read_bytes()[:kept])
    with pytest.raises(ValueError, match="data_batch_2 .* truncated or damaged pickle"):
        load(folder)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.9])
def test_truncated_archive(tmp_path, batches, fraction):
    path = tmp_path / "a.tar.gz"
    write_archive(path, batches[1])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    with pytest.raises(ValueError, match="truncated or not a tar archive"):
        load(path)


def test_not_an_archive(tmp_path):
    (tmp_path / "c.txt").write_text("hello")
    with pytest.raises(ValueError, match="truncated or not a tar archive: .*; needed the folder"):
        load(tmp_path / "c.txt")


@pytest.mark.parametrize(
    ("content", "needed"),
    [
        ({b"data": rows(pixels(0, COUNT - 1))}, r"shape \(6, 3072\), got \(5, 3072\)"),
        ({b"data": pixels(0)}, r"shape \(6, 3072\), got \(6, 32, 32, 3\)"),
        ({b"data": rows(pixels(0)).astype(np.int16)}, "uint8, got dtype 'i2'"),
        ({b"labels": [1]}, "dictionary with an array 'data', got none"),
        ([1, 2], "dictionary with an array 'data', got none"),
    ],
)
def test_wrong_contents(folder, content, needed):
    (folder / "data_batch_3").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(ValueError, match=f"data_batch_3 .*{needed}"):
        load(folder)


def test_huge_file_is_not_read(folder, monkeypatch):
    monkeypatch.setattr(cifar10, "MAX_FILE_BYTES", 1000)
    with pytest.raises(ValueError, match="at most 1,000 bytes, got"):
        load(folder)


class Touch:
    """Pickles as a call of open() for writing."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_code_in_a_pickle_does_not_run(folder, tmp_path):
    mark = tmp_path / "mark"
    (folder / "data_batch_1").write_bytes(pickle.dumps({b"data": Touch(mark)}, protocol=2))
    with pytest.raises(array_pickle.UnsafePickleError, match=r"got (io|_io)\.open"):
        load(folder)
    assert not mark.exists()


@pytest.mark.parametrize(
    "name",
    ["os system", "builtins eval", "builtins getattr", "numpy load", "numpy.core.multiarray x"],
)
def test_other_imports_are_refused(name):
    module, attribute = name.split()
    program = f"c{module}\n{attribute}\n.".encode()
    with pytest.raises(array_pickle.UnsafePickleError, match=f"got {module}.{attribute}"):
        array_pickle.loads(program)


@pytest.mark.parametrize(
    "program",
    [
        # An array state without a dtype.
        b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01K\x02\x85NNNtb.",
        # A dtype of objects, whose elements would be unpickled.
        b"cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R.",
        # A state that is not a tuple.
        b"cnumpy.core.multiarray\n_reconstruct\n)RK\x01b.",
        # Text in another codec, which might run code.
        b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00idnaa\x86R.",
    ],
)
def test_stand_ins_accept_only_uint8_arrays(program):
    with pytest.raises(array_pickle.UnsafePickleError):
        array_pickle.loads(program)


def test_array_state_must_match_its_bytes():
    array = np.zeros((2, 3), np.uint8)
    program = pickle.dumps(array, protocol=2).replace(b"K\x02K\x03\x86", b"K\x02K\x04\x86")
    with pytest.raises(ValueError, match=r"shape \(2, 4\) does not match its 6 bytes"):
        array_pickle.loads(program)


def test_fortran_order_is_kept():
    array = np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    for protocol in (2, 5):
        assert np.array_equal(array_pickle.loads(pickle.dumps(array, protocol=protocol)), array)


@pytest.mark.parametrize(
    ("arrays", "error", "needed"),
    [
        ({"train": pixels(0)}, ValueError, r"arrays 'train' and 'test', got \['train'\]"),
        ({"train": pixels(0) / 255, "test": pixels(0)}, TypeError, "must be uint8, got float64"),
        ({"train": rows(pixels(0)), "test": pixels(0)}, ValueError, r"32, 3\), got \(6, 3072\)"),
        ({"train": pixels(0), "test": pixels(0, 0)}, ValueError, r"got \(0, 32, 32, 3\)"),
    ],
)
def test_npz_with_wrong_arrays(tmp_path, arrays, error, needed):
    np.savez(tmp_path / "c.npz", **arrays)
    with pytest.raises(error, match=needed):
        load(tmp_path / "c.npz")


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.7, 0.99])
def test_truncated_npz(tmp_path, fraction):
    path = tmp_path / "c.npz"
    np.savez(path, train=pixels(0), test=pixels(1))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    with pytest.raises(ValueError, match="c.npz is damaged or not an .npz archive"):
        load(path)


def test_flipped_bit_in_npz(tmp_path):
    path = tmp_path / "c.npz"
    np.savez(path, train=pixels(0), test=pixels(1))
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="c.npz is damaged .*: .*CRC"):
        load(path)


def test_pickle_in_npz_is_not_read(tmp_path):
    path = tmp_path / "c.npz"
    np.savez(path, train=np.array([{"a": 1}], dtype=object), test=pixels(1))
    with pytest.raises(ValueError, match="c.npz is damaged .*: .*allow_pickle"):
        load(path)
