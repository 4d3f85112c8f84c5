"""torch's current stream is handed to CuPy without the name that CuPy 14 deprecates."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from flowpp.kernels.cuda import build, launch


class NewStream:
    @staticmethod
    def from_external(stream):
        return "protocol", stream.__cuda_stream__()


@pytest.mark.parametrize(
    "cuda, expected",
    [
        (SimpleNamespace(Stream=NewStream), ("protocol", (0, 4711))),
        (
            SimpleNamespace(Stream=object, ExternalStream=lambda pointer: ("former", pointer)),
            ("former", 4711),
        ),
    ],
)
def test_a_stream_is_wrapped_by_its_address(monkeypatch, cuda, expected):
    launch._stream.cache_clear()
    monkeypatch.setattr(build, "cupy", lambda: SimpleNamespace(cuda=cuda))
    try:
        assert launch._stream(4711) == expected
    finally:
        launch._stream.cache_clear()


def test_cupy_wraps_a_stream_without_a_warning():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    launch._stream.cache_clear()
    try:
        stream = launch._stream(4711)
        assert isinstance(stream, cupy.cuda.Stream) and stream.ptr == 4711
    finally:
        launch._stream.cache_clear()
