"""A run that another environment continues says so, and records it from that step on."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

from flowpp.data import load
from flowpp.kernels import in_use
from flowpp.kernels.backend import use_backend
from flowpp.kernels.cpu import build
from flowpp.kernels.in_use import kernels_in_use
from flowpp.runs import environment, machine_facts
from flowpp.runs.environment_record import record_environment, recorded_facts
from flowpp.runs.machine_facts import DESCRIPTIONS, different_facts
from flowpp.runs.run import Run
from flowpp.training import loop, resume

CPU = torch.device("cpu")
STORED = Path(__file__).parents[1] / "data" / "runs" / "0.1.0"


@pytest.fixture(scope="module")
def finished(tiny_config, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "finished"
    loop.train(tiny_config, out)
    return out


@pytest.fixture
def copy(finished, tmp_path):
    return Run.open(shutil.copytree(finished, tmp_path / "copy"))


def longer(config, run, **settings):
    steps = run.load_checkpoint().step + 1
    settings = dataclasses.replace(config.training, steps=steps, **settings)
    return dataclasses.replace(config, training=settings)


def written(run):
    return json.loads((run.path / "environment.json").read_text())


@pytest.fixture
def described(tiny_config):
    return environment.describe(CPU, 0, load(tiny_config.data))


# ---- comparison


@pytest.mark.parametrize("fact", DESCRIPTIONS)
def test_each_fact_is_compared_where_the_checkpoint_records_it(copy, tiny_config, fact):
    checkpoint = copy.load_checkpoint()
    now = machine_facts.machine_facts(CPU, 1)
    assert now == {key: checkpoint.facts[key] for key in DESCRIPTIONS}
    assert resume.differences(checkpoint, tiny_config, now) == []
    former = checkpoint.facts[fact] or "former"
    known = dataclasses.replace(checkpoint, facts={**checkpoint.facts, fact: former})
    (note,) = resume.differences(known, tiny_config, now | {fact: "other"})
    assert note.startswith(f"{DESCRIPTIONS[fact]} is other and was {former}: the result may not")
    without = {key: value for key, value in checkpoint.facts.items() if key != fact}
    unrecorded = dataclasses.replace(checkpoint, facts=without)
    assert resume.differences(unrecorded, tiny_config, now | {fact: "other"}) == []
    (note,) = resume.differences(
        unrecorded, tiny_config, now | {fact: "other"}, {fact: "recorded"}
    )
    assert f"{DESCRIPTIONS[fact]} is other and was recorded" in note


def test_all_differences_are_in_one_line(copy, tiny_config):
    now = machine_facts.machine_facts(CPU, 2) | {"torch": "3.0", "kernels": "torch"}
    now |= {"kernel_code": None, "compiler": None}
    (note,) = resume.differences(copy.load_checkpoint(), tiny_config, now)
    assert note == (
        f"the number of processes is 2 and was 1, the torch version is 3.0 and was "
        f"{torch.__version__}, the backend of the kernels is torch and was cpu: "
        f"{resume.POSSIBLE}; noise and dropout are drawn anew"
    )


def test_values_from_a_file_take_one_line():
    (clause,) = different_facts({"torch": "2.9\n" + "x" * 1000}, {"torch": "2.13"})
    assert "\n" not in clause and len(clause) < 300


def test_facts_of_version_0_1_0_come_from_its_environment():
    assert recorded_facts(Run.open(STORED)) == {
        "torch": "2.13.0+cpu",
        "device": "cpu",
        "processor": "AMD EPYC",
        "instructions": "AVX512",
        "kernels": "cpu",
    }


# ---- kernels


def test_kernels_are_named_with_sources_and_compiler():
    if not build.is_available("layers.cpp"):
        pytest.skip("no C++ compiler here")
    found = kernels_in_use(CPU)
    assert found["kernels"] == "cpu" and len(found["kernel_code"]) == 16
    assert any(digit in found["compiler"] for digit in "0123456789")
    with use_backend("torch"):
        assert kernels_in_use(CPU) == {"kernels": "torch", "kernel_code": None, "compiler": None}


def test_another_source_or_flag_is_another_code(monkeypatch, tmp_path):
    codes = [in_use._cpu_code.__wrapped__(("layers",))]
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-O2"))
    codes.append(in_use._cpu_code.__wrapped__(("layers",)))
    folder = shutil.copytree(build.FOLDER, tmp_path / "cpu")
    (folder / "parallel.h").write_text((folder / "parallel.h").read_text() + "//\n")
    monkeypatch.setattr(build, "FOLDER", folder)
    codes.append(in_use._cpu_code.__wrapped__(("layers",)))
    assert len(set(codes)) == 3


def test_a_missing_kernel_is_named(monkeypatch):
    def available(source):
        return source != "convolution.cpp"

    monkeypatch.setattr(build, "is_available", available)
    assert kernels_in_use(CPU)["kernels"] == "cpu, but torch for convolution"


# ---- record


def test_the_same_environment_leaves_the_record_as_it_is(copy, tiny_config):
    before = (copy.path / "environment.json").read_bytes()
    loop.train(longer(tiny_config, copy), copy.path, resume=True)
    assert (copy.path / "environment.json").read_bytes() == before


def test_a_run_continued_by_torch_says_and_records_it(copy, tiny_config, capsys):
    if not build.is_available("layers.cpp"):
        pytest.skip("no C++ compiler here")
    started, step = written(copy), copy.load_checkpoint().step
    with use_backend("torch"):
        loop.train(longer(tiny_config, copy), copy.path, resume=True)
    assert f"the backend of the kernels is torch and was cpu: {resume.POSSIBLE}" in " ".join(
        capsys.readouterr().out.split()
    )
    assert copy.load_checkpoint().facts["kernels"] == "torch"
    record = written(copy)
    (entry,) = record.pop("continued")
    assert record == started
    assert (entry["step"], entry["kernels"]) == (step, "torch")
    assert entry["versions"] == started["versions"] and "data" not in entry
    assert recorded_facts(copy)["kernels"] == "torch"
    loop.train(longer(tiny_config, copy), copy.path, resume=True)
    first, second = written(copy)["continued"]
    assert first == entry
    assert (second["step"], second["kernels"]) == (step + 1, "cpu")


def test_records_of_steps_that_are_done_again_are_removed(copy, described):
    other = {**described, "threads": 99}
    for step in (2, 5, 5, 9):
        assert record_environment(copy, step, {**other, "platform": f"system {step}"}) is None
    assert [entry["step"] for entry in written(copy)["continued"]] == [2, 5, 9]
    record_environment(copy, 5, {**other, "platform": "system 2", "arguments": ["--resume"]})
    assert [entry["step"] for entry in written(copy)["continued"]] == [2]
    record_environment(copy, 1, described)
    assert written(copy)["continued"] == []


@pytest.mark.parametrize("content", ["{", "[1]", '{"continued": 3}', '{"continued": [1, {}]}'])
def test_a_damaged_record_is_reported_or_completed(copy, described, content):
    (copy.path / "environment.json").write_text(content)
    problem = record_environment(copy, 3, described)
    if content.startswith('{"'):
        assert problem is None
        assert [entry["step"] for entry in written(copy)["continued"]] == [3]
    else:
        assert "from step 3 on is not recorded" in problem
        assert (copy.path / "environment.json").read_text() == content
        assert recorded_facts(copy) == {}
