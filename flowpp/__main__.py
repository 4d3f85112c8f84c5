"""List the commands, or run one: python -m flowpp [COMMAND [ARGUMENTS]]."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence

import flowpp
from flowpp.config.mistakes import nearest
from flowpp.runtime.standard_output import exit_on_broken_pipe

COMMANDS = {
    "train": "train a model from a preset; write a run directory",
    "evaluate": "bits per dimension of a run on held-out images",
    "sample": "draw images from a run",
    "reconstruct": "encode held-out images to noise and decode them again",
    "interpolate": "interpolate between held-out images in noise space",
    "score": "bits per dimension of each image of a folder, with a picture",
    "classify": "classes of images by Bayes' rule, from a run trained with labels",
    "complete": "colourize, enlarge or inpaint images, from a run trained with image contexts",
    "report": "one HTML page of a run",
    "plot": "learning curves and samples of runs as PNG",
    "convert": "convert weights between the released TensorFlow code and this library",
    "compress": "compress images without loss by a trained model",
    "decompress": "decode compressed images",
    "benchmark": "time training, sampling, evaluation and the mixture kernels",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command named by the first argument; list all commands without one."""
    name, *rest = (sys.argv[1:] if argv is None else list(argv)) or ["--help"]
    if name == "--version":
        print(f"flowpp {flowpp.__version__}")
    elif name in ("-h", "--help"):
        print("usage: python -m flowpp COMMAND [ARGUMENTS], or python -m flowpp.COMMAND\n")
        print("\n".join(f"  {command:12} {summary}" for command, summary in COMMANDS.items()))
        print("\nCOMMAND --help describes its arguments, --version prints the version.")
    elif name in COMMANDS:
        sys.argv = [f"flowpp.{name}", *rest]
        runpy.run_module(f"flowpp.{name}", run_name="__main__", alter_sys=True)
    else:
        known = ", ".join(COMMANDS)
        hint = nearest(name, list(COMMANDS))
        print(f"error: command must be one of {known}, got {name!r}{hint}", file=sys.stderr)
        raise SystemExit(2)


if __name__ == "__main__":
    with exit_on_broken_pipe():
        main()
