"""Flow++ as transforms and distributions of `torch.distributions`.

Pyro and zuko build on the same classes, so these work there as well:

    BijectorTransform        a bijector as a `Transform` of images
    ConditionalBijector      a bijector conditioned on a context (a lazy transform in zuko, a
                             conditional transform in Pyro)
    ConditionalFlowPlusPlus  a conditional model: its distribution given a context, likewise
    FlowPlusPlusDistribution a model as a `Distribution` of integer images
"""

from .conditional import ConditionalBijector, ConditionalFlowPlusPlus
from .distribution import FlowPlusPlusDistribution
from .transform import BijectorTransform

__all__ = [
    "BijectorTransform",
    "ConditionalBijector",
    "ConditionalFlowPlusPlus",
    "FlowPlusPlusDistribution",
]
