"""Images as users give them: arrays, lists or tensors, checked and brought into one form."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowpp.model import FlowPlusPlus
from flowpp.runtime.image_checks import (
    Shape,
    check_image_tensor,
    check_latent_tensor,
    check_same_device,
    shape_error,
)
from flowpp.runtime.image_tensors import image_tensor


def tensor_of(values: Any, what: str = "images") -> Tensor:
    """Return an array, nested lists or a tensor as a tensor, of any layout in memory.

    Args:
        values: numbers; arrays may have any byte order and strides.
        what: their name in messages.

    Raises:
        TypeError: values that are not numbers.
    """
    if isinstance(values, Tensor):
        return values
    try:
        array = np.asarray(values)
    except ValueError as error:  # lists of different lengths
        raise TypeError(
            f"{what} must be one array or tensor, got a {type(values).__name__} of parts of "
            "different shapes; of a batch with labels, use the first part"
        ) from error
    if array.dtype.kind not in "buif":
        kind = f"{type(values).__name__} of {array.dtype}s"
        raise TypeError(f"{what} must be an array, a tensor or lists of numbers, got {kind}")
    array = np.require(array, array.dtype.newbyteorder("="), ("C", "W"))  # torch writes to it
    if array.dtype.kind == "u" and array.itemsize > 2:  # torch has few operations for these
        array = array.astype(np.int64)
    return image_tensor(array)


def checked_images(images: Any, shape: Shape, model: FlowPlusPlus) -> Tensor:
    """Return images (N, C, H, W) as a tensor; N may be 0.

    That their values are integers 0 ... levels - 1 is checked by the dequantizer.

    Args:
        images: arrays, lists, or a tensor on the model's device.
        shape: (channels, height, width).
        model: the model for them.

    Raises:
        TypeError: values that are not numbers.
        ValueError: another shape or device; the message says what to do.
    """
    x = tensor_of(images)
    if x.ndim != 4 or tuple(x.shape[1:]) != shape:
        method = "permute" if isinstance(images, Tensor) else "transpose"
        raise shape_error(tuple(x.shape), shape, permute=method)
    check_image_tensor(x, model.levels, shape)
    if isinstance(images, Tensor):
        check_same_device(x, next(model.parameters()).device)
    return x


def checked_latents(z: Any, shape: Shape, dtype: torch.dtype) -> Tensor:
    """Return latents (N, *shape) as a tensor of `dtype`.

    Raises:
        TypeError: values that are not numbers.
        ValueError: another shape.
    """
    latents = tensor_of(z, "latents")
    if latents.is_complex():
        raise TypeError(f"latents must be real numbers, got {latents.dtype}")
    check_latent_tensor(latents, shape)
    return latents.to(dtype)
