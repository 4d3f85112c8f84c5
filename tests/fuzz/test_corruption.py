"""Corrupted data files: a clear error or images of the expected kind."""

from __future__ import annotations

import pytest

from corrupt import corrupt_bytes
from flowpp.data import ImageSet
from hostile import CHANGES, hostile
from image_files import INTACT, VARIABLES, reader

pytestmark = pytest.mark.usefixtures("few_images")


@pytest.mark.parametrize("name", INTACT)
def test_intact_files_load(guard, tmp_path, name):
    read = reader(name, INTACT[name], tmp_path / "images")
    with guard.reading():
        found = read()
    assert guard.refused is None
    assert isinstance(found, ImageSet) or found.keys() == VARIABLES.keys()


@pytest.mark.parametrize("seed", range(18))
@pytest.mark.parametrize("name", INTACT)
def test_corrupted_bytes(guard, tmp_path, name, seed):
    read = reader(name, corrupt_bytes(INTACT[name], seed), tmp_path / "images")
    with guard.reading(str(tmp_path / "images")):
        found = read()
        assert isinstance(found, ImageSet | dict)


@pytest.mark.parametrize("seed", [1, 2, 4, 5, 7, 8, 10, 11, 13, 14])
@pytest.mark.parametrize("name", [n for n in INTACT if n.rpartition(".")[2] in CHANGES])
def test_changed_headers(guard, tmp_path, name, seed):
    read = reader(name, hostile(INTACT[name], name, seed), tmp_path / "images")
    with guard.reading(str(tmp_path / "images")):
        assert isinstance(read(), ImageSet | dict)
    assert len(guard.refused or "") < 2000
