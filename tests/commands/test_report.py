"""`python -m flowpp.report`: one page of a run, finished or not, looked at in a browser."""

from __future__ import annotations

import dataclasses
import html
import json
import re
import shutil
from pathlib import Path

import pytest

import conformance.reports
import flowpp.evaluation
from browser import seen
from flowpp import evaluate, report
from flowpp.config import presets
from flowpp.config.serialization import to_dict
from flowpp.evaluation.bound import Estimate
from flowpp.evaluation.curves import curves_figure
from flowpp.evaluation.run_settings import differences
from flowpp.runs.run import Run
from flowpp.runtime.files import write_json


def text_of(page):
    """Return the text of a page without its styles, figures and data."""
    page = re.sub(r"(?s)<(style|svg)\b.*?</\1>|data:[^\"]*", " ", page.replace("<wbr>", ""))
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


@pytest.fixture
def run(tiny_run, tmp_path):
    return Run.open(shutil.copytree(tiny_run[0], tmp_path / "run"))


@pytest.fixture
def page(run):
    def write(*flags):
        report.main([str(run.path), "--device", "cpu", *flags])
        return (run.path / "report.html").read_text(encoding="utf-8")

    return write


def test_it_has_number_baselines_pictures_settings_and_environment(tiny_run, run, page):
    evaluate.main([str(run.path), "--importance-samples", "2"])
    result = tiny_run[1]
    written = page()
    text = text_of(written)
    assert f"{result.bits_per_dim:.4f} ± {result.standard_error:.4f} bits/dim" in text
    assert "after 3 steps on 297 held-out images" in text
    low, high = Estimate(result.bits_per_dim, result.standard_error, 297).interval()
    assert text.count(f"{low:.4f} \N{HORIZONTAL ELLIPSIS} {high:.4f}") == 2
    assert f"independent pixels {result.histogram:.4f}" in text
    assert f"uniform {result.uniform:.4f}" in text and "2 importance samples" in text
    assert "samples of the averaged weights at step 3" in text and "step 2" in text
    assert "8 held-out images, and below each its reconstruction" in text
    assert "0 of 512 pixel values changed" in text
    assert "model.flow.filters 4" in text and "versions.torch" in text
    assert "of the averaged weights are still those before the first step" in text
    assert written.count("<img ") == 2 + 2 + 1 and written.count("<svg") == 1


@pytest.mark.parametrize("width", [1250, 500])  # headless windows have at least 500 pixels
def test_a_browser_shows_it_whole(width, run, page, tmp_path):
    page()
    found = seen(run.path / "report.html", tmp_path, width)
    assert found["images"] == 5 and not found["broken"] and found["figures"] == 1
    assert found["overflow"] <= 0 and not found["unseen"]
    assert not found["requests"] and not found["errors"]
    for heading in ("Result", "Warnings and notes", "Curves", "Samples", "Reconstructions"):
        assert heading in found["text"]


def test_nothing_in_the_result_is_wider_than_a_phone(run, page, tmp_path):
    page()
    frame = tmp_path / "frame.html"
    frame.write_text(
        "<!doctype html><html><head></head><body><iframe width=390 height=9000 id=frame "
        f'srcdoc="{html.escape((run.path / "report.html").read_text())}"></iframe>'
        """<script>addEventListener("load", () => {
          const page = document.getElementById("frame").contentDocument;
          const wide = [...page.querySelectorAll("section")]
            .filter((section) => section.scrollWidth > section.clientWidth);
          document.body.append(`${page.documentElement.scrollWidth} wide`,
            ...wide.map((section) => ` ${section.id}`));
        });</script></body></html>"""
    )
    found = seen(frame, tmp_path)
    assert found["text"].strip() == "390 wide"


def test_settings_changed_from_the_preset_are_shown(run, page):
    config = run.config()
    digits = dataclasses.replace(config, preset="digits")
    write_json(run.path / "config.json", to_dict(digits))
    usual = presets.get("digits").training.batch_size
    assert f"training.batch_size 8 {usual}" in text_of(page("--reconstructions", "0"))


@pytest.mark.parametrize("flags", [["--data.size=8"], ["--data.size", "8"]])
def test_settings_that_the_preset_chose_are_not_those_of_the_user(flags):
    config = presets.get("small")
    chosen = dataclasses.replace(config, data=dataclasses.replace(config.data, size=8, bits=8))
    found = differences(chosen, [*flags, "--data.path", "x"])
    assert found.given == [("data.size", 8, None)] and found.chosen == [("data.bits", 8, None)]
    other = dataclasses.replace(chosen, preset="glow")
    assert ("data.bits", 8, None) in differences(other, flags).given
    assert differences(dataclasses.replace(chosen, preset="of another version"), flags) is None


def test_one_training_point_and_whole_error_bars_are_visible(run):
    (run.path / "metrics.jsonl").write_text("")
    run.append_record({"step": 5, "bits_per_dim": 4.0, "grad_norm": 3.0})
    run.append_record({"step": 5, "held_out_bits_per_dim": 4.1, "held_out_standard_error": 2.0})
    axes = curves_figure([run]).axes[0]
    assert axes.lines[0].get_marker() == "."
    low, high = axes.get_ylim()
    assert low < 0.1 and high > 8.1


def test_the_stylesheet_that_two_trees_have_is_the_same():
    """They may not import each other, so each has a copy."""
    copies = [root / "templates" / "base.css" for root in (
        Path(conformance.reports.__path__[0]), Path(flowpp.evaluation.__path__[0]))]  # fmt: skip
    assert copies[0].read_bytes() == copies[1].read_bytes()


def warnings_after(change, run, page):
    change()
    written = page("--reconstructions", "0")
    return written[written.index('id="warnings"') : written.index('id="curves"')]


def change_result(run, **values):
    file = run.path / "result.json"
    write_json(file, {**json.loads(file.read_text()), **values})


def append(run, **values):
    run.append_record({"step": 3, **values})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda run: (run.path / "result.json").unlink(),
            "training is not finished: 3 of 3 steps",
        ),
        (lambda run: change_result(run, stopped="after 1 minutes"), "stopped after 1 minutes"),
        (lambda run: append(run, skipped=2), "2 of 3 steps were skipped"),
        (lambda run: change_result(run, histogram=0.5), "no better than independent pixels"),
        (lambda run: change_result(run, augmentation="flips"), "trained with flips"),
        (lambda run: append(run, held_out_bits_per_dim=9.0), "held-out bits/dim rose from"),
        (lambda run: append(run, held_out_bits_per_dim=1.0), "the inverse failed"),
        (
            lambda run: append(run, held_out_bits_per_dim=1.0, round_trip_max=3.0),
            "changes pixels by up to 3 grey levels",
        ),
    ],
)
def test_warnings(change, message, run, page):
    assert message in warnings_after(lambda: change(run), run, page)


def test_a_run_of_two_environments_says_so(run, page):
    environment = json.loads((run.path / "environment.json").read_text())
    later = {"step": 2, **{name: environment[name] for name in ("versions", "device")}}
    later["threads"] = 77
    write_json(run.path / "environment.json", {**environment, "continued": [later, 3]})
    text = text_of(page("--reconstructions", "0"))
    assert "another environment computed the steps from 2 on" in text
    assert "from step 2: threads 77" in text and text.count("from step 2: ") == 1


def test_a_failed_run_says_so(run, page):
    change_result(run, bits_per_dim=None, failure="the bits/dim are nan")
    text = text_of(page("--reconstructions", "0"))
    assert "Result the bits/dim are nan" in text and "no better than" not in text


def test_a_run_in_training_has_a_page(run, page):
    (run.path / "result.json").unlink()
    assert "the training is not finished." in text_of(page())
    (run.path / "metrics.jsonl").unlink()
    for file in (run.path / "samples").iterdir():
        file.unlink()
    text = text_of(page())
    assert "no evaluation yet" in text and "no metrics yet" in text and "no pictures yet" in text


def test_without_its_data_the_page_says_why(run, page):
    config = run.config()
    moved = dataclasses.replace(config.data, source="folder", path="/nowhere", size=8)
    write_json(run.path / "config.json", to_dict(dataclasses.replace(config, data=moved)))
    assert "none: folder: /nowhere is not a folder" in text_of(page())


def test_texts_and_pictures_of_a_run_from_elsewhere_are_not_trusted(run, page):
    environment = json.loads((run.path / "environment.json").read_text())
    environment["data"]["notes"] = ["<script>alert(1)</script>"]
    write_json(run.path / "environment.json", environment)
    (run.path / "samples" / "step-00000009.png").write_bytes(b"<svg onload=alert(1)>")
    (run.path / "evaluations").mkdir(exist_ok=True)
    (run.path / "evaluations" / "a.json").write_text('{"bounds": [3], "data": {}, "weights": {}}')
    (run.path / "evaluations" / "b.json").write_text("[")
    written = page("--reconstructions", "0")
    assert "<script>" not in written and "&lt;script&gt;" in written and "onload" not in written


@pytest.mark.parametrize(
    ("flags", "message"),
    [(["--out", "x.pdf"], "out must end in .html"), (["--reconstructions", "-1"], "at least 0")],
)
def test_mistakes(flags, message, run, capsys):
    with pytest.raises(SystemExit, match="2"):
        report.main([str(run.path), *flags])
    assert message in " ".join(capsys.readouterr().err.split())
