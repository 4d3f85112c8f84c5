"""Flow++ among other libraries: as transforms and distributions of `torch.distributions`.

Pyro and zuko build on torch's own classes, so these serve there as well:

    BijectorTransform        a bijector as a `Transform` of images
    ConditionalBijector      one that waits for its context (zuko's lazy transforms, Pyro's
                             conditional ones)
    FlowPlusPlusDistribution a whole model as a `Distribution` of integer images
"""

from .conditional import ConditionalBijector
from .distribution import FlowPlusPlusDistribution
from .transform import BijectorTransform

__all__ = ["BijectorTransform", "ConditionalBijector", "FlowPlusPlusDistribution"]
