"""A progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from flowpp.training.progress import Progress


@pytest.mark.parametrize("terminal", [True, False])
def test_metrics_are_shown(terminal):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=120)
    with Progress(2, console) as progress:
        for step in (1, 2):
            progress.advance()
            progress.show(step, "2.31 bits/dim")
        progress.message("[done]")
    text = stream.getvalue()
    assert "2.31 bits/dim" in text and "[done]" in text
    assert ("\x1b[" in text) == terminal
    assert ("left" in text) == terminal  # what the time beside the bar is
    if not terminal:
        assert text.splitlines()[0] == "step 1/2  2.31 bits/dim"


def test_tensorboard_has_settings_and_held_out_images_beside_samples(tiny_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tiny_run[0] / "tensorboard"))
    board.Reload()
    assert {"samples", "held_out_images"} <= set(board.Tags()["images"])
    (event,) = board.Tensors("settings/text_summary")
    assert b'"batch_size": 8' in event.tensor_proto.string_val[0]
