from __future__ import annotations

import dataclasses
import io
import json
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from browser import seen
from conformance.__main__ import main
from conformance.reports.html import html_report
from conformance.reports.junit import junit
from conformance.reports.markdown import badge, markdown, proof_rows
from conformance.reports.result import Result, as_json, from_json, wrong_bits
from conformance.reports.terminal import failure, show, summary
from conformance.reports.verdict import proven

UNSAFE = "<script>alert('&')</script>"
RESULTS = [
    Result("affine/shared", "forward", "float64", "holds", 2.0, 16.0, "typical, y: 2 ulps"),
    Result(
        "affine/shared",
        "log_det",
        "float64",
        "fails",
        1e15,
        48.0,
        f"off {UNSAFE}",
        hint="log_det of forward has the opposite sign",
        reproducer="python -m conformance",
        point={
            "index": [0],
            "got": -1.0,
            "want": 1.0,
            "x": "(2,) [1, 2]",
            "parameters": {"class": "Affine", "shift": "(1,) [3]"},
        },
    ),
    Result("flip", "contract", "float32", "fails", None, 0.0, "forward is NaN \x00 here"),
    Result("flip", "gradients", "float32", "unsupported", message="no gradients yet"),
    Result("flip", "batch", "float32", "left out", message="nothing to say"),
    Result("sigmoid", "inverse", "float32", "expected", float("inf"), 16.0, "expected (old): bad"),
    Result("log_normal", "value", "float64", "holds", 0.0, 64.0),
    Result("flip/random", "random_specs", "float64", "holds", 0.0, 1.0),
]
ABOUT = {"adapter": f"mine:{UNSAFE}", "device": "cpu", "seed": 0, "examples": 1, "seconds": 1.5}


class Reader(HTMLParser):
    """Check that tags close, and collect classes, ids, links and loaded files."""

    EMPTY = ("meta", "br", "link", "img")

    def __init__(self):
        super().__init__()
        self.open, self.loaded, self.classes, self.ids, self.links = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.loaded += [values[n] for n in ("src",) if n in values] + [tag] * (tag == "link")
        self.links += [values["href"]] if "href" in values else []
        self.classes.append(values.get("class", ""))
        self.ids += [values["id"]] if "id" in values else []
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read(page):
    reader = Reader()
    reader.feed(page)
    assert not reader.open
    return reader


def test_the_page_is_complete_self_contained_and_escaped():
    page = html_report(RESULTS, ABOUT)
    reader = read(page)
    assert not reader.loaded
    assert "<script>alert" not in page
    assert page.count("<script>") == 1
    assert all(
        status in reader.classes for status in ("holds", "fails", "unsupported", "expected")
    )


def test_a_failing_cell_links_to_its_details():
    reader = read(html_report(RESULTS, ABOUT))
    assert sorted(reader.links) == sorted(f"#{name}" for name in reader.ids)


def test_the_worst_point_is_shown():
    page = html_report(RESULTS, ABOUT)
    for text in ("49.8 bits wrong", "parameter shift", "(1,) [3]", "opposite sign", "expected"):
        assert text in page


def test_a_page_without_failures_says_so():
    assert "All cells hold (1)" in html_report(RESULTS[:1], ABOUT)
    assert "Nothing was proven: no case could be judged" in html_report(RESULTS[3:5], ABOUT)


def test_junit_counts_results_and_replaces_forbidden_characters():
    suite = ElementTree.fromstring(junit(RESULTS, name="mine"))[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("8", "2", "3")
    failures = suite.findall("testcase/failure")
    assert "opposite sign" in failures[0].text and "python -m conformance" in failures[0].text
    assert failures[1].get("message") == "forward is NaN ? here"
    reasons = [skipped.get("message") for skipped in suite.findall("testcase/skipped")]
    assert reasons[0] == "unsupported: no gradients yet"


def test_json_is_strict_and_round_trips():
    text = json.dumps(as_json(RESULTS), allow_nan=False)
    back = [from_json(value) for value in json.loads(text)]
    assert back == RESULTS
    assert json.loads(text)[5]["ulps"] == "inf"


@pytest.mark.parametrize(
    ("ulps", "dtype", "bits"),
    [
        (0.0, "float64", 0),
        (1.0, "float64", 0),
        (8.0, "float64", 3),
        (1e99, "float64", 53),
        (float("inf"), "float32", 24),
        (float("nan"), "float32", 24),
        (None, "float64", None),
    ],
)
def test_wrong_bits(ulps, dtype, bits):
    assert wrong_bits(ulps, dtype) == bits


def test_proven_requires_a_law_that_holds_and_no_failure():
    holds, fails, _, unsupported, left_out, expected = RESULTS[:2] + RESULTS[2:6]
    assert proven([holds, unsupported, left_out]) and proven([holds, expected])
    assert not proven([holds, fails])
    assert not proven([unsupported, left_out]) and not proven([])


def test_the_summary_counts_reasons_and_causes():
    text = summary(RESULTS)
    assert "3 holds, 0 imprecise, 2 fails, 1 expected, 1 unsupported, 1 left out" in text
    assert "not supported 1 times: no gradients yet" in text
    cause = "probable cause of 1 failure (affine: log_det): log_det of forward has the opposite"
    assert cause in text
    assert "reproduce: python -m conformance" in failure(RESULTS[1])


def test_a_failure_at_both_dtypes_and_in_several_cases_is_printed_once():
    first = dataclasses.replace(RESULTS[1], hint="log_det lacks the factor H*W = 6")
    at_float32 = dataclasses.replace(first, dtype="float32")
    elsewhere = dataclasses.replace(first, case="squeeze", hint="log_det lacks the factor H*W = 2")
    other_law = dataclasses.replace(first, law="inverse")
    shown = io.StringIO()
    show([first, at_float32, elsewhere, other_law], file=shown, rich=False)
    text = shown.getvalue()
    assert text.count("FAILS ") == 2 and text.count("reproduce: ") == 2
    assert "FAILS affine/shared | log_det | float64, float32: off" in text
    assert "  the same: squeeze (float64)" in text
    where = "affine: log_det, inverse; squeeze: log_det"
    assert f"probable cause of 4 failures ({where}): log_det lacks the factor H*W = 6" in text


def test_exceptions_are_among_the_causes():
    place = "ValueError: cannot reshape array of size 0 (/home/me/flow.py:21)"
    found = [
        Result(case, "batch", dtype, "fails", message=f"typical, forward of {size}: {place}")
        for case, size in (("affine/shared", "(0, 2)"), ("affine/line", "(0, 1)"))
        for dtype in ("float64", "float32")
    ]
    assert f"exception of 4 failures (affine: batch): {place}" in summary(found)
    shown = io.StringIO()
    show(found, file=shown, rich=False)
    assert shown.getvalue().count("FAILS ") == 1
    assert "the same: affine/line" in shown.getvalue()


def test_failures_without_a_cause_are_printed_for_each_case():
    plain = [dataclasses.replace(RESULTS[2], case=case) for case in ("flip", "squeeze")]
    shown = io.StringIO()
    show(plain, file=shown, rich=False)
    assert shown.getvalue().count("FAILS ") == 2


def test_every_text_of_a_cell_is_explained():
    shown = io.StringIO()
    show(RESULTS, file=shown, rich=False)
    table, key = shown.getvalue().split("\n! fails")
    assert "violation!" in table and "violation: " in key
    assert all(mark in key for mark in ("~ ", "n/a ", "- "))
    assert "violation" in html_report(RESULTS, ABOUT).partition("<table")[0]


def test_what_was_proven_as_markdown():
    text = markdown(RESULTS, ABOUT | {"examples": 3})
    first, _, head, *_ = text.splitlines()
    assert first == badge(RESULTS) and first.endswith("-red)") and "3%20of%206" in first
    assert "seeds 0 ... 2: 3 of 6 cells hold, 2 fail, 1 fail as expected" in head
    rows = {line.split(" | ")[0]: line for line in text.splitlines() if line.startswith("| ")}
    assert rows["| forward"].endswith(" | 1 of 1 | 0 | 0.12 |")
    assert " | 0 of 1 | " in rows["| log_det"] and "| gradients" not in rows
    assert "| exact |" in rows["| contract"]


@pytest.mark.parametrize(
    ("chosen", "color"), [(RESULTS[:1], "brightgreen"), (RESULTS[:2], "red"), ([], "red")]
)
def test_the_color_of_the_badge(chosen, color):
    assert badge(chosen).endswith(f"-{color})")
    expected = dataclasses.replace(RESULTS[0], law="inverse", status="expected")
    assert badge([RESULTS[0], expected]).endswith("-yellow)")


def test_laws_about_the_reference_are_not_in_the_proof():
    result = dataclasses.replace(RESULTS[0], law="reference_jacobian")
    assert proof_rows([result]) == []


def test_tables_without_a_judged_cell_are_left_out():
    shown = io.StringIO()
    show(RESULTS[3:5] + RESULTS[6:7], file=shown, rich=False)
    assert "float64, of layers" in shown.getvalue() and "float32" not in shown.getvalue()
    page = html_report(RESULTS[3:5] + RESULTS[6:7], ABOUT)
    assert "float64, of layers" in page and "float32: largest" not in page


def test_cells_that_hold_stand_beside_their_limits():
    page = html_report(RESULTS[:1], ABOUT)
    assert "2<small> / 16</small>" in page.replace("\n", "")


def test_all_reports_of_a_run(tmp_path):
    files = {name: tmp_path / f"report.{name}" for name in ("html", "json", "junit", "markdown")}
    arguments = [f"--{name}={file}" for name, file in files.items()]
    assert (
        main(
            [
                *arguments,
                "--adapter",
                "conformance.adapter:ReferenceAdapter",
                "--in-process",
                "--cases",
                "affine/shared",
                "--laws",
                "forward",
                "--dtype",
                "float64",
            ]
        )
        == 0
    )
    read(files["html"].read_text())
    assert "| forward | " in files["markdown"].read_text()
    assert json.loads(files["json"].read_text())["cells"][0]["status"] == "holds"
    assert ElementTree.fromstring(files["junit"].read_text())[0].get("tests") == "1"


def test_a_browser_shows_the_page(tmp_path):
    page = tmp_path / "report.html"
    page.write_text(html_report(RESULTS, ABOUT), encoding="utf-8")
    found = seen(page, tmp_path)
    assert not found["errors"] and not found["requests"] and not found["broken"]
    assert not found["unseen"] and "The laws" in found["text"]
