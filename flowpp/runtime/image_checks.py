"""Checks of a user's images; errors name the argument that does not fit, and what to do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Shape = tuple[int, int, int]
"""(channels, height, width) of one image."""

UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)
"""Types for which torch has no comparisons on a CPU."""


def check_image_tensor(x: Any, levels: int, shape: Shape | None = None) -> None:
    """Require a tensor of numbers, (N, C, H, W).

    Args:
        x: the images.
        shape: (channels, height, width) that they must have; None for any.
        levels: number of values of a channel.

    Raises:
        TypeError: not a tensor, or not of numbers; booleans, unless there are 2 levels.
        ValueError: another shape; the message says what to do.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"images must be a torch.Tensor, got {_kind(x)}")
    if x.is_nested or x.layout != torch.strided or x.is_quantized:
        kind = "nested" if x.is_nested else "quantized" if x.is_quantized else x.layout
        raise TypeError(f"images must be a dense tensor of numbers, got {kind}")
    if x.is_complex():
        raise TypeError(f"images must be real numbers, got {x.dtype}")
    if x.dtype == torch.bool and levels > 2:
        raise TypeError(
            f"images must be integers 0 ... {levels - 1}, got {x.dtype}: multiply by {levels - 1} "
            "(levels - 1)"
        )
    if x.ndim != 4 or not (shape is None or tuple(x.shape[1:]) == shape):
        raise shape_error(tuple(x.shape), shape)


def check_noise_tensor(noise: Any, x: Tensor, extra: int = 0) -> None:
    """Require noise of `draw_noise` for images x; its values are not checked.

    Args:
        noise: the noise.
        x: the images.
        extra: number of channels of an augmentation, whose noise follows that of the images.

    Raises:
        TypeError: not a tensor, or not of float32 or float64.
        ValueError: another shape.
    """
    if not isinstance(noise, Tensor):
        raise TypeError(
            "noise must be a torch.Tensor, from model.draw_noise(images.shape), got "
            f"{type(noise).__name__}"
        )
    if noise.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"noise must be floating-point, float32 or float64, got {noise.dtype}: it has the "
            "precision of the computation"
        )
    needed = tuple(x.shape) if extra == 0 else (x.shape[0], x.shape[1] + extra, *x.shape[2:])
    if noise.shape != needed:
        shape = f"the images' shape {needed}"
        if extra:
            shape = f"shape {needed}, that of the images and {extra} channels of the augmentation"
        raise ValueError(f"noise must have {shape}, got {tuple(noise.shape)}")


def looks_uniform(noise: Tensor) -> bool:
    """Return whether different numbers all lie in (0, 1).

    Of 32 standard normal ones they all do with a probability below 1e-14.
    """
    if noise.numel() < 32:
        return False
    low, high = torch.aminmax(noise.detach())
    return bool((low > 0) & (high < 1) & (low < high))


def shape_error(
    given: tuple[int, ...], shape: Shape | None, *, permute: str = "permute"
) -> ValueError:
    """Return the error for images of another shape.

    Args:
        given: the shape of the images.
        shape: (channels, height, width) that they must have; None for any.
        permute: the method that moves axes: `permute` of tensors, `transpose` of arrays.
    """
    needed = "batch, channels, height, width" if shape is None else f"N, {_listed(shape)}"
    hint = _shape_hint(given, shape, permute)
    return ValueError(f"images must have shape ({needed}), got {given}{hint}")


def comparable(x: Tensor) -> Tensor:
    """Return the images in a type that torch can compare; that of others is kept."""
    return x.to(torch.int64) if x.dtype in UNSIGNED else x


def values_error(x: Tensor, valid: Tensor, levels: int, what: str = "images") -> ValueError:
    """Return the error for values that are not integers 0 ... levels - 1.

    Args:
        x: the images.
        valid: which of their values are valid, booleans of their shape.
        levels: number of values of a channel.
        what: their name in the message.
    """
    x = comparable(x)
    got, hint = _values_hint(x.detach(), x[~valid][0].item(), levels)
    needed = f"{what} must be integers 0 ... {levels - 1}"
    return ValueError(f"{needed}, got {got}{': ' * bool(hint)}{hint}")


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


def check_same_dtype(values: Tensor, dtype: torch.dtype, what: str) -> None:
    """Require a user's tensor of the weights' dtype.

    Raises:
        TypeError: another dtype.
    """
    if values.dtype != dtype:
        raise TypeError(
            f"{what} must be of the weights' {dtype}, got {values.dtype}: "
            f"use {what}.to({dtype}), or convert the model"
        )


def check_latent_tensor(z: Any, shape: Shape | None) -> None:
    """Require a tensor of latents, (N, *shape); None for any shape.

    Raises:
        TypeError: not a tensor.
        ValueError: another shape.
    """
    if not isinstance(z, Tensor):
        raise TypeError(f"latents must be a torch.Tensor, got {_kind(z, 'latents')}")
    if shape is not None and tuple(z.shape[1:]) != shape:
        one = ": for a single one use latents[None]" if tuple(z.shape) == shape else ""
        raise ValueError(
            f"latents must have shape (N, {_listed(shape)}), got {tuple(z.shape)}{one}"
        )


def _kind(x: Any, what: str = "images") -> str:
    """Describe what was given instead of a tensor, and what to do."""
    kind = f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")
    if kind == "numpy.ndarray":
        return f"{kind}: use torch.from_numpy({what})"
    if isinstance(x, tuple | list) and x and isinstance(x[0], Tensor):
        return f"{kind} of tensors: use the images alone, as in `images, labels = batch`"
    if isinstance(x, tuple | list | int | float):
        return f"{kind}: use torch.as_tensor({what})"
    if "PIL" in kind:
        return f"{kind}: use torch.from_numpy(numpy.array(image)), with the channels first"
    return kind


def _shape_hint(given: tuple[int, ...], shape: Shape | None, permute: str) -> str:
    """Return what to do about a shape, or nothing if that is not known."""
    if shape is None:
        return ": for a single image use images[None]" if len(given) == 3 else ""
    channels, height, width = shape
    if given == shape:
        return ": for a single image use images[None]"
    if channels == 1 and (given == (height, width) or given[1:] == (height, width)):
        index = "[:, None]" if len(given) == 3 else "[None, None]"
        return f": add the axis of channels by images{index}"
    if len(given) in (3, 4) and given[-3:] == (height, width, channels):
        order = (0, 3, 1, 2) if len(given) == 4 else (2, 0, 1)
        single = "" if len(given) == 4 else "[None]"
        return f": channels come first, use images.{permute}{order}{single}"
    if len(given) != 4:
        return ""
    if given[2:] == (height, width):
        return _channels_hint(given[1], channels)
    if given[1] == channels:
        return (
            ": resize them, or build a model for this size, as in "
            f"flowpp.build_model(config, {given[1:]}, levels)"
        )
    return ""


def _channels_hint(given: int, channels: int) -> str:
    """Return what to do about images of the right size with other channels."""
    if (given, channels) == (4, 3):
        return ": drop the alpha channel by images[:, :3]"
    if (given, channels) == (1, 3):
        return ": grey images become colour by images.expand(-1, 3, -1, -1)"
    if (given, channels) == (3, 1):
        return ": convert them to grey, or build a model of 3 channels"
    return ""


def _values_hint(x: Tensor, first: float, levels: int) -> tuple[str, str]:
    """Return what came, and what to do about it, or nothing if that is not known."""
    top, low, high = levels - 1, x.min().item(), x.max().item()
    if not x.isfinite().all():
        return str(first), ""
    if not x.is_floating_point() or bool((x == x.round()).all()):
        return str(first), _integers_hint(x, low, high, levels)
    if low >= 0 and high <= 1:
        return "numbers between 0 and 1", f"multiply by {top} (levels - 1) and round"
    if low >= -1 and high <= 1:
        scaled = f"((images + 1) * {top / 2:g}).round()"
        return "numbers between -1 and 1", f"use {scaled}"
    if low < 0 and max(-low, high) < 10:
        return f"{first}, between {low:.3g} and {high:.3g}", (
            f"undo the normalization, multiply by {top} (levels - 1) and round"
        )
    if low >= 0 and high <= top:
        return str(first), "round them; noise for the dequantization is an argument of its own"
    return str(first), ""


def _integers_hint(x: Tensor, low: float, high: float, levels: int) -> str:
    if low < 0:
        narrow = {torch.int8: "torch.uint8", torch.int16: "torch.int32"}
        return f"larger values need {narrow[x.dtype]}" if x.dtype in narrow else ""
    for bits in (8, 16):
        if high < 1 << bits and levels < 1 << bits:
            model = f"build the model with levels={1 << bits}"
            if levels & (levels - 1):
                return model
            step = (1 << bits) // levels
            return f"{bits}-bit images become {levels} levels by images // {step}, or {model}"
    return ""


def _listed(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
