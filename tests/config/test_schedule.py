"""Learning-rate schedules: parsing, rates, presets and migration of former settings."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from inspect import getsource
from pathlib import Path

import pytest

from flowpp.config import Config, TrainingConfig, schedule, settings
from flowpp.config.presets import PRESETS
from flowpp.config.schedule import FORMS, Schedule, parse_schedule
from flowpp.config.schedule_pieces import PieceUntil, Position
from flowpp.config.serialization import from_dict, to_dict
from flowpp.training.learning_rate import learning_rate, warm_up_note, zero_rate_note

# Learning rate, warm-up, start of the decay and schedule of the presets in version 0.1.0. Delete
# the line of a preset whose schedule is changed on purpose.
FORMER = {
    "cifar10": (3e-4, 2000, 1.0, None),
    "cifar10-uniform": (3e-4, 2000, 1.0, None),
    "cifar10-affine": (3e-4, 2000, 1.0, None),
    "cifar10-no-attention": (3e-4, 2000, 1.0, None),
    "cifar10-paper": (3e-4, 2000, 1.0, None),
    "cifar16": (1e-3, 200, 1.0, None),
    "realnvp": (1e-3, 2000, 1.0, None),
    "glow": (1e-3, 2000, 1.0, None),
    "imagenet32": (1e-3, 5000, 1.0, "linear 5000 1e-3, hold 50000, decay 0.99995 3e-4"),
    "imagenet64": (
        4e-4,
        10_000,
        1.0,
        "linear 10000 4e-4, hold 50000, decay 0.99995 3e-4, hold 230000, linear 240000 1e-5, "
        "hold 280000, linear 290000 1e-6",
    ),
    "imagenet64-5bit": (
        4e-4,
        10_000,
        1.0,
        "linear 10000 4e-4, hold 50000, decay 0.9995 3e-4, hold 110000, linear 130000 1e-5",
    ),
    "celeba64-5bit": (4e-5, 20_000, 1.0, "linear 20000 4e-5, hold 50000, decay 0.9995 1e-5"),
    "celeba64-3bit": (4e-5, 20_000, 1.0, "linear 20000 4e-5, hold 50000, decay 0.9995 1e-5"),
    "celeba128-5bit": (1e-5, 50_000, 1.0, "linear 50000 1e-5"),
}
"""Learning-rate settings of version 0.1.0: learning_rate, warmup_steps, decay_from, schedule."""


def former_rate(step, steps, peak, warm_up, decay_from):
    """Return the rate of version 0.1.0 without a schedule."""
    rate = peak * min(1.0, step / max(warm_up, 1))
    start = decay_from * steps
    if step > start:
        rate *= 0.5 * (1 + math.cos(math.pi * (step - start) / (steps + 1 - start)))
    return rate


def former_schedule_rate(step, schedule):
    """Return the rate of version 0.1.0 with a schedule of absolute rates."""
    start, rate = 0.0, 0.0
    for word, *numbers in (piece.split() for piece in schedule.split(",")):
        first, target = float(numbers[0]), float(numbers[-1])
        if word == "decay":
            end = start + math.ceil(math.log(target / rate) / math.log(first))
            inside = rate * first ** (step - start)
        else:
            end, target = first, rate if word == "hold" else target
            part = (step - start) / (end - start)
            part = (1 - math.cos(math.pi * part)) / 2 if word == "cosine" else part
            inside = rate + (target - rate) * part
        if step < end:
            return inside
        start, rate = end, target
    return rate


def former_training(steps, peak, warm_up, decay_from, schedule):
    return {
        "steps": steps,
        "learning_rate": peak,
        "warmup_steps": warm_up,
        "decay_from": decay_from,
        "schedule": schedule,
    }


def sampled_steps(steps):
    return sorted({*range(1, min(steps, 2000) + 1), *range(997, steps + 1, 997), steps})


@pytest.mark.parametrize("name", FORMER)
def test_presets_have_the_rates_of_version_0_1_0(name):
    training = PRESETS[name].training
    *numbers, schedule = FORMER[name]
    for step in sampled_steps(training.steps):
        rate = learning_rate(step, training)
        if schedule is None:
            assert rate == former_rate(step, training.steps, *numbers), step
        else:
            # Both forms round at the scale of the peak.
            former = former_schedule_rate(step, schedule)
            assert rate == pytest.approx(former, rel=1e-15, abs=1e-15 * numbers[0]), step


@pytest.mark.parametrize("name", FORMER)
def test_a_stored_preset_of_version_0_1_0_is_the_present_one(name):
    stored = to_dict(PRESETS[name])
    stored["training"] |= former_training(stored["training"]["steps"], *FORMER[name])
    assert from_dict(Config, stored) == PRESETS[name]


@pytest.mark.parametrize("warm_up", [0, 1, 7, 60])
@pytest.mark.parametrize("decay_from", [0.0, 0, 1e-5, 0.3, 1 / 3, 0.5, 0.123456789012345, 1.0, 1])
def test_former_fields_keep_their_rates_bit_for_bit(warm_up, decay_from):
    for steps in (1, 2, 41, 100):
        numbers = (3e-3, warm_up, decay_from)
        training = from_dict(TrainingConfig, former_training(steps, *numbers, None))
        assert from_dict(TrainingConfig, to_dict(training)) == training
        for step in range(1, steps + 1):
            assert learning_rate(step, training) == former_rate(step, steps, *numbers)


@pytest.mark.parametrize(
    ("former", "present"),
    [
        ("linear 10 1e-3", "warm-up 10"),
        ("linear 10 1e-3, cosine 20 1e-4", "warm-up 10, constant 10, cosine 20 0.1"),
        ("linear 10 2e-3, hold 20, linear 30 3e-3", "warm-up 10, constant 20, linear 30 1.5"),
        ("linear 10 1.0, decay 0.5 0.2", "warm-up 10, constant 10, exponential 0.5 0.2"),
    ],
)
def test_former_schedules_keep_their_rates(former, present):
    training = from_dict(TrainingConfig, former_training(50, 0.1, 5, 0.2, former))
    assert training.schedule == present
    for step in range(1, 51):
        assert learning_rate(step, training) == pytest.approx(
            former_schedule_rate(step, former), rel=1e-14
        )


@pytest.mark.parametrize(
    ("former", "message"),
    [
        ({"schedule": "cosine 10 1e-3, hold 20"}, "'cosine 10 1e-3, hold 20' .*linear rise"),
        ({"schedule": "linear 10 0, linear 20 1e-3"}, "cannot be expressed .*linear rise"),
        ({"schedule": "linear 10 1e-3, climb 20"}, "cannot be expressed .*'climb 20'"),
        ({"schedule": "linear 10 1e-3, decay 0.5 none"}, "cannot be expressed"),
        ({"schedule": 3}, "training.schedule must be str or None, got 3"),
        ({"warmup_steps": "2"}, "training.warmup_steps must be .*, got '2'"),
        ({"warmup_steps": -1}, "training.warmup_steps must be .* at least 0, got -1"),
        ({"decay_from": 1.5}, r"training.decay_from must be .* \[0, 1\], got 1.5"),
        ({"decay_from": math.nan}, r"training.decay_from must be .* \[0, 1\], got nan"),
    ],
)
def test_former_settings_that_cannot_be_migrated_are_refused(former, message):
    with pytest.raises(ValueError, match=message):
        from_dict(TrainingConfig, {"warmup_steps": 2000, **former})


@pytest.mark.parametrize("name", PRESETS)
def test_no_rate_is_ever_undefined_or_negative(name):
    """The released ImageNet 64 schedule is both, late in training."""
    training = PRESETS[name].training
    steps = [1, 2, *range(1000, training.steps, 1000), training.steps]
    assert all(0 < learning_rate(step, training) <= 4e-3 for step in steps)


def test_released_schedules_at_their_seams():
    rates = {
        ("cifar10", 1000): 1.5e-4,
        ("cifar10", 2000): 3e-4,
        ("cifar10", 300_000): 3e-4,
        ("imagenet32", 2500): 5e-4,
        ("imagenet32", 50_000): 1e-3,
        ("imagenet32", 50_001): 1e-3 * 0.99995,
        ("imagenet32", 80_000): 3e-4,
        ("imagenet64", 235_000): (3e-4 + 1e-5) / 2,
        ("imagenet64", 285_000): (1e-5 + 1e-6) / 2,
        ("imagenet64", 400_000): 1e-6,
        ("imagenet64-5bit", 120_000): (3e-4 + 1e-5) / 2,
        ("celeba64-3bit", 400_000): 1e-5,
        ("celeba128-5bit", 25_000): 5e-6,
    }
    for (name, step), expected in rates.items():
        assert learning_rate(step, PRESETS[name].training) == pytest.approx(expected, rel=1e-12), (
            name
        )


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("steps", [1, 2, 3, 100])
def test_presets_allow_short_runs(name, steps):
    training = replace(PRESETS[name].training, steps=steps)
    assert all(0 < learning_rate(s, training) <= 4e-3 for s in range(1, steps + 1))


def test_pieces_join_without_gaps():
    text = "constant 20, exponential 0.5 0.2, cosine 43 0.1, linear 53 0"
    schedule = parse_schedule(f"warm-up 10, {text}")
    expected = {
        1: 0.1, 10: 1.0, 20: 1.0, 21: 0.5, 22: 0.25, 23: 0.2, 33: 0.15, 43: 0.1, 48: 0.05, 60: 0
    }  # fmt: skip
    rates = {step: schedule.rate(step, peak=1.0, steps=60) for step in expected}
    assert rates == pytest.approx(expected)


def test_positions_are_steps_percentages_and_the_end():
    schedule = parse_schedule("constant 12.5%, linear 60 0.5, cosine end 0")
    assert [schedule.factor(step, 200) for step in (25, 60, 201)] == [1, 0.5, 0]
    assert 0 < schedule.factor(200, 200) < 1e-4
    assert schedule.factor(43, 200) == pytest.approx(1 - 0.5 * 18 / 35)


def test_steps_and_percentages_may_overlap():
    """A piece that would end before the one in front of it takes no steps."""
    schedule = parse_schedule("constant 50, linear 50% 0.5, cosine end 0")
    assert [schedule.factor(step, 60) for step in (1, 49)] == [1, 1]
    assert schedule.factor(50, 60) == 0.5 > schedule.factor(51, 60)
    assert schedule.factor(30, 30) == 1
    # The warm-up multiplies the other pieces, so it may last longer than the first of them.
    schedule = parse_schedule("warm-up 10, constant 50%, linear end 0")
    assert schedule.rate(5, peak=2.0, steps=10) == 2.0 * 0.5 * 1.0
    assert schedule.rate(8, peak=2.0, steps=10) == pytest.approx(2.0 * 0.8 * 0.5)


@pytest.mark.parametrize(
    ("schedule", "depends"),
    [
        ("warm-up 10, constant 20, linear 30 0.1", False),
        ("warm-up 10, constant end", False),
        ("linear 30 0.1, constant 50%", False),
        ("constant 50%, exponential 0.9 0.1", True),
        ("cosine end 0", True),
    ],
)
def test_which_schedules_depend_on_the_length_of_the_run(schedule, depends):
    assert parse_schedule(schedule).depends_on_length == depends


@dataclass(frozen=True)
class Half(PieceUntil):
    """A further kind of piece, which halves the factor at its end."""

    def inside(self, step, start, end, before):
        return before

    def end_factor(self, before):
        return before / 2


@pytest.mark.parametrize(("end", "depends"), [("50%", True), ("end", True), ("9", False)])
def test_a_further_kind_depends_on_the_length_through_its_end(end, depends):
    assert Schedule(1, (Half(Position.parse(end)),)).depends_on_length == depends


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_described(form):
    guide = Path(__file__).parents[2] / "docs" / "guide.md"
    for text in (schedule.__doc__, getsource(settings), guide.read_text()):
        assert form in " ".join(text.split())


FORM = "pieces of the form warm-up STEPS, constant UNTIL, .*"


@pytest.mark.parametrize(
    ("text", "needed", "piece"),
    [
        ("", FORM, ""),
        ("linear 10", FORM, "linear 10"),
        ("warm-up 10, hold 20", FORM, "hold 20"),
        ("linear ten 0.5", FORM, "linear ten 0.5"),
        ("linear -5 0.5", FORM, "linear -5 0.5"),
        ("linear 5.5 0.5", FORM, "linear 5.5 0.5"),
        ("linear 10 inf", FORM, "linear 10 inf"),
        ("linear 10 -0.5", FORM, "linear 10 -0.5"),
        ("cosine 10 nan", FORM, "cosine 10 nan"),
        ("cosine 101% 0", FORM, "cosine 101% 0"),
        ("exponential 1.5 0.1", FORM, "exponential 1.5 0.1"),
        ("exponential nan 0.1", FORM, "exponential nan 0.1"),
        ("exponential 0.5 0", FORM, "exponential 0.5 0"),
        ("constant 9, climb 10 1", FORM, "climb 10 1"),
        ("warm-up 0", "a warm-up of 1 to 9{15} steps", "warm-up 0"),
        ("warm-up 50%", "a warm-up of 1 to 9{15} steps", "warm-up 50%"),
        ("warm-up", "a warm-up of 1 to 9{15} steps", "warm-up"),
        ("warm-up 10 constant end", "a warm-up of 1 to 9{15} steps", "warm-up 10 constant end"),
        ("warm-up " + "9" * 16, "a warm-up of 1 to 9{15} steps", "warm-up " + "9" * 16),
        ("warm-up10", "pieces of the form .*", "warm-up10"),
        ("constant 10, warm-up 20", "warm-up STEPS as its first piece only", "warm-up 20"),
        ("constant 0", "an end after 0", "constant 0"),
        ("constant 0%", "an end after 0%", "constant 0%"),
        ("constant 5, constant 5", "an end after 5", "constant 5"),
        ("linear 50% 0.5, constant 50%", "an end after 50%", "constant 50%"),
        ("constant 9, linear 50% 0.5, constant 9", "an end after 9", "constant 9"),
        ("constant 10, exponential 0.5 0.1, constant 12", "an end after 14", "constant 12"),
        ("constant 50%, exponential 0.5 0.1, constant 4", "an end after 4", "constant 4"),
        ("cosine end 0.5, constant 10", "no piece after one that lasts .* end", "constant 10"),
        ("linear 10 0, constant 20", "a factor above 0 before it", "constant 20"),
        ("linear 10 0, exponential 0.5 0.1", "a factor above 0 before it", "exponential 0.5 0.1"),
        ("linear 9 0.1, exponential 0.5 0.2", "at most the factor .* 0.1", "exponential 0.5 0.2"),
        ("exponential 0.5 inf", "at most the factor before it, 1", "exponential 0.5 inf"),
    ],
)
def test_a_schedule_without_a_meaning_is_refused(text, needed, piece):
    for refuse in (parse_schedule, lambda text: TrainingConfig(schedule=text)):
        with pytest.raises(ValueError, match=f"^training.schedule must have {needed}, got") as e:
            refuse(text)
        assert f"got {piece!r} in {text!r}" in str(e.value)


def test_a_warm_up_longer_than_the_run_is_said():
    long = TrainingConfig(steps=10, schedule="warm-up 100, constant end")
    (line,) = warm_up_note(long)
    assert "to 10.0% of its peak" in line and "takes 100 steps, the run 10" in line
    assert not warm_up_note(replace(long, steps=100))
    assert not warm_up_note(replace(long, schedule="constant end"))


def test_last_steps_at_rate_0_are_named():
    """A run with more steps whose schedule ends at a step number."""
    settings = TrainingConfig(steps=300, schedule="warm-up 10, linear 200 0")
    (line,) = zero_rate_note(settings)
    assert "0 after step 199" in line and "the last 101 steps change no weights" in line
    for other in ("warm-up 10, linear end 0", "linear 10 0, linear 20 1", "constant end"):
        assert zero_rate_note(replace(settings, schedule=other)) == []
