"""Images as users give them: arrays, lists or tensors, checked and brought into one form."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowpp.bijectors.checks import may_read_values
from flowpp.model import FlowPlusPlus
from flowpp.runtime.image_tensors import image_tensor

Shape = tuple[int, int, int]


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
    array = np.asarray(values)
    if array.dtype.kind not in "buif":
        raise TypeError(f"{what} must be numbers, got an array of {array.dtype}")
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
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
        ValueError: another shape or device, or values between 0 and 1; the message says what to
            do.
    """
    x = tensor_of(images)
    if x.ndim != 4 or tuple(x.shape[1:]) != shape:
        raise ValueError(
            f"images must have shape (N, {', '.join(map(str, shape))}), got {tuple(x.shape)}"
            + _shape_hint(x, shape, is_tensor=isinstance(images, Tensor))
        )
    if isinstance(images, Tensor):
        check_same_device(x, next(model.parameters()).device)
    if x.is_floating_point() and may_read_values(x, model) and x.numel() and _is_scaled(x):
        top = model.levels - 1
        raise ValueError(
            f"images must be integers 0 ... {top}, got numbers between 0 and 1: multiply by {top} "
            "(levels - 1) and round"
        )
    return x


def check_same_device(x: Tensor, device: torch.device, what: str = "images") -> None:
    """Require a user's tensor on the model's device.

    Raises:
        ValueError: another device.
    """
    if x.device.type != device.type or (x.device.index or 0) != (device.index or 0):
        raise ValueError(
            f"{what} must be on the model's device {device}, got {x.device}: "
            f"use {what}.to({str(device)!r}), or move the model"
        )


def checked_latents(z: Any, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return latents (N, *shape) as a tensor of `dtype`.

    Raises:
        TypeError: values that are not numbers.
        ValueError: another shape.
    """
    latents = tensor_of(z, "latents")
    if tuple(latents.shape[1:]) != shape or latents.ndim != 1 + len(shape):
        one = "; for a single one use z[None]" if tuple(latents.shape) == shape else ""
        raise ValueError(
            f"latents must have shape (N, {', '.join(map(str, shape))}), "
            f"got {tuple(latents.shape)}{one}"
        )
    return latents.to(dtype)


def _shape_hint(x: Tensor, shape: Shape, *, is_tensor: bool) -> str:
    channels, height, width = shape
    given = tuple(x.shape)
    if given == shape:
        return ": for a single image use images[None]"
    if channels == 1 and (given == (height, width) or given[1:] == (height, width)):
        index = "[:, None]" if len(given) == 3 else "[None, None]"
        return f": add the axis of channels by images{index}"
    if given[-3:] == (height, width, channels):
        order = (0, 3, 1, 2) if len(given) == 4 else (2, 0, 1)
        name = "permute" if is_tensor else "transpose"
        single = "" if len(given) == 4 else "[None]"
        return f": channels come first, use images.{name}{order}{single}"
    return ""


def _is_scaled(x: Tensor) -> bool:
    """Return whether values lie in [0, 1], and some strictly between."""
    return bool((x >= 0).all() and (x <= 1).all() and ((x > 0) & (x < 1)).any())
