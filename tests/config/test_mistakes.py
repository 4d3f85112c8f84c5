"""Mistakes on command lines are one line, with the nearest flag."""

from __future__ import annotations

import pytest

from flowpp import evaluate, plot, sample, train
from flowpp.config.mistakes import message, nearest, nearest_flags


@pytest.mark.parametrize(
    ("command", "flags", "expected"),
    [
        (train, "digits --lr 3", "option --lr; did you mean --training.learning_rate?"),
        (train, "--training.learning_rat 3", "did you mean --training.learning_rate?"),
        (train, "--training.learning-rat 3", "did you mean --training.learning_rate?"),
        (train, "--epochs 3", "did you mean --training.steps?"),
        (train, "--model.flow.filter 3", "did you mean --model.flow.filters?"),
        (train, "--quantum", "unrecognized option --quantum"),
        (train, "--training.steps ten", "--training.steps must be a whole number, got 'ten'"),
        (train, "--training.learning_rate x", "learning_rate must be a number, got 'x'"),
        (train, "--training.memory lo", "memory must be one of 'normal', 'low', got 'lo'"),
        (train, "--training.steps", "--training.steps must have a value, got none"),
        (train, "--training.steps 0", "training.steps must be at least 1, got 0"),
        (train, "digts", "did you mean 'digits'?"),
        (
            sample,
            "",
            "RUN is required: Run directory, checkpoint file, or name of a pretrained model.",
        ),
        (sample, "run --which best", "did you mean --checkpoint?"),
        (evaluate, "run --importance-sample 3", "did you mean --importance_samples?"),
        (plot, "", "at least one RUN is required, got none"),
    ],
)  # fmt: skip
def test_one_line(command, flags, expected, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(flags.split())
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert not printed.out
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ") and expected in line


def test_boxes_of_both_kinds():
    for side, corner, dash in (("│", "╭", "─"), ("|", "+", "-")):
        box = "\n".join([
            f"{corner}{dash} Unrecognized options {dash * 9}{corner}",
            f"{side} Unrecognized options: --training.step, 3 {side}",
            f"{side} {dash * 20} {side}",
            f"{side} Perhaps you meant: {side}",
            f"{corner}{dash * 30}{corner}",
        ])  # fmt: skip
        line = message(box, "--training.steps INT --out PATH")
        assert line == "unrecognized option --training.step; did you mean --training.steps?"


def test_other_messages_are_kept():
    box = "╭─ Title ─╮\n│ Something else went wrong. │\n╰─────╯"
    assert message(box, "") == "Something else went wrong."


def test_nearest():
    known = ["--model.flow.filters", "--model.context.filters", "--training.ema_decay", "--out"]
    assert nearest_flags("--filters", known) == known[:2]
    assert nearest_flags("--model.context.filter", known) == known[1:2]
    assert nearest_flags("--ed", known) == known[2:3]
    assert nearest_flags("--nothing-like-it", known) == []
    assert nearest("Squeze", ["squeeze", "flip"]) == "; did you mean 'squeeze'?"
    assert nearest("xyz", ["squeeze", "flip"]) == ""
