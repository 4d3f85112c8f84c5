"""Topology of a model, inferred from a file's metadata and its variables' names and shapes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

Shape = tuple[int, int, int]
Variables = dict[str, np.ndarray]

COUPLING = re.compile(r"(\w*Coupling)(?:_(\d+))?$")


@dataclass(frozen=True)
class Topology:
    """Settings of a model, as nested values of flowpp's ModelConfig.

    Args:
        image_shape: (channels, height, width).
        levels: Number of values of a channel.
        settings: Nested settings.
        imagenet: Whether of the ImageNet and CelebA family, whose inverse clips the CDF.
    """

    image_shape: Shape
    levels: int
    settings: dict[str, Any]
    imagenet: bool


def infer_topology(
    meta: dict[str, Any], variables: Variables, image_shape: Shape, levels: int
) -> Topology:
    """Infer the topology from the variables.

    Args:
        meta: Metadata of the file; `scopes` marks the ends of groups of couplings.
        variables: Arrays by released name.
        image_shape: (channels, height, width).
        levels: Number of values of a channel.

    Raises:
        ValueError: A missing main coupling or kernel, or a coupling that does not split the image.
    """
    scopes = sorted({name.partition("/")[0] for name in variables}, key=_number)
    couplings = [scope for scope in scopes if COUPLING.fullmatch(scope)]
    inside = {
        c: {n[len(c) + 1 :]: a for n, a in variables.items() if n.startswith(c + "/")}
        for c in couplings
    }
    conditional = [c for c in couplings if any("/a_proj/" in n for n in inside[c])]
    main = [c for c in couplings if c not in conditional]
    if not main:
        raise ValueError("the variables must contain a coupling of the main flow, got none")
    imagenet = not any(name.startswith("proj_in/") for name in inside[main[0]])
    settings: dict[str, Any] = {
        "flow": _flow(meta, variables, main, inside, image_shape),
        "dequantization": "variational" if conditional else "uniform",
    }
    if conditional:
        settings["dequantizer"] = _flow(meta, variables, conditional, inside, image_shape)
        settings["context"] = _context(variables, _attention(meta))
    return Topology(image_shape, levels, settings, imagenet)


def _flow(
    meta: dict[str, Any],
    variables: Variables,
    couplings: list[str],
    inside: dict[str, Variables],
    image_shape: Shape,
) -> dict[str, Any]:
    first = inside[couplings[0]]
    kernel = _kernel(first, "proj_in", "c1")
    channels, filters = kernel.shape[2:]
    per_scalar = _kernel(first, "proj_out", "c2").shape[3] // channels
    return {
        "layout": _layout(meta, couplings, [_half(inside[c]) for c in couplings], image_shape),
        "coupling": "affine" if per_scalar == 2 else "mixture",
        "components": max((per_scalar - 2) // 3, 1),
        "filters": filters,
        "blocks": len({n.partition("/")[0] for n in first if n.startswith("block")}),
        "heads": int(meta.get("case", {}).get("kw", {}).get("attn_heads", 4)),
        "attention": _attention(meta) if any("/attn/" in n for n in first) else "none",
        "dropout": 0.0,
        "log_scale_floor": -7.0,
        "weight_norm": any(n.endswith("/V") for n in first),
        "activate_last": any(n.startswith("c1/") for n in first),
        "convolution": "halves" if "Pointwise/W0" in variables else "none",
        "act_norm": "activation",
    }


def _context(variables: Variables, attention: str) -> dict[str, Any]:
    inside = {
        n.partition("/")[2]: a for n, a in variables.items() if n.startswith("context_proc/")
    }
    return {
        "filters": _kernel(inside, "proj").shape[3],
        "blocks": len({n.partition("/")[0] for n in inside if re.match(r"c\d+/", n)}),
        "layer_norm": "dqln0/g" in inside,
        "attention": attention if any(n.startswith("dqattn0/") for n in inside) else "none",
    }


def _attention(meta: dict[str, Any]) -> str:
    """Return the kind of attention; only the case's description shows its ablation."""
    return "maxout" if "noattn" in json.dumps(meta.get("case", {})).lower() else "attention"


def _kernel(inside: Variables, *layers: str) -> np.ndarray:
    for layer in layers:
        for kind in ("W", "V"):
            if f"{layer}/{kind}" in inside:
                return inside[f"{layer}/{kind}"]
    raise ValueError(f"the variables must contain a kernel of {' or '.join(layers)}, got none")


def _half(inside: Variables) -> Shape:
    height, width, _ = inside["pos_emb"].shape
    return _kernel(inside, "proj_in", "c1").shape[2], height, width


def _layout(
    meta: dict[str, Any], couplings: list[str], halves: list[Shape], image_shape: Shape
) -> str:
    """Return the layout of a chain whose couplings have halves of these shapes."""
    words: list[str] = []
    shape = image_shape
    previous = None
    for coupling, half in zip(couplings, halves, strict=True):
        while (word := _split(shape, half)) is None:
            channels, height, width = shape
            if height < 2 or width < 2:
                raise ValueError(
                    f"{coupling} must split {image_shape} or a squeeze of it, got half {half}"
                )
            shape = (4 * channels, height // 2, width // 2)
            words.append("squeeze")
            previous = None
        if previous is None or word != previous[0] or _starts_group(meta, previous[1], coupling):
            words.append(f"{word} 1")
        else:
            count = int(words[-1].split()[1])
            words[-1] = f"{word} {count + 1}"
        previous = (word, coupling)
    return ", ".join(words)


def _split(shape: Shape, half: Shape) -> str | None:
    channels, height, width = shape
    if half == (channels, height, width // 2) and width % 2 == 0:
        return "columns"
    if half == (channels // 2, height, width) and channels % 2 == 0:
        return "channels"
    return None


def _starts_group(meta: dict[str, Any], before: str, after: str) -> bool:
    """Return whether the halves are merged and split again between two couplings.

    Elements of a chain are numbered. Within a group, a coupling is followed by a flip and the next
    step's first element; a gap of two more numbers is a merge and a split.
    """
    places = {scope: _place(key) for key, scope in meta.get("scopes", {}).items()}
    if before not in places or after not in places:
        return False
    between = [
        p
        for p in places.values()
        if p[0] == places[after][0] and places[before][1] < p[1] <= places[after][1]
    ]
    return min(p[1] for p in between) - places[before][1] > 2


def _place(key: str) -> tuple[str, int]:
    chain, _, element = key.partition("/")
    return chain, int(element.partition("_")[0])


def _number(scope: str) -> int:
    match = re.search(r"_(\d+)$", scope)
    return int(match[1]) if match else 0
