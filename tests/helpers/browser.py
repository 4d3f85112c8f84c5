"""HTML pages in a real browser: headless Chromium or Chrome."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MEASURE = """
<script>
addEventListener("load", () => {
  const images = [...document.images], figures = [...document.querySelectorAll("figure svg")];
  const boxes = [...document.querySelectorAll("section, h1, p, table, figure")];
  document.body.dataset.seen = JSON.stringify({
    images: images.length,
    broken: images.filter((image) => !image.naturalWidth).length,
    figures: figures.filter((svg) => svg.getBoundingClientRect().height > 100).length,
    overflow: document.documentElement.scrollWidth - innerWidth,
    requests: performance.getEntriesByType("resource").map((entry) => entry.name)
      .filter((name) => !name.startsWith("data:")),
    unseen: boxes.filter((box) => box.offsetParent && !box.getBoundingClientRect().height).length,
    text: document.body.innerText,
    errors: window.problems,
  });
});
</script>
"""
ERRORS = "<script>window.problems = []; onerror = (m) => { problems.push(String(m)); };</script>"


def seen(page: Path, folder: Path, width: int = 1250) -> dict:
    """Return what a browser shows of a page; skip the test if there is no browser.

    Args:
        page: HTML file.
        folder: Folder for a copy of the page that measures itself, and for the browser's profile.
        width: Width of the window in pixels.

    Returns:
        Numbers of `images`, `broken` images and visible `figures`; `overflow` to the right in
        pixels; `requests` other than for data URIs; `unseen` boxes without height; the visible
        `text`; `errors` of scripts.
    """
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        pytest.skip(f"needs a browser: one of {', '.join(NAMES)}")
    copy = folder / f"probe-{width}.html"
    text = page.read_text(encoding="utf-8").replace("<head>", f"<head>{ERRORS}", 1)
    copy.write_text(text.replace("</body>", f"{MEASURE}</body>"), encoding="utf-8")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},1500",
        f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=10000", "--dump-dom",
        copy.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))
