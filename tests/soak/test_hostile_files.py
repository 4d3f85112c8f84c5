"""Five hundred hostile files: an error that names the file, or a valid result, in seconds."""

from __future__ import annotations

import resource
import time

import pytest

from flowpp.data import ImageSet, cifar10, imagenet
from hostile import hostile
from image_files import COUNT, INTACT, reader

pytestmark = pytest.mark.soak
SECONDS, MEGABYTES = 10, 700
SEEDS = range(-(-500 // len(INTACT)))


@pytest.mark.parametrize("name", INTACT)
def test_variants_of(name, tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr(cifar10, "IMAGES_PER_FILE", COUNT)
    monkeypatch.setattr(imagenet, "NPZ_BATCHES", 1)
    for seed in SEEDS:
        folder = tmp_path / str(seed)
        read = reader(name, hostile(INTACT[name], name, seed), folder)
        start, before = time.process_time(), peak()
        try:
            assert isinstance(read(), ImageSet | dict)
        except (ValueError, TypeError, OSError) as error:
            assert str(folder) in str(error) and len(str(error)) < 2000, (seed, error)
        assert time.process_time() - start < SECONDS and peak() - before < MEGABYTES, seed
        assert {path.name for path in folder.rglob("*.part")} == set()


def peak() -> float:
    """Return peak memory in megabytes, on Linux."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
