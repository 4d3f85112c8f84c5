"""A resumed run ends with the bits of an uninterrupted one, or reports why it cannot."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import signal

import numpy as np
import pytest
import torch
from same_runs import same_state

from flowpp import train
from flowpp.data import ImageSet
from flowpp.runs.checkpoint import Checkpoint, CheckpointError
from flowpp.runs.machine_facts import machine_facts
from flowpp.runs.metrics import HELD_OUT
from flowpp.runs.run import Run
from flowpp.runtime import random_state
from flowpp.runtime.signals import DeferredSignals, TrainingInterrupted
from flowpp.training import held_out, loop, resume
from flowpp.training import step as training_step
from flowpp.training.result import Result
from flowpp.training.run_logger import RunLogger
from flowpp.training.setup import prepare

STEPS = 7  # as in conftest.py


@pytest.fixture
def copy(uninterrupted, tmp_path):
    return shutil.copytree(uninterrupted, tmp_path / "copy")


def stop_after(monkeypatch, step, number=signal.SIGTERM):
    """Send a signal in the middle of the given step."""
    compute, count = training_step.accumulate_gradients, 0

    def interrupted(*arguments):
        nonlocal count
        count += 1
        if count == step:
            os.kill(os.getpid(), number)
        return compute(*arguments)

    monkeypatch.setattr(training_step, "accumulate_gradients", interrupted)


@pytest.mark.parametrize("step", [1, 3, 4, STEPS])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_resumes_bit_for_bit(
    config, uninterrupted, tmp_path, monkeypatch, step, number
):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, step, number)
        with pytest.raises(TrainingInterrupted) as stop:
            loop.train(config, out)
    assert stop.value.number == number
    assert Run.open(out).load_checkpoint().step == step
    random.random(), np.random.rand(), torch.rand(1)  # the process's random state must not matter
    result = loop.train(config, out, resume=True)
    assert same_state(out, uninterrupted)
    assert (
        result.bits_per_dim
        == json.loads((uninterrupted / "result.json").read_text())["bits_per_dim"]
    )


def test_a_signal_during_an_evaluation_stops_at_once(config, uninterrupted, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(
            held_out, "evaluate_bound", lambda *_, **__: os.kill(os.getpid(), signal.SIGINT)
        )
        with pytest.raises(TrainingInterrupted):
            loop.train(config, tmp_path / "run")
    assert not any(HELD_OUT in r for r in Run.open(tmp_path / "run").metrics())
    loop.train(config, tmp_path / "run", resume=True)
    assert same_state(tmp_path / "run", uninterrupted)


def test_signal_handlers_are_restored():
    former = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    with DeferredSignals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == signal.SIGTERM
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == former


@pytest.mark.parametrize("harm", ["truncated", "flipped", "empty"])
def test_a_damaged_newest_checkpoint_is_skipped(copy, uninterrupted, config, harm, capsys):
    newest = Run.open(copy).checkpoint_files()[-1]
    raw = bytearray(newest.read_bytes())
    raw[len(raw) // 2] ^= 1
    newest.write_bytes({"truncated": raw[: len(raw) // 2], "flipped": raw, "empty": b""}[harm])
    loop.train(config, copy, resume=True)
    output = capsys.readouterr().out
    assert newest.name in output and "truncated or damaged" in output
    assert "the one before" in output
    assert "resumed after step 6" in output
    assert same_state(copy, uninterrupted)


def test_every_flipped_bit_is_found(copy):
    newest = Run.open(copy).checkpoint_files()[-1]
    raw = newest.read_bytes()
    draw = random.Random(0)
    places = [draw.randrange(len(raw)) for _ in range(60)] + [0, 1, 7, 8, 9, 40, len(raw) - 1]
    for place in places:
        harmed = bytearray(raw)
        harmed[place] ^= 1 << draw.randrange(8)
        newest.write_bytes(harmed)
        try:
            found = Checkpoint.load(newest)
        except CheckpointError as error:
            assert newest.name in str(error)
        else:  # the hash covers all but the header's white space
            newest.write_bytes(raw)
            former = Checkpoint.load(newest)
            assert found.facts == former.facts and found.step == former.step
            assert all(torch.equal(found.weights[n], t) for n, t in former.weights.items())


def test_a_finished_run_is_unchanged(copy, config):
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    result = loop.train(config, copy, resume=True)
    assert {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()} == before
    recorded = json.loads((copy / "result.json").read_text())
    own = str(Run(copy).sample_path(STEPS))  # of the copy, not of the run it was copied from
    assert dataclasses.asdict(result) == recorded | {"samples": own}


def test_a_result_of_another_version_is_recomputed(copy, config):
    recorded = json.loads((copy / "result.json").read_text())
    (copy / "result.json").write_text(json.dumps({"steps": recorded["steps"]}))
    result = loop.train(config, copy, resume=True)
    assert result.bits_per_dim == recorded["bits_per_dim"]


def test_all_checkpoints_damaged(copy, config):
    for file in Run.open(copy).checkpoint_files():
        file.write_bytes(b"no")
    with pytest.raises(CheckpointError, match="all 3 checkpoints of .* are damaged"):
        loop.train(config, copy, resume=True)


def test_without_a_checkpoint_it_starts_again(copy, uninterrupted, config):
    shutil.rmtree(copy / "checkpoints")
    (copy / "checkpoints").mkdir()
    loop.train(config, copy, resume=True)
    assert same_state(copy, uninterrupted)


def test_a_checkpoint_of_another_model(copy, config):
    flow = dataclasses.replace(config.model.flow, filters=8)
    other = dataclasses.replace(config, model=dataclasses.replace(config.model, flow=flow))
    before = [file.read_bytes() for file in Run.open(copy).checkpoint_files()]
    with pytest.raises(CheckpointError, match="belongs to another model"):
        loop.train(other, copy, resume=True)
    assert [file.read_bytes() for file in Run.open(copy).checkpoint_files()] == before


def test_a_checkpoint_of_other_data(copy, config):
    images, model = prepare(config)
    other = ImageSet("digits", images.train[1:], images.test, images.levels)
    before = [file.read_bytes() for file in Run.open(copy).checkpoint_files()]
    with pytest.raises(CheckpointError, match="trained on other data"):
        loop.train(config, copy, (other, model), resume=True)
    assert [file.read_bytes() for file in Run.open(copy).checkpoint_files()] == before


def test_weights_without_training_state_are_refused(copy, config):
    run = Run.open(copy)
    former = run.load_checkpoint()
    facts = {"data_sha256": former.facts["data_sha256"]}
    Checkpoint(9, former.weights, former.ema, {}, facts).save(run.checkpoint_path(9))
    longer = dataclasses.replace(config, training=dataclasses.replace(config.training, steps=9))
    with pytest.raises(CheckpointError, match="step 9 has no usable training state"):
        loop.train(longer, copy, resume=True)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), OSError(30, "Read-only file system")]
)
def test_a_disk_that_cannot_be_written_to(config, uninterrupted, tmp_path, monkeypatch, error):
    from flowpp.runs import checkpoint

    write, count = checkpoint.save_file, 0

    def full(tensors, path, metadata):
        nonlocal count
        count += 1
        if count == 2:
            path.write_bytes(b"half of it")
            raise error
        write(tensors, path, metadata)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        with pytest.raises(OSError, match=f"could not be written .*{error.strerror}"):
            loop.train(config, tmp_path / "run")
    left = sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert left == ["step-00000000.safetensors"]
    loop.train(config, tmp_path / "run", resume=True)
    assert same_state(tmp_path / "run", uninterrupted)


def test_two_processes_do_not_train_in_one_directory(copy, config):
    with Run.open(copy).locked(), pytest.raises(BlockingIOError, match="another process"):
        loop.train(config, copy, resume=True)


def test_a_former_checkpoint_of_several_processes_is_noted(copy, config):
    checkpoint = Run.open(copy).load_checkpoint()
    several = dataclasses.replace(checkpoint, facts={**checkpoint.facts, "processes": 2})
    now = machine_facts(torch.device("cpu"), 2)
    (note,) = resume.differences(several, config, now)
    assert "each has its own" in note and note.endswith(resume.CERTAIN)
    own = {**checkpoint.state, "random/noise": torch.zeros(2, 5)}
    assert resume.differences(dataclasses.replace(several, state=own), config, now) == []


def test_longer_than_first_planned(copy, config):
    longer = dataclasses.replace(config.training, steps=STEPS + 2)
    loop.train(dataclasses.replace(config, training=longer), copy, resume=True)
    assert Run.open(copy).load_checkpoint().step == STEPS + 2
    assert Run.open(copy).config().training.steps == STEPS + 2


@pytest.mark.parametrize("state", ["finished", "unfinished", "damaged"])
def test_a_run_cannot_become_shorter_than_it_is(copy, config, state):
    if state != "finished":
        (copy / "result.json").unlink()
    if state == "damaged":
        Run.open(copy).checkpoint_files()[-1].write_bytes(b"no")
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    shorter = dataclasses.replace(config.training, steps=STEPS - 1)
    message = f"training.steps must be at least the {STEPS} steps .*, got {STEPS - 1}"
    with pytest.raises(resume.ResumptionError, match=message):
        loop.train(dataclasses.replace(config, training=shorter), copy, resume=True)
    assert {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()} == before
    with pytest.raises(SystemExit, match=f"^error: {message}$"):
        train.main(["--resume", str(copy), "--training.steps", str(STEPS - 1)])


def test_random_states_of_all_generators_are_restored():
    random_state.seed_all(3)
    np.random.standard_normal()  # caches a second number
    random.gauss(0, 1)
    tensors, values = random_state.python_state()
    values = json.loads(json.dumps(values))
    own = random_state.torch_state(torch.device("cpu"))
    draw = lambda: (random.gauss(0, 1), np.random.standard_normal(), torch.rand(1).item())  # noqa: E731
    first = draw()
    draw()
    random_state.set_python_state(tensors, values)
    random_state.set_torch_state(own, torch.device("cpu"))
    assert draw() == first


# ---- the command line
# ------------------------------------------------------------------------------------------------


def error_output(capsys, *arguments):
    with pytest.raises(SystemExit):
        train.main([str(a) for a in arguments])
    return capsys.readouterr().err


def test_resume_takes_the_settings_of_the_run(copy, config):
    request = train.read_arguments(["--resume", str(copy), "--training.steps", "9"])
    assert request.resume and request.out == copy
    assert request.config.training.steps == 9
    assert request.config.model == config.model


@pytest.mark.parametrize(
    ("name", "value"), [("training.compile", "none"), ("training.cuda_graph", "off")]
)
def test_how_a_device_computes_may_change_and_is_noted(copy, config, name, value):
    request = train.read_arguments(["--resume", str(copy), f"--{name}", value])
    checkpoint = Run.open(copy).load_checkpoint()
    now = machine_facts(torch.device("cpu"), 1)
    (note,) = resume.differences(checkpoint, request.config, now)
    assert note == f"{name} is {value} and was auto: {resume.POSSIBLE}"


def test_resume_refuses_other_settings_by_name(copy, capsys, tmp_path):
    output = error_output(capsys, "--resume", copy, "--model.flow.filters", "5")
    assert "model.flow.filters is 4 in the run and cannot become 5" in output
    output = error_output(capsys, "photos", "--resume", copy)
    assert "is a run of the preset 'tiny', got 'photos'" in output
    output = error_output(capsys, "--resume", copy, "--out", tmp_path / "other")
    assert "out must be left out or be" in output
    assert "no run directory at" in error_output(capsys, "--resume", tmp_path / "none")


def test_damaged_metrics_are_refused_and_nothing_is_changed(copy, config):
    (copy / "result.json").unlink()
    file = copy / "metrics.jsonl"
    file.write_text("{\n" + file.read_text())
    before = file.read_text()
    with pytest.raises(resume.ResumptionError, match="line 1 is damaged: .* repair or remove"):
        loop.train(config, copy, resume=True)
    assert file.read_text() == before


def test_auto_starts_a_run_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not train.read_arguments(["--resume", "auto"]).resume
    request = train.read_arguments(["--resume", "auto", "--out", "new"])
    assert not request.resume and str(request.out) == "new"


def test_auto_takes_the_newest_unfinished(copy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(["tiny-1", "tiny-2", "tiny-3"]):
        shutil.copytree(copy, tmp_path / "runs" / name)
        os.utime(tmp_path / "runs" / name / "config.json", (number, number))
    (tmp_path / "runs" / "tiny-1" / "result.json").unlink()
    (tmp_path / "runs" / "tiny-2" / "result.json").unlink()
    assert resume.find_run("auto", None, "tiny").name == "tiny-2"
    assert resume.find_run("auto", None, "photos") is None


def test_auto_names_and_leaves_out_damaged_runs(copy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("tiny-1", "tiny-2", "tiny-3", "tiny-4"):
        shutil.copytree(copy, tmp_path / "runs" / name)
        (tmp_path / "runs" / name / "result.json").unlink()
    (tmp_path / "runs" / "tiny-2" / "config.json").write_text("{")
    (tmp_path / "runs" / "tiny-3" / ".lock").unlink()
    (tmp_path / "runs" / "tiny-3" / ".lock").symlink_to("elsewhere")
    (tmp_path / "runs" / "tiny-4" / "config.json").write_bytes(bytes(2 << 20))
    assert resume.find_run("auto", None, "tiny").name == "tiny-1"
    lines = capsys.readouterr().err.splitlines()
    assert sorted(line.split(":")[0] for line in lines) == [
        f"--resume auto leaves out runs/tiny-{number}" for number in (2, 3, 4)
    ]


def test_a_folder_of_checkpoints_removed_while_training(
    config, uninterrupted, tmp_path, monkeypatch
):
    write = RunLogger.log_training

    def removing(self, record):
        write(self, record)
        if record["step"] in (2, 4):
            for name in ("checkpoints", "samples"):
                shutil.rmtree(self.run.path / name)

    monkeypatch.setattr(RunLogger, "log_training", removing)
    loop.train(config, tmp_path / "run")
    files = Run.open(tmp_path / "run").checkpoint_files()
    assert [file.stem for file in files] == ["step-00000006", "step-00000007"]
    same_state(tmp_path / "run", uninterrupted)


def test_a_checkpoint_without_the_hash_of_its_data(copy, config, capsys):
    run = Run.open(copy)
    checkpoint = run.load_checkpoint()
    facts = {name: value for name, value in checkpoint.facts.items() if name != "data_sha256"}
    dataclasses.replace(checkpoint, facts=facts).save(run.checkpoint_path(checkpoint.step))
    (copy / "result.json").unlink()
    loop.train(config, copy, resume=True)
    assert "does not record the hash of its data" in capsys.readouterr().out


def test_the_result_of_a_copied_run_names_its_own_samples(copy, config):
    assert loop.train(config, copy, resume=True).samples.startswith(str(copy))


@pytest.mark.parametrize(
    "damage",
    [{"bits_per_dim": "x"}, {"steps": 7.0}, {"steps": True}, {"seconds": None}, {"a": 1}],
)
def test_a_damaged_result_is_refused(uninterrupted, damage):
    run = Run(uninterrupted)
    assert Result.of(run.facts("result.json"), run).steps == STEPS
    with pytest.raises(TypeError, match=next(iter(damage))):
        Result.of(run.facts("result.json") | damage, run)


def test_a_damaged_result_is_computed_again(copy, config):
    before = json.loads((copy / "result.json").read_text())
    (copy / "result.json").write_text(json.dumps(before | {"bits_per_dim": "x"}))
    assert loop.train(config, copy, resume=True).bits_per_dim == before["bits_per_dim"]


def test_a_directory_of_an_aborted_start_is_reused(tmp_path, config):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / ".config.json.17.part").touch()
    assert resume.find_run("auto", tmp_path / "run", "tiny") is None
    loop.train(config, tmp_path / "run")
