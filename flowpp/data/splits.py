"""Which images are for training, validation and test, by the folders they lie in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from flowpp.data.formats import count_of
from flowpp.data.image_set import LABELS
from flowpp.data.split_names import MAX_DEPTH, Role, role_of

EVERY = {"tenth": 10, "fifth": 5}
"""By `data.split`: the n-th of every n images is held out."""
ANEW = "data.split 'tenth' holds out every tenth of all images instead"

Paths = tuple[PurePosixPath, ...]
Folders = dict[Role, Paths]


@dataclass(frozen=True)
class Split:
    """Images by purpose, and the lines that say so.

    Args:
        parts: Relative paths of the images; `train` and `test` always, `valid` where training,
            validation and test images are given.
        origins: Description of where each part comes from.
        unused: Number of images in none of the parts.
    """

    parts: dict[Role, Paths]
    origins: dict[Role, str]
    unused: int = 0


def split(where: str, images: Sequence[PurePosixPath], rule: str) -> Split:
    """Divide images by folders such as `train` and `test`, or hold out every tenth.

    Folders may lie up to three levels down and have further folders in them. With folders for
    training and for either validation or test, the latter is the test set.

    Args:
        where: Name of the folder or archive, for messages.
        images: Relative paths in order.
        rule: `data.split`.

    Raises:
        ValueError: Images to train on without images to hold out or the reverse, or several
            folders for one purpose.
    """
    folders = split_folders(where, images) if rule == "auto" else None
    if folders is None:
        return _every(where, images, EVERY.get(rule, EVERY["tenth"]))
    parts = {role: _inside(images, folders[role]) for role in folders}
    origins = {role: _described(where, folders[role]) for role in folders}
    if "test" not in parts:
        parts["test"], origins["test"] = parts.pop("valid"), origins.pop("valid")
    return Split(parts, origins, len(images) - sum(map(len, parts.values())))


def _every(where: str, images: Sequence[PurePosixPath], n: int) -> Split:
    held_out = tuple(images[n - 1 :: n]) or tuple(images[-1:])
    chosen = set(held_out)
    word = next(word for word, period in EVERY.items() if period == n)
    order = f"of {where}, in the order of their paths"
    return Split(
        {"train": tuple(image for image in images if image not in chosen), "test": held_out},
        {"train": f"all but every {word} {order}", "test": f"every {word} {order}"},
    )


def split_folders(where: str, images: Sequence[PurePosixPath]) -> Folders | None:
    """Return the folders by purpose, from the highest level that has any; None if none has.

    Raises:
        ValueError: As `split`.
    """
    for depth in range(MAX_DEPTH):
        siblings: dict[PurePosixPath, dict[str, None]] = {}
        for image in images:
            if len(image.parts) > depth + 1:
                parent = PurePosixPath(*image.parts[:depth])
                siblings.setdefault(parent, {})[image.parts[depth]] = None
        found = [
            _roles(where, parent, children)
            for parent, names in siblings.items()
            if (children := _candidates(names))
        ]
        if found:
            return _merged(where, found)
    return None


def _candidates(names: Iterable[str]) -> dict[str, Role]:
    """Return the purpose of each folder whose name has one.

    A name with further words, such as `DIV2K_train_HR`, has one only beside a folder of another
    purpose with the same words, such as `DIV2K_valid_HR`, and only if no folder is simply `train`,
    `test` or the like: `test tubes` are photographs of test tubes.
    """
    known = {name: meaning for name in names if (meaning := role_of(name))}
    plain = {name: meaning.role for name, meaning in known.items() if not meaning.rest}
    if plain:
        return plain
    rests: dict[tuple[str, ...], set[Role]] = {}
    for meaning in known.values():
        rests.setdefault(meaning.rest, set()).add(meaning.role)
    return {
        name: meaning.role
        for name, meaning in known.items()
        if "train" in rests[meaning.rest] and len(rests[meaning.rest]) > 1
    }


def _roles(where: str, parent: PurePosixPath, children: dict[str, Role]) -> Folders:
    """Return one folder for each purpose; they lie in the same parent."""
    folders: Folders = {}
    for name, role in children.items():
        if role in folders:
            raise ValueError(
                f"folder: {where} must have one folder of {LABELS[role]} images, got "
                f"{folders[role][0]} and {parent / name}; rename or move all but one; {ANEW}"
            )
        folders[role] = (parent / name,)
    given = " and ".join(str(paths[0]) for paths in folders.values())
    if "train" not in folders:
        raise ValueError(
            f"folder: {where} has images to hold out, {given}, but no folder train beside them; "
            f"rename that of the training images to train, or choose another data.path; {ANEW}"
        )
    if len(folders) == 1:
        raise ValueError(
            f"folder: {where} has training images, {given}, but no images to hold out beside "
            f"them; rename their folder to test or val, or set data.path to {given} alone; {ANEW}"
        )
    return folders


def _merged(where: str, found: list[Folders]) -> Folders:
    """Return the folders of all parents: each class may have its own train and test."""
    for other in found[1:]:
        if set(other) != set(found[0]):
            raise ValueError(
                f"folder: {where} must have the same kinds of split everywhere, got "
                f"{_joined(found[0])} and {_joined(other)}; {ANEW}"
            )
    return {
        role: tuple(path for folders in found for path in folders[role])
        for role in ("train", "valid", "test")
        if role in found[0]
    }


def _joined(folders: Folders) -> str:
    return " + ".join(str(paths[0]) for paths in folders.values())


def _inside(images: Sequence[PurePosixPath], folders: Paths) -> Paths:
    chosen, depth = {folder.parts for folder in folders}, len(folders[0].parts)
    return tuple(image for image in images if image.parts[:depth] in chosen)


def _described(where: str, folders: Paths) -> str:
    first = f"{where}/{folders[0]}"
    return first if len(folders) == 1 else f"{first} and {count_of(len(folders) - 1, 'other')}"
