"""The machine's C++ compiler: which one it is, what identifies it, and a run with a time limit."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from flowpp.kernels import cache
from flowpp.kernels.build_error import BuildError

TIME_LIMIT = 600.0
"""Seconds after which a compilation is ended; the longest source takes about half a minute."""
SEARCHED = ("g++", "clang++", "c++")
OUTPUT_KEPT = 1 << 16
"""Characters of the compiler's messages that are read."""
VARIABLES = (
    "PATH", "CPATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH", "LD_LIBRARY_PATH", "COMPILER_PATH",
    "GCC_EXEC_PREFIX", "SDKROOT",
)  # fmt: skip
"""Environment variables that can make a compiler fail or work."""
FULL = "no space left"
PASSING = (FULL, "killed", "out of memory", "cannot allocate", "resource temporarily")
"""Parts of messages about the machine's present state, in lower case."""


class CompilerError(BuildError):
    """Raised where a compiler fails.

    Args:
        message: What happened.
        lasting: Whether the same command would fail again later.
        any_source: Whether it would fail for other sources, too.
        disk_full: Whether the disk was full.
    """

    def __init__(
        self,
        message: str,
        *,
        lasting: bool = True,
        any_source: bool = False,
        disk_full: bool = False,
    ) -> None:
        super().__init__(message)
        self.lasting, self.any_source, self.disk_full = lasting, any_source, disk_full


@dataclass(frozen=True)
class Compiler:
    """A command that compiles C++.

    Args:
        words: Command with its first arguments, as `("ccache", "g++")`.
    """

    words: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.words)

    @functools.cached_property
    def identity(self) -> tuple[str, ...]:
        """Path, size and time of change of each program of the command; other words as they are.

        A compiler that was replaced by another version has another identity.
        """
        facts: list[str] = []
        for word in self.words:
            found = shutil.which(word)
            try:
                path = Path(found or word).resolve(strict=True)
                status = path.stat()
            except (OSError, RuntimeError):  # no file, or a circle of links
                facts.append(word)
            else:
                facts.append(f"{word} {path} {status.st_size} {status.st_mtime_ns}")
        return tuple(facts)

    def version(self) -> str:
        """Return the first line that the compiler prints about its version, or ""."""
        try:
            return self._run(["--version"], 10.0)[1].partition("\n")[0].strip()[:200]
        except (OSError, subprocess.TimeoutExpired):
            return ""

    def compile(self, source: Path, flags: tuple[str, ...], target: Path) -> None:
        """Compile a source file to `target`; temporary files go to the folder of `target`.

        Raises:
            CompilerError: The compiler cannot be started, failed, or did not end in time.
        """
        arguments = [*flags, str(source), "-o", str(target)]
        try:
            status, output = self._run(arguments, TIME_LIMIT, target.parent)
        except subprocess.TimeoutExpired:
            raise CompilerError(
                f"{self} did not compile {source.name} in {TIME_LIMIT:.0f} seconds",
                any_source=True,
            ) from None
        except OSError as error:
            raise CompilerError(f"{self} cannot be started: {error}", any_source=True) from error
        if status or not target.is_file():
            passing = status < 0 or any(part in output.lower() for part in PASSING)
            disk_full = FULL in output.lower() or cache.is_nearly_full(target.parent)
            raise CompilerError(
                f"{self} failed on {source.name}: {shortened(output) or f'exit status {status}'}",
                lasting=not (passing or disk_full),
                disk_full=disk_full,
            )

    def _run(
        self, arguments: list[str], seconds: float, folder: Path | None = None
    ) -> tuple[int, str]:
        """Return the exit status and the messages; no process of the compiler remains."""
        environment = {**os.environ, "LC_ALL": "C"}
        if folder is not None:
            environment |= {name: str(folder) for name in ("TMPDIR", "TMP", "TEMP")}
        # A file, since a pipe would stay open as long as any of the compiler's children lives. It
        # is not in `folder`, where the disk may be full.
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                [*self.words, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=os.name == "posix",
            )
            try:
                status = process.wait(seconds)
            finally:
                _end(process)
            output.seek(0)
            return status, output.read(OUTPUT_KEPT).decode(errors="replace")


def find_compiler() -> Compiler:
    """Return the compiler that `$CXX` names, or the first found of `SEARCHED`.

    `$CXX` may have several words, such as `ccache g++`.

    Raises:
        BuildError: No compiler was found.
    """
    named = os.environ.get("CXX", "").strip()
    if not named:
        for name in SEARCHED:
            if shutil.which(name):
                return Compiler((name,))
        raise BuildError(
            f"backend 'cpu' needs a C++ compiler ({', '.join(SEARCHED)} or $CXX), got none"
        )
    if Path(named).is_file():  # perhaps with spaces
        return Compiler((named,))
    try:
        words = tuple(shlex.split(named, posix=os.name == "posix"))
    except ValueError as error:
        raise BuildError(f"CXX must be a command, got {named!r}: {error}") from error
    if shutil.which(words[0]) is None:
        raise BuildError(f"CXX must name a C++ compiler, got {named!r}, which is not found")
    return Compiler(words)


def shortened(output: str) -> str:
    """Return the first error among a compiler's messages and those after it, 500 characters."""
    lines = output.strip().splitlines()
    first = next((i for i, line in enumerate(lines) if "error" in line.lower()), None)
    text = "\n".join(lines if first is None else lines[first:])
    return text[-500:] if first is None else text[:500]


def variables() -> dict[str, str]:
    """Return the environment variables of `VARIABLES` that are set."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and the processes that it has started, if any are left."""
    if process.poll() is not None:
        return
    if os.name == "posix":
        # The group has the process's number, since it leads a session of its own.
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
