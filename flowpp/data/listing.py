"""The image files below a folder or in an archive, without those of editors and systems."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from flowpp.data.formats import count_of, suffixes, unread_note
from flowpp.data.split_names import MAX_DEPTH, role_of

SYSTEM_NAMES = frozenset(
    {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "#recycle", "lost+found"}
)
"""Files and folders that systems put beside a user's, in lower case."""
RUN_FILES = ("config.json", "environment.json")
"""Files that every run directory has."""
SHOWN = 5
"""Empty folders that a line names."""


@dataclass(frozen=True)
class Listing:
    """Files that may hold images.

    Args:
        images: Relative paths of files of a known kind, in the order of their parts.
        others: Relative paths of files of other kinds, likewise.
        links: Number of links to folders or to nothing, which are not followed.
        runs: Number of run directories, whose pictures are not the user's.
        empty: Relative paths of folders with nothing in them.
    """

    images: tuple[PurePosixPath, ...]
    others: tuple[PurePosixPath, ...] = ()
    links: int = 0
    runs: int = 0
    empty: tuple[PurePosixPath, ...] = ()

    @classmethod
    def of(
        cls,
        names: Iterable[PurePosixPath],
        links: int = 0,
        empty: Iterable[PurePosixPath] = (),
    ) -> Listing:
        """Sort relative paths into images and others; leave out hidden ones."""
        known = suffixes()
        names = list(names)
        runs = _run_directories(names)
        visible = sorted(
            (
                name
                for name in names
                if all(map(is_visible, name.parts))
                and not (runs and runs.intersection(name.parents))
            ),
            key=lambda name: name.parts,
        )
        images = tuple(name for name in visible if name.suffix.lower() in known)
        others = tuple(name for name in visible if name.suffix.lower() not in known)
        inner = (folder for folder in empty if not runs.intersection(folder.parents))
        return cls(images, others, links, len(runs), tuple(sorted(inner)))

    @property
    def unread(self) -> Counter[str]:
        """Number of files of other kinds by suffix, in lower case."""
        return Counter(name.suffix.lower() for name in self.others)

    def notes(self) -> list[str]:
        """Return lines on files of other kinds, links and empty folders, if there are any."""
        lines = [unread_note(self.unread)] if self.others else []
        if self.links:
            lines.append(f"{count_of(self.links, 'link')} to folders or to nothing not followed")
        if self.runs:
            lines.append(f"pictures in {_directories(self.runs)} of this library not read")
        if self.empty:
            names = ", ".join(map(printable, self.empty[:SHOWN]))
            more = ", ..." * (len(self.empty) > SHOWN)
            lines.append(f"{count_of(len(self.empty), 'empty folder')}: {names}{more}")
        return lines


def printable(name: object) -> str:
    """Return a file's name, or a text with one, with escapes for bytes that are not UTF-8."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def _run_directories(names: Iterable[PurePosixPath]) -> set[PurePosixPath]:
    """Return the folders that are run directories of this library, other than the listed one."""
    parents: list[set[PurePosixPath]] = [set() for _ in RUN_FILES]
    for name in names:
        if name.name in RUN_FILES:
            parents[RUN_FILES.index(name.name)].add(name.parent)
    return set.intersection(*parents) - {PurePosixPath()}


def _directories(count: int) -> str:
    return "a run directory" if count == 1 else f"{count:,} run directories"


def is_visible(name: str) -> bool:
    """Return whether a file or folder of this name is the user's, not hidden or a system's."""
    return not name.startswith(".") and name.lower() not in SYSTEM_NAMES


def list_folder(folder: Path) -> Listing:
    """List the files below a folder.

    Links to files are followed. Links to folders are followed only where they may be a split,
    such as a link `train`, since others may lead out of the folder or back to it.
    """
    links = 0
    empty: list[PurePosixPath] = []

    def walk(prefix: PurePosixPath) -> Iterator[PurePosixPath]:
        nonlocal links
        with os.scandir(folder / prefix) as opened:
            entries = [entry for entry in opened if is_visible(entry.name)]
        if not entries and prefix.parts:
            empty.append(prefix)
        for entry in entries:
            name = prefix / entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from walk(name)
            elif _is_file(entry):
                yield name
            elif entry.is_symlink():
                if _is_linked_split(folder, name):
                    yield from walk(name)
                else:
                    links += 1

    names = list(walk(PurePosixPath()))
    return Listing.of(names, links, empty)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # links in a circle
        return False


def _is_linked_split(folder: Path, name: PurePosixPath) -> bool:
    """Return whether a link may be a split, and does not lead to a folder above itself."""
    target = Path(os.path.realpath(folder / name))
    return (
        len(name.parts) <= MAX_DEPTH
        and role_of(name.name) is not None
        and target.is_dir()
        and not Path(os.path.realpath(folder / name.parent)).is_relative_to(target)
    )
