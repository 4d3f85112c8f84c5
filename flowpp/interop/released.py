"""Variables of the released TensorFlow code as views of a model's parameters.

Each variable is a view of one parameter, transposed into the released layout: images and kernels
are channels-last, a pointwise matrix multiplies row vectors from the right, and the two halves of
a normalization are separate variables. Loading copies into the views, saving copies from them, and
views of the gradients are the released code's gradients.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowpp.bijectors import ActNorm, Bijector, Coupling, InvertibleConv
from flowpp.conditioner import Block, Conv2d, GatedConv, LayerNorm
from flowpp.data import npz
from flowpp.dequantization import VariationalDequantizer
from flowpp.elementwise import MixtureLogisticFamily
from flowpp.model import FlowPlusPlus

Select = Callable[[nn.Parameter], Tensor]
Named = Iterator[tuple[str, Tensor]]

SCOPE = re.compile(r"(Norm|Pointwise|\w*Coupling)(?:_(\d+))?$")


def released_views(
    model: FlowPlusPlus, select: Select = lambda p: p.detach()
) -> dict[str, Tensor]:
    """Return views of the model's parameters by the released code's variable names, in its order.

    Args:
        model: a model of a topology of the released code.
        select: function of a parameter that returns its values or, say, its gradient.

    Returns:
        Tensors in the released layout by name. Position embeddings that the released code creates
        but does not use, in couplings without attention, are zeros.

    Raises:
        ValueError: the model has a part that the released code does not have.
    """
    return dict(_Names(model, select).walk())


def read_variables(path: Path) -> dict[str, np.ndarray]:
    """Read the variables of an .npz; in a file of recorded vectors, those under `w/`.

    Raises:
        ValueError: the file is not a readable .npz.
    """
    try:
        entries = npz.names(path)
        names = [n for n in entries if n.startswith("w/")] or entries
        return {name.removeprefix("w/"): array for name, array in npz.read(path, names).items()}
    except ValueError as error:
        raise ValueError(f"not a readable .npz of variables: {error}") from error


def copy_released(model: FlowPlusPlus, variables: Mapping[str, np.ndarray]) -> None:
    """Copy the released variables into the model, each exactly once.

    Args:
        model: a model of the matching topology, any dtype.
        variables: arrays by name, in the released names and layouts. Only the order of the
            scopes' numbers matters: the first may be `Norm_4`.

    Raises:
        ValueError: variables are missing, surplus or misshapen; the model is then unchanged.
    """
    views = released_views(model)
    renamed = rename_scopes(variables, views)
    missing = sorted(set(views) - set(renamed))
    surplus = sorted(set(renamed) - set(views))
    misshapen = [
        f"{name}: must have shape {tuple(views[name].shape)}, got {np.shape(renamed[name])}"
        for name in views
        if name in renamed and tuple(views[name].shape) != np.shape(renamed[name])
    ]
    problems = {"missing": missing, "surplus": surplus, "misshapen": misshapen}
    if any(problems.values()):
        details = "; ".join(
            f"{kind} {_shorten(names)}" for kind, names in problems.items() if names
        )
        raise ValueError(
            f"the model needs {len(views)} variables of the released code, "
            f"got {len(renamed)}: {details}"
        )
    with torch.no_grad():
        for name, view in views.items():
            view.copy_(torch.from_numpy(np.array(renamed[name])))


def released_variables(model: FlowPlusPlus) -> dict[str, np.ndarray]:
    """Return the model's weights as the released code's variables; inverse of `copy_released`."""
    return {
        name: np.ascontiguousarray(view.cpu().numpy())
        for name, view in released_views(model).items()
    }


def rename_scopes(
    variables: Mapping[str, np.ndarray], targets: Iterable[str]
) -> dict[str, np.ndarray]:
    """Rename the i-th scope of each kind to the i-th scope of that kind in `targets`.

    Couplings of the dequantizer, which have a context, and of the main flow are different kinds.
    """
    mapping = dict(zip(_ordered_scopes(variables), _ordered_scopes(targets), strict=False))
    return {_with_scope(name, mapping): array for name, array in variables.items()}


def ordered_couplings(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the coupling scopes of the dequantizer and of the main flow, in order of use."""
    scopes: dict[str, bool] = {}
    for name in names:
        scope, _, rest = name.partition("/")
        match = SCOPE.fullmatch(scope)
        if match and match[1] not in ("Norm", "Pointwise"):
            scopes[scope] = scopes.get(scope, False) or "/a_proj/" in rest
    by_number = sorted(scopes, key=_number)
    return [s for s in by_number if scopes[s]], [s for s in by_number if not scopes[s]]


def _ordered_scopes(names: Iterable[str]) -> list[str]:
    names = list(names)
    heads = {name.partition("/")[0] for name in names}
    plain = [
        sorted((h for h in heads if (m := SCOPE.fullmatch(h)) and m[1] == kind), key=_number)
        for kind in ("Norm", "Pointwise")
    ]
    # Kinds are padded to equal lengths, so that a surplus in one does not shift the next.
    longest = len(heads)
    kinds = [*plain, *ordered_couplings(names)]
    return [s for kind in kinds for s in kind + [""] * (longest * 4 - len(kind))]


def _number(scope: str) -> int:
    match = SCOPE.fullmatch(scope)
    return int(match[2] or 0) if match else 0


def _with_scope(name: str, mapping: Mapping[str, str]) -> str:
    scope, slash, rest = name.partition("/")
    return (mapping.get(scope) or scope) + slash + rest


def _shorten(names: list[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


class _Names:
    """Traversal of a model that numbers the scopes as TensorFlow does, in order of first use."""

    def __init__(self, model: FlowPlusPlus, select: Select) -> None:
        if model.augmenter is not None:
            raise ValueError("the released code has no augmentation: model.augment must be 0")
        if model.context_encoder is not None:
            raise ValueError(
                "the released code has no contexts: the model must be unconditional, without "
                "data.labels and data.context"
            )
        self.model = model
        self.select = select
        self.counts: dict[str, int] = {}
        self.half: tuple[int, int, int] = (0, 0, 0)
        couplings = [m for m in model.flow.modules() if isinstance(m, Coupling)]
        if not couplings:
            raise ValueError("released_views needs a model with couplings, got a flow without")
        first: Any = couplings[0].conditioner
        self.imagenet = first.activate_last

    def walk(self) -> Named:
        dequantizer = self.model.dequantizer
        if isinstance(dequantizer, VariationalDequantizer):
            yield from self._context(dequantizer.context_network)
            yield from self._chain(dequantizer.flow)
        yield from self._chain(self.model.flow)

    def _scope(self, kind: str) -> str:
        count = self.counts.get(kind, 0)
        self.counts[kind] = count + 1
        return f"{kind}_{count}" if count else kind

    def _chain(self, chain: nn.Module) -> Named:
        for bijector in chain.modules():
            if isinstance(bijector, ActNorm):
                yield from self._norm(self._scope("Norm"), bijector)
            elif isinstance(bijector, InvertibleConv):
                yield from self._pointwise(self._scope("Pointwise"), bijector)
            elif isinstance(bijector, Coupling):
                yield from self._coupling(bijector)
            elif isinstance(bijector, Bijector) and list(bijector.parameters(recurse=False)):
                raise ValueError(f"the released code has no {type(bijector).__name__}")

    def _norm(self, scope: str, norm: ActNorm) -> Named:
        self.half = (norm.gain.shape[0] // 2, norm.gain.shape[1], norm.gain.shape[2])
        gains, biases = (self.select(p).chunk(2) for p in (norm.gain, norm.bias))
        for i in range(2):
            yield f"{scope}/norm{i}/g", gains[i].permute(1, 2, 0)
            yield f"{scope}/norm{i}/b", biases[i].permute(1, 2, 0)

    def _pointwise(self, scope: str, convolution: InvertibleConv) -> Named:
        if len(convolution.weight) != 2:
            raise ValueError(
                "the released code needs 2 groups in a 1x1 convolution, one per half, "
                f"got {len(convolution.weight)}"
            )
        for i, matrix in enumerate(self.select(convolution.weight)):
            yield f"{scope}/W{i}", matrix.T

    def _coupling(self, coupling: Coupling) -> Named:
        network: Any = coupling.conditioner
        mixture = isinstance(coupling.family, MixtureLogisticFamily)
        attention = all(block.attention is not None for block in network.blocks)
        kind = ("MixLogistic" if mixture else "Affine") + ("Attn" if attention else "")
        scope = self._scope(f"{kind}Coupling")
        first, last = ("c1", "c2") if self.imagenet else ("proj_in", "proj_out")
        if network.position is not None:
            yield f"{scope}/pos_emb", self.select(network.position).permute(1, 2, 0)
        elif self.imagenet:
            _, height, width = self.half
            filters = network.proj_in.weight.shape[0]
            yield f"{scope}/pos_emb", network.proj_in.weight.new_zeros(height, width, filters)
        yield from self._conv(f"{scope}/{first}", network.proj_in)
        for i, block in enumerate(network.blocks):
            yield from self._block(f"{scope}/block{i}", block)
        yield from self._conv(f"{scope}/{last}", network.proj_out)

    def _block(self, scope: str, block: Block) -> Named:
        yield from self._gated_conv(f"{scope}/conv", block.conv)
        if block.norm is not None:
            yield from self._layer_norm(f"{scope}/ln1", block.norm)
        if block.attention is not None:
            yield from self._attention(f"{scope}/attn", block.attention)
        if block.attention_norm is not None:
            yield from self._layer_norm(f"{scope}/ln2", block.attention_norm)

    def _context(self, network: Any) -> Named:
        scope = "context_proc"
        yield from self._conv(f"{scope}/proj", network.proj_in)
        if network.position is not None:
            yield f"{scope}/pos_emb_dq", self.select(network.position).permute(1, 2, 0)
        for i, block in enumerate(network.blocks):
            yield from self._gated_conv(f"{scope}/c{i}", block.conv)
            if block.norm is not None:
                yield from self._layer_norm(f"{scope}/dqln{i}", block.norm)
            if block.attention is not None:
                yield from self._attention(f"{scope}/dqattn{i}", block.attention)
            if block.attention_norm is not None:
                yield from self._layer_norm(f"{scope}/ln{i}", block.attention_norm)

    def _gated_conv(self, scope: str, conv: GatedConv) -> Named:
        yield from self._conv(f"{scope}/c1", conv.conv_in)
        if conv.conv_context is not None:
            yield from self._conv(f"{scope}/a_proj", conv.conv_context)
        yield from self._conv(f"{scope}/c2", conv.conv_out)

    def _attention(self, scope: str, layer: nn.Module) -> Named:
        yield from self._conv(f"{scope}/proj1", layer.proj_in)  # type: ignore[arg-type]
        yield from self._conv(f"{scope}/proj2", layer.proj_out)  # type: ignore[arg-type]

    def _layer_norm(self, scope: str, norm: LayerNorm) -> Named:
        shape = (-1,) if self.imagenet else (1, 1, 1, -1)
        yield f"{scope}/g", self.select(norm.gain).view(shape)
        yield f"{scope}/b", self.select(norm.bias).view(shape)

    def _conv(self, scope: str, conv: Conv2d) -> Named:
        weight = self.select(conv.weight)
        one_by_one = weight.shape[2:] == (1, 1)
        kernel = weight[:, :, 0, 0].T if one_by_one else weight.permute(2, 3, 1, 0)
        if conv.gain is None:
            yield f"{scope}/W", kernel
        else:
            yield f"{scope}/V", kernel
            yield f"{scope}/g", self.select(conv.gain)
        yield f"{scope}/b", self.select(conv.bias)
