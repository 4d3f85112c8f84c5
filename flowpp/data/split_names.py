"""Names of folders that say which images are for training, validation or test."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Role = Literal["train", "valid", "test"]
MAX_DEPTH = 3
"""Depth of folders whose names are compared; 1 is just below the data set's folder."""
_NOUNS = r"(?:set|data|dataset|images?|imgs?|photos?|pictures?|pics?|files?|split)?"
_WORDS: dict[Role, re.Pattern[str]] = {
    "train": re.compile(rf"(?:train|training|trn){_NOUNS}"),
    "valid": re.compile(rf"(?:val|valid|validate|validation|dev|devel|development){_NOUNS}"),
    "test": re.compile(rf"(?:test|tests|testing|tst|eval|evaluation|holdout|heldout){_NOUNS}"),
}
_NEUTRAL = re.compile(rf"(?:{_NOUNS[:-1]}|x)")
"""Words that distinguish no two folders; x is also that of a size, 32x32."""


class SplitName(NamedTuple):
    """Meaning of a folder's name.

    `rest` holds its other words: ("div", "k", "hr") for `DIV2K_train_HR`. Numbers, such as years,
    and words such as `images` do not count.
    """

    role: Role
    rest: tuple[str, ...]


def role_of(name: str) -> SplitName | None:
    """Return the role that a name contains, whatever its case; None if none or two."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    spaced = re.sub(r"(?i)\b(held|hold)[\s_-]*out", r"\1out", spaced.replace("_", " "))
    words = re.findall(r"[a-z]+", spaced.lower())
    roles = [(role, word) for word in words for role in _WORDS if _WORDS[role].fullmatch(word)]
    if len(roles) != 1:
        return None
    role, used = roles[0]
    rest = tuple(word for word in words if word != used and not _NEUTRAL.fullmatch(word))
    return SplitName(role, rest)
