"""environment.json: versions, device, precision switches, threads and data behind a result."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from flowpp.config.build import float32_meaning
from flowpp.config.data_sets import DATA_SETS
from flowpp.config.settings import Precision
from flowpp.data import ImageSet
from flowpp.kernels.in_use import kernels_in_use
from flowpp.runs.run import Run
from flowpp.runtime.machine import processor_name
from flowpp.runtime.precision import float32_precision, precision_name, tf32_switches

PACKAGES = ("flowpp", "torch", "numpy", "scipy", "scikit-learn", "safetensors")


def describe(
    device: torch.device, seed: int, images: ImageSet, precision: Precision = "float32"
) -> dict[str, Any]:
    """Return the contents of environment.json.

    To repeat a run: install these versions on the same processor or GPU, use the same number of
    threads and processes and the data with this hash, and give `python -m flowpp.train` the
    recorded arguments. Results are bit-identical on the CPU, and on a GPU with
    `training.deterministic`.
    """
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": processor_name(),
        "versions": {name: _version(name) for name in PACKAGES},
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if device.type == "cuda" else None,
        "precision": precision_name(precision, torch.float32, device),
        **_float32(device, precision),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        **kernels_in_use(device),
        "deterministic": {
            "algorithms": torch.are_deterministic_algorithms_enabled(),
            "cudnn": torch.backends.cudnn.deterministic,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        },
        "threads": torch.get_num_threads(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "arguments": sys.argv[1:],
        "seed": seed,
        "data": {
            "name": images.name,
            "sha256": images.sha256,
            "train": len(images.train),
            "held_out": len(images.test),
            "valid": 0 if images.valid is None else len(images.valid),
            "origins": dict(images.origins),
            "skipped": list(images.skipped),
            "notes": list(images.notes),
        },
    }


def check_images(
    run: Path, images: ImageSet, image_shape: tuple[int, int, int], levels: int
) -> None:
    """Require the images that the run was trained on and held out.

    A recorded hash of null, as in runs of converted weights, accepts all images of this shape.

    Raises:
        ValueError: environment.json is damaged, or hash, shape or levels differ.
    """
    check_recorded_images(run, _recorded_hash(run), images, image_shape, levels)


def check_images_of(
    source: Path,
    facts: Mapping[str, Any],
    images: ImageSet,
    image_shape: tuple[int, int, int],
    levels: int,
) -> bool:
    """Require the images that a run directory or a checkpoint file was trained on and held out.

    Args:
        source: run directory or checkpoint file.
        facts: those of the checkpoint, where a file has the hash of its data.
        images: images to check.
        image_shape: (channels, height, width) of the model.
        levels: number of values of a channel of the model.

    Returns:
        False for a file that does not record its data.

    Raises:
        ValueError: as `check_images`.
    """
    if source.is_dir():
        check_images(source, images, image_shape, levels)
        return True
    recorded = facts.get("data_sha256")
    check_recorded_images(source, recorded, images, image_shape, levels)
    return recorded is not None


def _recorded_hash(run: Path) -> object:
    file = run / "environment.json"
    try:
        return Run(run).facts("environment.json")["data"]["sha256"]
    except FileNotFoundError as error:
        raise ValueError(f"{file}, which names the run's data, is missing") from error
    except KeyError as error:
        raise ValueError(
            f"{file} does not record the hash of the run's data: it has no {error}; to evaluate "
            "on these images nevertheless, add --other-data"
        ) from error
    except TypeError as error:
        raise ValueError(f"{file} is damaged: {error}") from error


def check_recorded_images(
    source: Path,
    recorded: object,
    images: ImageSet,
    image_shape: tuple[int, int, int],
    levels: int,
) -> None:
    """Require images with a recorded hash, if there is one, and of the model's shape and levels.

    Raises:
        ValueError: hash, shape or levels differ; the message names `source`.
    """
    if recorded is not None and not images.has_hash(recorded):
        raise ValueError(
            f"{source} was trained on data with hash {str(recorded)[:12]}..., got {images.name} "
            f"with hash {images.sha256[:12]}...{read_differently(images)}"
        )
    if (images.shape, images.levels) != (image_shape, levels):
        raise ValueError(
            f"{source} was trained on images of shape {image_shape} and {levels} levels, got "
            f"{images.name} with shape {images.shape} and {images.levels} levels"
        )


def read_differently(images: ImageSet) -> str:
    """Return a hint if unchanged files may give other images than in earlier versions.

    For images with contexts, which version 0.1.0 did not have, that these count too.
    """
    if images.context is not None:
        what = "labels" if images.context.kind == "labels" else "contexts"
        return f"; the hash is of the images and of their {what}, with the names"
    if not images.origins or images.name.split(",")[0] in DATA_SETS:
        return ""
    return (
        "; if the files are the same, they are read differently since 0.1.0: upright by their "
        "EXIF orientation, without hidden files, with more kinds of files, and split by more "
        "names of folders. --resume RUN --data.split tenth splits as before where folders were "
        "not found"
    )


def _float32(device: torch.device, precision: Precision) -> dict[str, Any]:
    """Return torch's switches as they are in this precision."""
    with float32_precision(float32_meaning(precision)):
        return {
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "tf32": tf32_switches() if device.type == "cuda" else "not applicable",
        }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # not installed, such as a source tree on PYTHONPATH
        return None
