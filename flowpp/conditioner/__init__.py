"""Conditioners: the networks of couplings, of gated convolutions and gated self-attention.

All layers map `(batch, channels, height, width)` tensors. Each class takes its tensors and
sub-layers as arguments, as its twin in the reference does; `create` makes one with random weights.

Source: Flow++ section 3.2.3 and figure 2; details after the authors' released code.
"""

from .block import Block
from .conditioner import POSITION_DEVIATION, Conditioner
from .conv2d import BEFORE_GATE, Conv2d
from .gated_attention import GatedAttention
from .gated_conv import GatedConv
from .gated_maxout import GatedMaxout
from .layer_norm import LayerNorm
from .matrices import kernel_matrices, make_orthogonal

__all__ = [
    "BEFORE_GATE",
    "POSITION_DEVIATION",
    "Block",
    "Conditioner",
    "Conv2d",
    "GatedAttention",
    "GatedConv",
    "GatedMaxout",
    "LayerNorm",
    "kernel_matrices",
    "make_orthogonal",
]
