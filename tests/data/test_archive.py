"""Archives: every kind of compression, every limit at its boundary, and damaged files."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile

import pytest

from flowpp.data import archive
from flowpp.data.archive import ArchiveError, files, member_limit

CONTENTS = {"a.png": b"first", "b.txt": b"other", "c/d.png": b"second one", "e.png": b""}
BLOCK = tarfile.BLOCKSIZE


def tar_of(contents, *, more=()):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as packed:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
        for member in more:
            packed.addfile(member)
    return buffer.getvalue()


def write(tmp_path, raw):
    path = tmp_path / "set.tar"
    path.write_bytes(raw)
    return path


def is_png(name):
    return name.endswith(".png")


def read(path, limit=100, **options):
    return list(files(path, is_png, max_file_bytes=limit, **options))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_selected_files_in_order(tmp_path, pack):
    folder, link = tarfile.TarInfo("f.png"), tarfile.TarInfo("g.png")
    folder.type, link.type, link.linkname = tarfile.DIRTYPE, tarfile.SYMTYPE, "a.png"
    path = write(tmp_path, pack(tar_of(CONTENTS, more=[folder, link])))
    assert read(path) == [(name, raw) for name, raw in CONTENTS.items() if is_png(name)]


def test_the_largest_file_is_accepted_and_one_more_byte_refused(tmp_path):
    path = write(tmp_path, tar_of(CONTENTS))
    assert len(read(path, limit=10)) == 3
    with pytest.raises(ArchiveError) as refused:
        read(path, limit=9)
    assert str(refused.value) == f"c/d.png in {path} must have at most 9 bytes, got 10"
    huge = tarfile.TarInfo("x.png")
    huge.size = 12345
    path = write(tmp_path, huge.tobuf())
    with pytest.raises(ArchiveError, match="must have at most 1,000 bytes, got 12,345$"):
        read(path, limit=1000)


def test_files_that_are_not_selected_may_be_larger(tmp_path):
    path = write(tmp_path, tar_of({"big.txt": b"x" * 5000, "a.png": b"first"}))
    assert read(path, limit=10) == [("a.png", b"first")]


def test_the_unpacked_size_is_limited(tmp_path):
    # A header and a block for each of two files, and two blocks at the end, of which one is read.
    path = write(tmp_path, tar_of({"a.png": b"a", "b.png": b"b"}))
    needed = 5 * BLOCK
    assert len(read(path, max_total_bytes=needed)) == 2
    with pytest.raises(ArchiveError) as refused:
        read(path, max_total_bytes=needed - 1)
    assert str(refused.value) == f"{path} must unpack to at most {needed - 1:,} bytes, got more"


def test_the_number_of_members_is_limited(tmp_path, monkeypatch):
    path = write(tmp_path, tar_of({f"{i}.png": b"" for i in range(5)}))
    assert member_limit(path) == 10_000 + path.stat().st_size // 100
    monkeypatch.setattr(archive, "SMALLEST_MEMBER", 1 << 30)
    monkeypatch.setattr(archive, "FEW_MEMBERS", 5)
    assert len(read(path)) == 5
    monkeypatch.setattr(archive, "FEW_MEMBERS", 4)
    with pytest.raises(ArchiveError) as refused:
        read(path)
    assert str(refused.value) == f"{path} must have at most 4 members, got more"
    monkeypatch.setattr(archive, "FEW_MEMBERS", 1234)
    empty = b"".join(tarfile.TarInfo("x").tobuf() for _ in range(1235))
    with pytest.raises(ArchiveError, match="at most 1,234 members"):
        read(write(tmp_path, empty))


@pytest.mark.parametrize("size", [BLOCK + 3, 2 * BLOCK])
def test_truncated_archives_are_refused(tmp_path, size):
    raw = tar_of({"a.png": b"x" * 700})[:size]
    with pytest.raises(ArchiveError, match="set.tar is truncated or not a tar archive: "):
        read(write(tmp_path, raw), limit=1000)
    with pytest.raises(ArchiveError, match="not a tar archive: Compressed file ended before"):
        read(write(tmp_path, gzip.compress(raw)[:-12]), limit=1000)


@pytest.mark.parametrize("start", [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"text"])
def test_other_files_are_refused(tmp_path, start):
    path = write(tmp_path, start + b" and no archive" * 50)
    with pytest.raises(ArchiveError) as refused:
        read(path)
    assert str(refused.value).startswith(f"{path} is truncated or not a tar archive: ")


def test_a_reader_may_stop_early(tmp_path):
    reading = files(write(tmp_path, tar_of(CONTENTS)), is_png, max_file_bytes=100)
    assert next(reading) == ("a.png", b"first")
    reading.close()
    assert list(reading) == []


def test_the_stream_only_moves_forwards_in_bounded_parts(monkeypatch):
    sizes = []

    class Source(io.BytesIO):
        def read(self, size):
            sizes.append(size)
            return super().read(size)

    monkeypatch.setattr(archive, "CHUNK", 7)
    stream = archive._ForwardStream(Source(b"x" * 40), 10, None)
    assert len(stream.read(20)) == stream.tell() == 20
    assert stream.seek(20) == 20 and stream.seek(31) == 31 and sizes == [20, 7, 4]
    assert stream.seek(50) == 40 == stream.tell()
    for position, whence in ((39, 0), (45, 1), (0, 2)):
        with pytest.raises(ValueError, match="^a header points backwards$"):
            stream.seek(position, whence)
    assert stream.read(10 + BLOCK) == b"" and stream.read(0) == b""
    small = archive._ForwardStream(Source(b"x" * 40), 3, None)
    sizes.clear()
    assert small.seek(7) == 7 and sizes == [3, 3, 1]


@pytest.mark.parametrize("size", [-1, 5000 + BLOCK + 1])
def test_parts_without_a_size_or_too_large_are_refused(size):
    stream = archive._ForwardStream(io.BytesIO(b"x" * 9000), 5000, None)
    with pytest.raises(archive._LimitError) as refused:
        stream.read(size)
    assert str(refused.value) == f"must have parts of at most 5,000 bytes, got {size:,}"
