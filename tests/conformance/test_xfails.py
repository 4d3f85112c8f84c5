from __future__ import annotations

import sys

import pytest

from conformance.__main__ import main
from conformance.judging import xfails
from conformance.reports.result import Result

CASES, LAWS = ["affine/shared", "flip"], ["forward", "inverse"]
LINES = """
# known failures
affine/*, forward, float32, summed in another order, as BLAS does
flip, *, *, never finished
"""
TOML = """
[[xfail]]
case = "affine/*"
law = "forward"
dtype = "float32"
reason = "summed in another order, as BLAS does"

[[xfail]]
case = "flip"
reason = "never finished"
"""
needs_toml = pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with 3.11")


def written(tmp_path, text, name="known.txt"):
    file = tmp_path / name
    file.write_text(text)
    return file


def read(file):
    return xfails.read(file, cases=CASES, laws=LAWS)


@needs_toml
def test_lines_and_toml_are_equivalent(tmp_path):
    lines = read(written(tmp_path, LINES))
    assert lines == read(written(tmp_path, TOML, "known.toml"))
    assert lines[0].reason == "summed in another order, as BLAS does"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("affine/shared, forward, float32", "line 1: must be `case, law, dtype, reason`, got"),
        ("spline, forward, *, because", "no case 'spline'"),
        ("flip, gravity, *, because", "no law 'gravity'"),
        ("flip, forward, float16, because", "no dtype 'float16'"),
        ("flip, forward, *,", "no reason given for flip, forward"),
    ],
)
def test_mistakes_in_the_list_are_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message.replace("*", r"\*")):
        read(written(tmp_path, text))


@needs_toml
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[xfail]]\ncase = 'flip'\nreasons = 'x'", "no field reasons"),
        ("[[xfail]", "known.toml: "),
        ("[[xfail]]\ncase = 'flip'", "no reason given"),
    ],
)
def test_mistakes_in_toml_are_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(written(tmp_path, text, "known.toml"))


@pytest.mark.parametrize(
    ("status", "becomes", "message"),
    [
        ("fails", "expected", "expected (never finished): off by one"),
        ("holds", "fails", "listed as a known failure (never finished), but it holds: unlist it"),
        ("unsupported", "unsupported", "off by one"),
        ("left out", "left out", "off by one"),
    ],
)
def test_the_status_of_a_listed_cell(tmp_path, status, becomes, message):
    known = read(written(tmp_path, LINES))
    result = xfails.apply(
        Result("flip", "inverse", "float64", status, message="off by one"), known
    )
    assert (result.status, result.message) == (becomes, message)


def test_an_unlisted_cell_is_unchanged(tmp_path):
    known = read(written(tmp_path, LINES))
    result = Result("affine/shared", "forward", "float64", "fails")
    assert xfails.apply(result, known) == result


def test_the_command_line_with_a_list(tmp_path, capsys):
    arguments = [
        "--adapter",
        "conformance.adapter:ReferenceAdapter",
        "--cases",
        "flip",
        "affine/shared",
        "--laws",
        "forward",
        "--dtype",
        "float64",
        "--in-process",
    ]
    file = written(tmp_path, "flip, forward, *, it never worked")
    assert main([*arguments, "--xfails", str(file)]) == 1  # an unexpected pass
    assert "but it holds: unlist it" in capsys.readouterr().out
    assert main(arguments) == 0
