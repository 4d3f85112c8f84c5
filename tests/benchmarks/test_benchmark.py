"""The benchmark's measurements, and its baseline: the same results, without the kernels."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from flowpp.benchmark import machine, mixture, tasks, textbook
from flowpp.benchmark.__main__ import main
from flowpp.benchmark.tasks import Sizes
from flowpp.conditioner import Conditioner
from flowpp.config import presets
from flowpp.config.build import build_model
from flowpp.kernels.cpu import build
from flowpp.kernels.mixture_logistic import inverse_logit_cdf, logit_cdf

SMALL = Sizes(preset="digits", batch_size=2, elements=100, components=3)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--threads", "0"], "threads must be at least 1, got 0"),
        (["--warm_up", "-1"], "warm_up must be at least 0, got -1"),
        ([], "got 'cpp'"),
    ],
)
def test_invalid_settings_are_refused_before_measuring(capsys, monkeypatch, arguments, expected):
    monkeypatch.setenv("FLOWPP_BACKEND", "cpp")
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert expected in captured.out + captured.err


def test_the_textbook_mixture_agrees_in_the_body():
    torch.manual_seed(0)
    x, parameters = torch.randn(50), torch.randn(3, 50, 4).unbind()
    for got, expected in zip(
        textbook.logit_cdf(x, *parameters), logit_cdf(x, *parameters), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)
    got = textbook.inverse_logit_cdf(x, *parameters)
    torch.testing.assert_close(got, inverse_logit_cdf(x, *parameters), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("task", ["evaluate", "train", "sample"])
def test_the_textbook_model_agrees(task):
    results = {}
    for name, function in tasks.functions(task, SMALL).items():
        torch.manual_seed(0)
        results[name] = function()
    if task == "train":  # on other images
        assert results["textbook"].isfinite()
        return
    assert isinstance(results["library"], torch.Tensor)
    if task == "evaluate":
        torch.testing.assert_close(*results.values(), rtol=1e-3, atol=0.1)
    else:
        different = results["library"] != results["textbook"]
        assert different.float().mean() < 0.05  # values near an integer may round either way


def test_the_training_step_is_the_trainers_own():
    sizes = replace(SMALL, precision="bfloat16", memory="low")
    step = tasks.functions("train", sizes, ("library",))["library"]
    state = step.trainer.state
    before = [p.detach().clone() for p in state.model.parameters()]
    for _ in range(3):
        step()
    assert (state.step, state.skipped, len(state.recent)) == (3, 0, 3)
    assert all(math.isfinite(bits) for bits in state.recent)
    for p, former in zip(state.model.parameters(), before, strict=True):
        torch.testing.assert_close(p, former, rtol=0, atol=1e-10)
    settings = step.trainer.settings
    assert (settings.precision, settings.memory, settings.batch_size) == ("bfloat16", "low", 2)
    networks = [m for m in state.model.modules() if isinstance(m, Conditioner)]
    assert networks and all(n.compute_dtype is torch.bfloat16 for n in networks)
    assert step.notes == []


ALL_PARTS = {"_WinogradBackward", "_AttentionBackward", "_ConcatEluBackward", "_GatedSumBackward"}


@pytest.mark.skipif(not build.is_available("layers.cpp"), reason="no C++ compiler here")
@pytest.mark.parametrize(
    ("changes", "own_parts"),
    [
        ({}, ALL_PARTS),
        ({"attention": "none"}, ALL_PARTS - {"_AttentionBackward"}),
        ({"attention": "maxout", "dropout": 0.2}, {"_DropoutBackward", "_GatedSumBackward"}),
        ({"activate_last": True}, ALL_PARTS),
    ],
)
def test_the_baseline_uses_no_kernels_of_the_library(changes, own_parts):
    torch.manual_seed(0)
    former = presets.get("cifar16").model
    flow, dequantizer = (replace(f, **changes) for f in (former.flow, former.dequantizer))
    config = replace(former, flow=flow, dequantizer=dequantizer)
    library = build_model(config, (3, 16, 16), 256)
    noise = library.dequantizer.draw_noise((2, 3, 16, 16), dtype=torch.float32)
    x = torch.randint(256, (2, 3, 16, 16)).float()
    own = operations(library.train().elbo(x, noise).total.sum())
    assert own_parts <= own
    plain = operations(textbook.model(library).train().elbo(x, noise).total.sum())
    assert "ConvolutionBackward0" in plain
    assert [name for name in plain if name[0] == "_" or "flowpp" in name] == []


def operations(result):
    """Return names of the recorded autograd nodes; Python functions begin with an underscore."""
    names, left, seen = set(), [result.grad_fn], set()
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            names.add(node.name())
            left += [function for function, _ in node.next_functions]
    return names


@pytest.mark.parametrize(
    ("task", "numbers"),
    [("mixture forward", 12), ("mixture backward", 34), ("mixture inverse", 11)],
)
def test_bytes_of_the_mixture(task, numbers):
    assert mixture.bytes_moved(task, SMALL.mixture) == 4 * 100 * numbers


def test_flops_of_a_training_step_are_about_three_times_those_of_an_evaluation():
    ratio = tasks.flops("train", SMALL) / tasks.flops("evaluate", SMALL)
    assert 2.5 < ratio < 3.1


def test_a_report_is_complete(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(machine, "BANDWIDTH_BYTES", 1 << 16)
    monkeypatch.setattr(machine, "MATRIX", 64)
    path = tmp_path / "report.json"
    main(
        f"--preset digits --what train,mixture --elements 100 --components 3 --repeats 1 "
        f"--warm-up 0 --no-peak-memory --json {path}".split()
    )
    report = json.loads(path.read_text())
    assert [r["task"] for r in report["results"]] == ["train", *mixture.TASKS]
    for record in report["results"]:
        for version in tasks.VERSIONS:
            assert record[version]["seconds"] > 0
    assert report["machine"]["matmul_flops_per_second"] > 0
    assert "mixture inverse" in capsys.readouterr().out


def test_a_folder_gets_a_new_file_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "BANDWIDTH_BYTES", 1 << 16)
    monkeypatch.setattr(machine, "MATRIX", 64)
    for count in (1, 2):
        report = main(
            "--preset digits --what mixture --elements 10 --components 2 --repeats 1 "
            f"--warm-up 0 --no-peak-memory --json {tmp_path}".split()
        )
        files = sorted(tmp_path.iterdir())
        assert len(files) == count
        assert all(file.name.startswith(f"{report['date']}-digits-") for file in files)


def test_peak_memory_is_that_of_another_process():
    from flowpp.benchmark.memory import peak_in_fresh_process

    before = peak_in_fresh_process("mixture forward", "library", SMALL)
    held = torch.zeros(1 << 28)  # 1 GiB of this process, not of the measured one
    after = peak_in_fresh_process("mixture forward", "library", SMALL)
    assert held.numel() and 5e7 < before and after < before + 5e8


def test_an_unknown_task_is_an_error_of_one_line(capsys):
    with pytest.raises(SystemExit):
        main(["--what", "train,fly"])
    assert "got 'fly'" in capsys.readouterr().err
