"""Log metrics to the terminal, metrics.jsonl and TensorBoard."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from flowpp.evaluation import grids
from flowpp.evaluation.bound import Estimate
from flowpp.evaluation.diagnostics import Diagnosis
from flowpp.evaluation.labelled_grids import Panel, save_labelled
from flowpp.runs.metrics import HELD_OUT
from flowpp.runs.run import Run
from flowpp.runtime.files import finite_or_null
from flowpp.training.progress import Progress

Record = dict[str, Any]


class RunLogger:
    """Log of one run.

    Args:
        run: Run to write to.
        steps: Number of steps of the whole run.
        done: Number of steps done before this process started.
        silent: Log nothing; for all processes but one.
    """

    def __init__(self, run: Run, steps: int, done: int, *, silent: bool) -> None:
        self.run = run
        self.silent = silent
        if silent:
            return
        # TensorBoard hides records of an earlier process after the checkpoint.
        purge = done + 1 if done else None
        self.board = SummaryWriter(run.path / "tensorboard", purge_step=purge)
        self.progress = Progress(steps, done=done)

    def __enter__(self) -> RunLogger:
        """Start the progress bar."""
        if not self.silent:
            self.progress.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the progress bar and flush TensorBoard's records."""
        if not self.silent:
            self.progress.__exit__(kind, error, trace)
            self.board.close()

    def message(self, line: str) -> None:
        """Print a line."""
        if not self.silent:
            self.progress.message(line)

    def log_start(self, settings: Record, held_out: np.ndarray, levels: int) -> None:
        """Show the settings and held-out images in TensorBoard, beside curves and samples.

        Args:
            settings: Settings of the run, as JSON has them.
            held_out: Images of shape (N, C, H, W).
            levels: Number of values of a channel.
        """
        if self.silent:
            return
        lines = json.dumps(settings, indent=2).splitlines()
        self.board.add_text("settings", "\n".join(f"    {line}" for line in lines), 0)
        self._add_grid("held_out_images", Panel(held_out), levels, 0)

    def _add_grid(self, tag: str, panel: Panel, levels: int, step: int) -> None:
        picture = grids.grid(panel.images, levels, columns=panel.columns)
        layout = "HW" if picture.ndim == 2 else "HWC"
        self.board.add_image(tag, picture, step, dataformats=layout)

    def advance(self) -> None:
        """Advance the progress bar by one step."""
        if not self.silent:
            self.progress.advance()

    def log_training(self, record: Record) -> None:
        """Log the training steps since the last call."""
        if self.silent:
            return
        self._write("train", record)
        self.progress.show(
            record["step"],
            f"{record['bits_per_dim']:.3f} bits/dim  rate {record['learning_rate']:.1e}  "
            f"gradient {record['grad_norm']:.3g}  {record['images_per_second']:.3g} images/s"
            + (f"  {record['skipped']} skipped" if record["skipped"] else ""),
        )

    def log_evaluation(
        self,
        step: int,
        terms: dict[str, Estimate],
        diagnosis: Diagnosis,
        samples: Panel | None,
        levels: int,
    ) -> None:
        """Log an evaluation and its samples.

        Args:
            step: Number of steps done.
            terms: Bound in bits per dimension and its terms.
            diagnosis: Round-trip errors and log-determinants.
            samples: Samples, or None.
            levels: Number of values of a channel.
        """
        if self.silent:
            return
        bound = terms["bits_per_dim"]
        record: Record = {
            "step": step,
            HELD_OUT: bound.mean,
            "held_out_standard_error": bound.standard_error,
            "held_out_images": bound.count,
            **{f"held_out_{name}": terms[name].mean for name in ("log_q", "log_det", "log_prior")},
            "round_trip_max": diagnosis.round_trip[0],
            "round_trip_median": diagnosis.round_trip[1],
        }
        if diagnosis.log_scales is not None:
            record["log_scale_min"], record["log_scale_max"] = diagnosis.log_scales
        self._write("held_out", record, {"layer_log_det": diagnosis.layers})
        for name, value in diagnosis.layers.items():
            self.board.add_scalar(f"layer_log_det/{name}", value, step)
        if samples is not None:
            self._add_grid("samples", samples, levels, step)
            save_labelled(self.run.sample_path(step), "", [samples], levels)
        self.board.flush()
        self.message(
            f"step {step}: held-out bits/dim {bound}  round trip within "
            f"{diagnosis.round_trip[0]:.1e} grey levels"
        )

    def _write(self, tag: str, record: Record, more: Record | None = None) -> None:
        self.run.append_record(finite_or_null({**record, **(more or {})}))
        for name, value in record.items():
            self.board.add_scalar(f"{tag}/{name.removeprefix('held_out_')}", value, record["step"])
