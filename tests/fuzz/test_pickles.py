"""Hostile pickles: a clear error, and none of their code is run."""

from __future__ import annotations

import io
import os
import pickle
import struct

import numpy as np
import pytest

from flowpp.data import array_pickle
from image_files import pixels, reader

pytestmark = pytest.mark.usefixtures("few_images")


class Code:
    """Pickles as a call of os.mkdir."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def nested():
    """A list of lists of lists ...: a few hundred bytes as a pickle, 2^200 paths."""
    value: list = [0]
    for _ in range(200):
        value = [value, value]
    return value


def repeated_text():
    """One long text, encoded 3000 times."""
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
    "repeated text": repeated_text(),
    "nested dtype": b"\x80\x02cnumpy\ndtype\n" + NESTED + b"\x85R.",
    "nested shape": b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01("
    + NESTED
    + b"tcnumpy\ndtype\nX\x02\x00\x00\x00u1\x85R\x89B\x01\x00\x00\x00atb.",
    "nested codec": b"c_codecs\nencode\nX\x01\x00\x00\x00a" + NESTED + b"\x86R.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent": b"Pa\n.",
    "getattr": b"cbuiltins\ngetattr\n(cos\nS'system'\ntR.",
    "nested name": b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.tofile\x93.",
    "state of a function": b"cnumpy.core.multiarray\n_reconstruct\n}X\x01\x00\x00\x00aK\x01sb.",
}


@pytest.mark.parametrize("case", HOSTILE_PICKLES)
def test_hostile_pickles(guard, tmp_path, case):
    read = reader("batch", HOSTILE_PICKLES[case], tmp_path / "images")
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
