"""`python -m flowpp.train --help` describes every setting."""

from __future__ import annotations

import re

import pytest

from flowpp import train
from flowpp.config import presets


@pytest.fixture
def text(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit, match="0"):
        train.main(["digits", "--help"])
    return capsys.readouterr().out


def test_every_setting_has_a_description(text):
    settings = re.findall(r"^[│ ] +(--[\w.]+).*\n[│ ] +(.*)$", text, flags=re.MULTILINE)
    assert len(settings) > 60
    assert [name for name, line in settings if line.lstrip().startswith("(default")] == []


def test_layouts_are_explained_once(text):
    assert text.count("column stripes") == 1


def test_every_preset_is_listed(text):
    assert all(f"\n  {name} " in text for name in presets.PRESETS)


def test_no_line_is_wider_than_the_terminal(text):
    assert [line for line in text.splitlines() if len(line) > 100] == []
