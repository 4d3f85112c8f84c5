"""The audit command: page, numbers, exit status and error messages."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from browser import seen
from conformance.adapter import NotSupported
from conformance.audit import budget, run
from conformance.audit.__main__ import main
from conformance.audit.measures import models
from conformance.audit.report import page

TINY = budget.Budget(24, (1, 4), 24, 21, 5, 33, 61, 30, 6, 0)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(budget, "QUICK", TINY)


@pytest.fixture(scope="module")
def good(tmp_path_factory, run_directory):
    """Return exit status and folder of an audit of flowpp and the reference, with a model."""
    out = tmp_path_factory.mktemp("good")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget, "QUICK", TINY)
        patch.setattr(models, "ROUND_TRIP_SPECIMENS", ("ClampedLogit",))
        for module in ("models", "clamp"):
            patch.setattr(f"conformance.audit.measures.{module}.SIZES", (1e-2, 1e-22))
        return main(["--quick", "--run", str(run_directory), "--out", str(out)]), out


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.links = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [v for k, v in attributes if k in ("src", "href", "xlink:href", "data")]


def test_flowpp_and_the_reference_are_good(good):
    status, out = good
    assert status == 0
    assert sorted(p.name for p in out.iterdir()) == ["audit.json", "index.html"]


def test_the_page_is_self_contained(good):
    text = (good[1] / "index.html").read_text(encoding="utf-8")
    found = Page(text)
    assert not {"link", "script", "iframe", "object"} & set(found.tags)
    assert all(link.startswith(("#", "data:")) for link in found.links)
    assert not re.search(r"url\(\s*['\"]?(?!#|data:)", text)
    assert "@import" not in text
    assert found.tags.count("figure") >= 5
    for heading in (
        "Verdicts",
        "Effect of clamping the CDF",
        "Inverting the mixture",
        "Round trips through a whole model",
    ):
        assert f"<h2>{heading}</h2>" in text


def test_the_numbers_are_strict_json_with_their_environment(good):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    text = (good[1] / "audit.json").read_text(encoding="utf-8")
    numbers = json.loads(text, parse_constant=refuse)
    environment = numbers["environment"]
    assert environment["seed"] == 0
    assert {"python", "processor", "versions", "torch", "threads"} <= environment.keys()
    assert {s["dtype"] for s in numbers["subjects"]} == {"float32", "float64"}
    assert {v["status"] for v in numbers["verdicts"]} <= {"good", "note"}
    assert all(v["status"] == "good" for v in numbers["audit_of_the_audit"])
    assert set(numbers["clamp"]) >= {"float32", "float64", "sizes"}


def test_a_run_is_audited_as_a_whole(good):
    study = json.loads((good[1] / "audit.json").read_text(encoding="utf-8"))["model"]
    assert study["model"] == "digits, step 6"
    assert set(study["mixtures"]) == {"flowpp float32", "flowpp float64", "reference float64"}
    assert {row["dtype"] for row in study["dtypes"]} >= {"float32", "bfloat16", "float16"}
    assert set(study["round_trips"]["flowpp float32"]) == {"trained", "untrained"}
    assert "ClampedLogit float32" in study["round_trips"]


def test_a_specimen_as_adapter_gets_a_bad_verdict(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(page, "render", lambda report: "")  # covered by another test
    name = "conformance.audit.subjects.specimens:ClampedLogit"
    assert main(["--quick", "--out", str(tmp_path), "--adapter", name]) == 1
    printed = capsys.readouterr().out
    assert "BAD   ClampedLogit float32: dead zone: y is constant" in printed
    assert "Bad: ClampedLogit" in printed
    assert "flowpp float32" in printed  # shown for comparison
    assert "bits/dim and round trips: no run was given" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--adapter", "nowhere:No"], "No module 'nowhere' for the adapter 'nowhere:No'"),
        (["--adapter", "Clamped"], "An adapter name must be module:Class, got 'Clamped'"),
        (
            ["--adapter", "conformance.audit.subjects.specimens:Lost"],
            "Module 'conformance.audit.subjects.specimens' has no class 'Lost'",
        ),
        (
            ["--adapter", f"{__name__}:Unable"],
            f"{__name__}:Unable has no MixtureLogistic "
            "(float32: only squares; float64: only squares)",
        ),
        (
            ["--adapter", f"{__name__}:Broken"],
            "Broken cannot build a MixtureLogistic in float32: KeyError: 'logits'",
        ),
        (["--run", "no/such/run"], "no run directory at no/such/run"),
        (["--run", "."], ". is not a run directory: it has no config.json"),
    ],
)
def test_invalid_arguments_give_a_one_line_error(
    arguments, message, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(["--quick", *arguments]) == 2
    assert capsys.readouterr().err == f"conformance.audit: {message}\n"


def test_an_output_folder_that_cannot_be_created(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["--quick", "--out", str(tmp_path / "file")]) == 2
    assert "cannot write to" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--unknown"], ["--quick", "--full"]])
def test_invalid_flags_are_rejected(arguments):
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2


def test_an_adapter_that_raises_gets_a_bad_verdict(tmp_path, capsys):
    name = f"{__name__}:Raising"
    assert main(["--quick", "--out", str(tmp_path), "--adapter", name]) == 1
    printed = capsys.readouterr().out
    assert "BAD   Raising float32: outputs: raised RuntimeError: out of order" in printed
    assert run.subjects(name)[0][0].supported() is None


class Unable:
    def __init__(self, dtype="float64", device="cpu"):
        pass

    def build(self, spec):
        raise NotSupported("only squares")


class Broken(Unable):
    def build(self, spec):
        raise KeyError("logits")


class Raising(Unable):
    def build(self, spec):
        return self

    def forward(self, x, context=None):
        raise RuntimeError("out of order")


@pytest.mark.parametrize("width", [1250, 420])
def test_a_browser_shows_the_page_whole(width, good, tmp_path):
    found = seen(good[1] / "index.html", tmp_path, width)
    assert found["figures"] >= 5 and not found["broken"]
    assert found["overflow"] <= 0 and not found["unseen"]
    assert not found["requests"] and not found["errors"]
    for heading in ("Accuracy", "Error over x and log-scale", "Smallest |x| with a wrong result"):
        assert heading in found["text"]
