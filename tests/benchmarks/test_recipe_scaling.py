"""The law of loss against weights and images seen, and the picture of how far runs came."""

from __future__ import annotations

import json

import numpy as np
import pytest

from flowpp.benchmark.recipe import figure, scaling
from flowpp.benchmark.recipe.learning_curves import learning_curves
from flowpp.benchmark.recipe.scaling import Point
from flowpp.benchmark.recipe.scaling_picture import scaling_picture

TRUE = {"floor": 3.0, "width_exponent": 0.4, "length_exponent": 0.6}
WIDTHS, LENGTHS = (400_000, 1_500_000, 4_300_000), (6_000, 12_000, 24_000)


def loss(n, d):
    return 3.0 + 0.9 * (n / 1e6) ** -0.4 + 1.1 * (d / 1e4) ** -0.6


def measured(noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Point(n, d, loss(n, d) + noise * rng.standard_normal()) for n in WIDTHS for d in LENGTHS
    ]


def test_a_law_without_noise_is_recovered():
    found = scaling.fit(measured(), resamples=2)
    for name, value in TRUE.items():
        assert getattr(found.law, name) == pytest.approx(value, rel=2e-3)
    assert found.law.loss(3e7, 2e7) == pytest.approx(loss(3e7, 2e7), abs=1e-3)
    assert found.residual < 1e-6


def test_intervals_cover_the_law_that_made_the_points():
    covered = 0
    for seed in range(8):
        found = scaling.fit(measured(0.005, seed), resamples=40, seed=seed)
        low, high = found.interval(lambda law: law.loss(5e6, 5e4))
        assert low < high < low + 1
        covered += low <= loss(5e6, 5e4) <= high
    assert covered >= 6  # of 8: fewer with probability 0.006 at a coverage of 95 %


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (measured()[:3] * 3, "at least 3 widths are needed, got 1"),
        (measured()[::3] * 3, "at least 3 lengths are needed, got 1"),
        (measured()[::4], "at least 6 runs are needed, got 3"),
    ],
)
def test_too_few_points_are_refused(given, expected):
    with pytest.raises(ValueError, match=expected):
        scaling.fit(given)


def run(step, bound, failure=None):
    held_out = {} if bound is None else {str(step): bound}
    return {"seed": 0, "held_out": held_out, "steps_done": step, "failure": failure}


def row(name, steps, *runs):
    return {"name": name, "steps": steps, "batch_size": 16, "weights": 100, "runs": list(runs)}


def test_points_are_the_finished_runs_of_a_report(tmp_path, capsys):
    rows = [row("a", 50, run(50, 4.0), run(30, None)), row("b", 20, run(20, 5.0))]
    assert scaling.points({"rows": rows}) == [Point(100, 800, 4.0), Point(100, 320, 5.0)]
    rows = [
        {**row("a", d // 16, run(d // 16, loss(n, d // 16 * 16))), "weights": n}
        for n in WIDTHS
        for d in LENGTHS
    ]
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"rows": rows}))
    found = scaling.main([str(path)])
    assert found.law.floor == pytest.approx(3.0, rel=1e-2)
    assert "| E, bits/dim | 3.0" in capsys.readouterr().out


def test_the_picture_marks_runs_that_became_nan(tmp_path):
    rows = [
        row("ours", 1500, run(1500, 4.613)),
        row("released", 1500, run(101, None, "step 102: the loss is NaN")),
        row("not started", 1500),
    ]
    drawn = figure.stability({"rows": rows})
    axes = drawn.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [1500, 101]
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["4.613 bits/dim held out", "NaN in step 102"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ours", "released"]
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"rows": rows}))
    figure.main([str(path), "--out", str(tmp_path / "a.svg")])
    figure.main([str(path), "--out", str(tmp_path / "b.svg")])
    assert (tmp_path / "a.svg").read_text() == (tmp_path / "b.svg").read_text()
    assert (tmp_path / "a.svg").read_text().startswith("<svg")


def test_learning_curves_are_means_over_seeds(tmp_path):
    def seeds(*bounds):
        return [
            {"seed": i, "held_out": {"10": b + 1, "20": b}, "steps_done": 20, "failure": None}
            for i, b in enumerate(bounds)
        ]

    rows = [
        {**row("ours", 20, *seeds(3.0, 3.2)), "source": None},
        {**row("theirs", 20, *seeds(4.0)), "source": "a file"},
        {**row("not started", 20), "source": None},
    ]
    axes = learning_curves({"rows": rows, "steps": [10, 20, 30]}).axes[0]
    lines = {line.get_label(): line for line in axes.lines if line.get_label()[0] != "_"}
    np.testing.assert_allclose(lines["ours"].get_xydata(), [[10, 4.1], [20, 3.1]])
    np.testing.assert_allclose(lines["theirs"].get_xydata(), [[10, 5], [20, 4]])
    assert list(lines) == ["ours", "theirs"] and lines["theirs"].get_linestyle() == "--"
    band = axes.collections[0].get_paths()[0].vertices
    assert np.ptp(band[band[:, 0] == 20, 1]) == pytest.approx(2 * np.std([3.0, 3.2], ddof=1))
    with pytest.raises(ValueError, match="held-out bounds, got none"):
        learning_curves({"rows": rows[2:], "steps": [10]})


def test_the_scaling_picture_has_a_line_of_the_law_for_each_width(tmp_path):
    given = measured()
    found = scaling.fit(given, resamples=2)
    axes = scaling_picture(given, found).axes[0]
    assert [c.get_label() for c in axes.containers] == [f"{n:,} weights" for n in sorted(WIDTHS)]
    curve = axes.lines[0].get_xydata()
    np.testing.assert_allclose(curve[:, 1], [loss(min(WIDTHS), d) for d in curve[:, 0]], rtol=1e-3)


@pytest.mark.parametrize("kind", ["steps", "curves", "scaling"])
def test_each_picture_is_drawn_by_the_command(kind, tmp_path, capsys):
    rows = [
        {**row("a", d // 16, run(d // 16, loss(n, d))), "weights": n, "source": None}
        for n in WIDTHS
        for d in LENGTHS
    ]
    path, out = tmp_path / "report.json", tmp_path / "a.svg"
    path.write_text(json.dumps({"rows": rows, "steps": sorted(d // 16 for d in LENGTHS)}))
    figure.main([str(path), "--kind", kind, "--out", str(out)])
    assert out.read_text().startswith("<svg") and capsys.readouterr().out == f"{out}\n"
