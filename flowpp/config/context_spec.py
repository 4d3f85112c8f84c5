"""Context of a conditional model: its kind and shape, and the settings of its encoder."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from flowpp.config.checks import at_least, one_of

ContextKind = Literal["labels", "vectors", "images"]
AXES = {"labels": 0, "vectors": 1, "images": 3}
"""Number of axes of one image's context."""
NO_LABEL = "none"
"""Name of the label of images without one."""


@dataclass(frozen=True)
class ConditionConfig:
    """The encoder of a conditional model's context; unused by unconditional models."""

    filters: int = 32
    """Features of each pixel that the encoder makes of the context."""
    blocks: int = 2
    """Gated convolution blocks of the encoder of image contexts."""

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ValueError: A number outside its range.
        """
        at_least("filters", self.filters, 1)
        at_least("blocks", self.blocks, 0)


@dataclass(frozen=True)
class ContextSpec:
    """Kind, shape and names of the contexts that a model is conditioned on, one for each image.

    - labels: integers, the index of a class in `names`, or `none_label`.
    - vectors: of shape (D,); `names` are those of their columns, or empty.
    - images: of shape (K, h, w), with the image's levels; h and w divide the image's height and
      width, by the same factor. With the source mask, K is the image's channels and a last one
      for the mask, levels - 1 where a pixel is visible and 0 where it is hidden.

    Args:
        kind: labels, vectors or images.
        source: Origin of the contexts: folder or csv; of images grey, low-resolution, mask or
            folder.
        names: Names of the classes in the order of their labels, or of a vector's columns.
        shape: Shape of one image's context.

    Raises:
        TypeError: A name that is no text, a shape that is not of integers.
        ValueError: An unknown kind, a shape of another kind, or names that are missing, repeated
            or reserved.
    """

    kind: ContextKind
    source: str
    names: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check the kind, the shape and the names, and make tuples of sequences."""
        one_of("context.kind", self.kind, ContextKind)
        if not isinstance(self.source, str):
            raise TypeError(f"context.source must be a text, got {self.source!r}")
        object.__setattr__(self, "names", _tuple_of(str, "names", self.names))
        object.__setattr__(self, "shape", _tuple_of(int, "shape", self.shape))
        if len(self.shape) != AXES[self.kind] or min(self.shape, default=1) < 1:
            raise ValueError(
                f"context.shape of {self.kind} must have {AXES[self.kind]} numbers of at least 1, "
                f"got {self.shape}"
            )
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"context.names must differ, got {self.names}")
        if self.kind == "labels" and (not self.names or NO_LABEL in self.names):
            raise ValueError(
                f"context.names must name each class, none of them {NO_LABEL!r}, got {self.names}"
            )
        if self.kind == "vectors" and len(self.names) not in (0, *self.shape):
            raise ValueError(
                f"context.names must name each of the {self.shape[0]} columns, got {self.names}"
            )

    @property
    def none_label(self) -> int:
        """Label of images without one.

        Raises:
            ValueError: Contexts that are not labels.
        """
        if self.kind != "labels":
            raise ValueError(f"only labels have one for none, got a context of {self.kind}")
        return len(self.names)

    @property
    def description(self) -> str:
        """Text about one image's context, such as "a label 0 ... 9, or 10 for none"."""
        if self.kind == "labels":
            return f"a label 0 ... {self.none_label - 1}, or {self.none_label} for none"
        if self.kind == "vectors":
            return f"a vector of {self.shape[0]} numbers"
        return f"an image of shape {self.shape} ({self.source})"

    def means(self, other: ContextSpec | None) -> bool:
        """Return whether contexts of both mean the same: labels may come from another source."""
        if other is None or self.kind != other.kind:
            return False
        if self.kind != "images":
            other = dataclasses.replace(other, source=self.source)
        return self == other

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        values = dataclasses.asdict(self)
        return {**values, "names": list(self.names), "shape": list(self.shape)}

    @classmethod
    def from_dict(cls, values: Any) -> ContextSpec:
        """Build it from the result of `to_dict`, as read from JSON.

        Raises:
            TypeError, ValueError: Other fields, or as the class.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if (
            not isinstance(values, dict)
            or set(values) - known
            or not {"kind", "source"} <= {*values}
        ):
            raise ValueError(f"context must be a dictionary of {sorted(known)}, got {values!r}")
        return cls(**values)


def _tuple_of(kind: type, name: str, values: Any) -> tuple[Any, ...]:
    if not isinstance(values, list | tuple) or not all(type(value) is kind for value in values):
        raise TypeError(f"context.{name} must be a tuple of {kind.__name__}, got {values!r}")
    return tuple(values)
