"""Each module has a place in the API reference, and only one."""

from __future__ import annotations

import sys

import pytest

from documents import ROOT


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch):
    """The modules `api_topics` and `api_pages` of docs/."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import api_pages
    import api_topics

    yield api_topics, api_pages
    for name in ("api_topics", "api_pages"):
        del sys.modules[name]


def all_modules(api_pages) -> list[str]:
    return [name for tree in api_pages.TREES for name in api_pages.module_names(tree)]


def test_each_module_has_one_topic(topics):
    api_topics, api_pages = topics
    names = all_modules(api_pages)
    by_topic = api_topics.modules_by_topic(names)
    placed = [name for modules in by_topic.values() for name in modules]
    assert sorted(placed) == sorted(set(names) - set(api_topics.LEFT_OUT))
    assert all(by_topic.values())


def test_a_module_without_topic_and_a_topic_without_module_are_refused(topics):
    api_topics, api_pages = topics
    names = all_modules(api_pages)
    with pytest.raises(ValueError, match="flowpp.unplaced must belong to a topic"):
        api_topics.modules_by_topic([*names, "flowpp.unplaced"])
    with pytest.raises(ValueError, match="must name existing modules, got .*flowpp.plot"):
        api_topics.modules_by_topic([name for name in names if name != "flowpp.plot"])


def test_a_closer_package_decides(topics):
    api_topics, api_pages = topics
    by_topic = api_topics.modules_by_topic(all_modules(api_pages))
    assert "flowpp.runs.open_model" in by_topic["trained-models"]
    assert "flowpp.runs.checkpoint" in by_topic["runs"]


def test_page_of_a_topic(topics):
    api_topics, api_pages = topics
    topic = api_topics.Topic("x", "Title", "Use `a`; see [b](../cli.md).", ("flowpp.plot",))
    page = api_pages.topic_page(topic, ["flowpp.plot"])
    assert page.startswith("Title\n=====\n\nUse ``a``; see :doc:`b <../cli>`.\n")
    assert ".. automodule:: flowpp.plot" in page
