"""Conditioners: the networks of couplings, of gated convolutions and gated self-attention.

All layers map (batch, channels, height, width) arrays. Every layer has `initialize`, its
data-dependent initialization, which returns the fitted layer and that layer's output on the batch.
Dropout is applied only where a generator is given as `rng`, and never during initialization.

Source: Flow++ section 3.2.3 and figure 2; details after the authors' released code.
"""

from reference.conditioner.activation import concat_elu, gate
from reference.conditioner.block import Block
from reference.conditioner.conditioner import Conditioner
from reference.conditioner.conv2d import Conv2d
from reference.conditioner.gated_attention import GatedAttention
from reference.conditioner.gated_conv import GatedConv
from reference.conditioner.gated_maxout import GatedMaxout
from reference.conditioner.layer_norm import LayerNorm

__all__ = [
    "Block",
    "Conditioner",
    "Conv2d",
    "GatedAttention",
    "GatedConv",
    "GatedMaxout",
    "LayerNorm",
    "concat_elu",
    "gate",
]
