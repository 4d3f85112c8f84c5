"""Figures of the audit, as SVG to embed in a page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from conformance.audit.measures.accuracy import wrong_bits
from conformance.audit.measures.measure import Grids, Measurement
from conformance.audit.run import NEWTON

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

COLORS = {
    "LogitOfExp": "#c0392b",
    "ClampedLogit": "#e67e22",
    "ThreeLogSumExps": "#8e6bbf",
    "GuessedBracket": "#c0392b",
    "FixedBracket": "#8e6bbf",
    "ClippedInverse": "#e67e22",
}
JUDGED = ("#117864", "#2471a3", "#1b2631", "#b7950b")
BITS = LinearSegmentedColormap.from_list(
    "bits", ["#eef5ee", "#fdf3c4", "#f8b75a", "#d9482b", "#7d1020"]
)
NOT_FINITE = "#2b2b2b"
STYLE: Any = {  # Any: mypy expects literal keys of rcParams
    "font.size": 9.5, "axes.titlesize": 10.5, "axes.titleweight": "bold", "axes.grid": True,
    "grid.color": "#e6e6e6", "axes.edgecolor": "#999", "axes.spines.top": False,
    "axes.spines.right": False, "axes.axisbelow": True, "legend.frameon": False,
    "svg.hashsalt": "audit", "figure.constrained_layout.use": True,
}  # fmt: skip
QUANTITIES = {"y": "value y", "l": "log-derivative log dy/dx", "y_x": "gradient dy/dx"}


def error_curves(groups: dict[str, Sequence[Measurement]]) -> str:
    """Plot the largest error against |y|, for value and log-derivative, in each dtype."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(groups), 2, figsize=(10.5, 3.2 * len(groups)), sharex=True, squeeze=False
        )
        edges = np.geomspace(0.03, 3e6, 33)
        for line, (dtype, measured) in zip(axes, groups.items(), strict=True):
            for axis, quantity, bound in zip(line, ("y", "l"), (3, 16), strict=True):
                top = 3e17 if dtype == "float64" else 3e9
                for m in measured:
                    _curve(axis, m, quantity, edges, top)
                axis.axhline(bound, color="#555", lw=0.8, ls=":")
                axis.text(3.2e6, bound, f" {bound} u", va="center", fontsize=8, color="#555")
                axis.set(xscale="log", yscale="log", ylim=(0.2, top * 3))
                axis.set_title(f"{QUANTITIES[quantity]}, {dtype}", loc="left")
                axis.text(0.035, top * 1.3, "non-finite", fontsize=8, color="#777", va="center")
            line[0].set_ylabel("largest error, u")
        for axis in axes[-1]:
            axis.set_xlabel("|y| (logit of the mixture's CDF)")
        lines = {
            line.get_label(): line
            for axis in axes[:, 0]
            for line in axis.get_lines()
            if not line.get_label().startswith("_")
        }
        figure.legend(lines.values(), lines, loc="outside upper center", ncols=len(lines))
        return _svg(figure)


def _curve(axis: Any, m: Measurement, quantity: str, edges: np.ndarray, top: float) -> None:
    both = [m.errors[name] for name in ("random", "plane")]
    size = np.concatenate([e.size for e in both])
    error = np.concatenate([e.by[quantity] for e in both])
    bins = np.digitize(size, edges)
    x, largest = [], []
    for i in range(1, len(edges)):
        if (bins == i).sum() > 2:
            x.append(np.sqrt(edges[i - 1] * edges[i]))
            largest.append(min(float(error[bins == i].max()), top * 1.3))
    specimen = m.subject.role == "specimen"
    color = COLORS[m.subject.name] if specimen else JUDGED[m.subject.name == "reference"]
    axis.plot(
        x, np.maximum(largest, 0.25), color=color, label=m.subject.name,
        lw=1.3 if specimen else 2.2, marker="o" if specimen else None, ms=2.5,
        zorder=2 if specimen else 3,
    )  # fmt: skip


def heat_maps(grids: Grids, measured: Sequence[Measurement]) -> str:
    """Plot the number of wrong bits over x and log-scale, one row per subject."""
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = plt.subplots(
            len(measured), 3, figsize=(10.5, 1.9 * len(measured) + 0.6), sharex=True, sharey=True,
            squeeze=False,
        )  # fmt: skip
        shape = (len(grids.plane_c), len(grids.plane_x))
        ticks = _symmetric_ticks(grids.plane_x)
        cmap = BITS.with_extremes(over=NOT_FINITE)
        for line, m in zip(axes, measured, strict=True):
            for axis, (quantity, title) in zip(line, QUANTITIES.items(), strict=True):
                values = m.errors["plane"].by[quantity]
                if values is None:
                    axis.text(0.5, 0.5, "no gradients", transform=axis.transAxes, ha="center")
                    continue
                bits = wrong_bits(values).reshape(shape)
                bits = np.where(np.isfinite(bits), np.minimum(bits, 24), 1e3)
                mesh = axis.pcolormesh(
                    np.arange(shape[1]), grids.plane_c, bits,
                    cmap=cmap, vmin=0, vmax=24, shading="nearest", rasterized=True,
                )  # fmt: skip
                axis.set_title(f"{title}" if m is measured[0] else "", loc="left")
                axis.set_xticks(*ticks)
            line[0].set_ylabel(f"{m.subject.name}\n{m.subject.dtype}\nlog-scale", fontsize=8.5)
        for axis in axes[-1]:
            axis.set_xlabel("x (logarithmic on both sides of 0)")
        bar = figure.colorbar(mesh, ax=axes, shrink=0.7, pad=0.01, extend="max")
        bar.set_label("wrong bits; black: non-finite")
        return _svg(figure)


def _symmetric_ticks(x: np.ndarray) -> tuple[list[int], list[str]]:
    labelled = (-1e4, -100, -1, 0, 1, 100, 1e4)
    places = [int(np.abs(x - w).argmin()) if w else len(x) // 2 for w in labelled]
    return places, ["-1e4", "-100", "-1", "0", "1", "100", "1e4"]


def clamps(sweep: dict[str, Any], study: dict[str, Any]) -> str:
    """Plot the dead zone, the error at x = 20 and the cost for a model against the clamp."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.3))
        styles = {("float32", "left"): "-o", ("float32", "right"): "--o",
                 ("float64", "left"): "-s", ("float64", "right"): "--s"}  # fmt: skip
        for (dtype, side), style in styles.items():
            rows = sweep[dtype]
            axes[0].plot(
                [r["eps"] for r in rows], [r["dead_from"][side] or np.nan for r in rows], style,
                color=_dtype_color(dtype), ms=3.5, lw=1.2, label=f"{dtype}, {side} tail",
            )  # fmt: skip
        axes[0].set_title("y is constant from |x| =", loc="left")
        axes[0].set_ylabel("|x| (the mixture's scales are about 1)")
        axes[0].legend(fontsize=8)
        for dtype in ("float32", "float64"):
            for side, style in (("-20", "-o"), ("20", "--s")):
                rows = sweep[dtype]
                axes[1].plot(
                    [r["eps"] for r in rows], [_shown(r["at"][side]["y"]) for r in rows], style,
                    color=_dtype_color(dtype), ms=3.5, lw=1.2, label=f"{dtype}, x = {side}",
                )  # fmt: skip
        axes[1].set(yscale="log")
        axes[1].set_title("Error of y at x = -20 and 20", loc="left")
        axes[1].set_ylabel("|error of y|, equal to that of log dy/dx")
        axes[1].legend(fontsize=8, loc="upper right", bbox_to_anchor=(1.0, 0.85))
        _model_cost(axes[2], study)
        for axis in axes:
            axis.set_xscale("log")
            axis.invert_xaxis()
            axis.set_xlabel("clamp eps (right: weaker)")
        return _svg(figure)


def _model_cost(axis: Any, study: dict[str, Any]) -> None:
    axis.set_title("Error of bits/dim, worst image", loc="left")
    if "clamp" not in study:
        axis.text(0.5, 0.5, "no model", transform=axis.transAxes, ha="center", color="#777")
        axis.set_xlim(1e-22, 1e-2)
        return
    for state, style in (("trained", "-o"), ("untrained", "--s")):
        rows = study["clamp"][state]["float32"]
        axis.plot(
            [r["eps"] for r in rows], [max(r["largest_difference"], 1e-9) for r in rows], style,
            color="#8e44ad", ms=3.5, lw=1.2, label=f"{state}, float32",
        )  # fmt: skip
        lost = [r["eps"] for r in rows if r["non_finite_percent"]]
        if lost:
            axis.plot(
                lost, [0.97] * len(lost), "x", color=NOT_FINITE, ms=5, clip_on=False,
                transform=axis.get_xaxis_transform(), label=f"{state}: some images non-finite",
            )  # fmt: skip
    axis.set(yscale="log")
    axis.set_ylabel("|computed - exact|, bits/dim")
    axis.legend(fontsize=8, loc="upper right", bbox_to_anchor=(1.0, 0.8))


def iterations(methods: dict[str, Any], dtype: str) -> str:
    """Plot the evaluations of the mixture per element, and the share of missed targets."""
    shown = [
        (name, measured["hard"]) for name, measured in methods[dtype].items()
        if "50 sums" not in name
    ]  # fmt: skip
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(shown), 2, figsize=(10.5, 0.72 * len(shown) + 0.9),
            width_ratios=(3, 2), squeeze=False,
        )  # fmt: skip
        last = shown[-1][0]
        for line, (name, measured) in zip(axes, shown, strict=True):
            color = JUDGED[0] if name == NEWTON else "#7f8c8d" if "of F" not in name else "#c0392b"
            counts = measured["evaluations"]["histogram"]
            line[0].bar(list(counts), list(counts.values()), width=1.0, color=color)
            line[0].set(xlim=(0, 205), yticks=[])
            line[0].set_ylabel(name.replace(", ", "\n").replace(" +- ", " ±"), rotation=0,
                               ha="right", va="center", fontsize=8.5)  # fmt: skip
            missed = measured["missed_percent_by_target"]
            bars = line[1].bar(range(len(missed)), missed.values(), color=color, width=0.6)
            line[1].bar_label(bars, [f"{v:.0f}%" for v in missed.values()], fontsize=7.5)
            line[1].set(ylim=(0, 150), yticks=[], xticks=range(len(missed)))
            line[1].set_xticklabels(missed.keys() if name == last else [])
            if name != last:
                line[0].set_xticklabels([])
            for axis in line:
                axis.grid(visible=False)
        axes[0][0].set_title(f"evaluations per element, {dtype}", loc="left")
        axes[0][1].set_title("targets missed", loc="left")
        axes[-1][0].set_xlabel("evaluations of F (at most 200)")
        axes[-1][1].set_xlabel("|target y|")
        return _svg(figure)


def round_trips(study: dict[str, Any]) -> str:
    """Plot the round-trip error of each layer of the trained model, in both dtypes."""
    trips = {who: t["trained"] for who, t in study["round_trips"].items()
             if "raised" not in t["trained"]}  # fmt: skip
    shown = [who for who in trips if "Clamped" not in who and "Clipped" not in who
             and "Guessed" not in who] or list(trips)  # fmt: skip
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.6), sharey=True)
        for axis, start in zip(axes, ("data", "prior"), strict=True):
            for i, who in enumerate(shown[:3]):
                layers = [r for r in trips[who][start]["layers"] if r["max"] > 0]
                names = [r["layer"] for r in layers]
                places = np.array([int(n.split()[0]) for n in names])
                axis.plot(
                    [r["max"] for r in layers], places, "o", color=JUDGED[i], ms=4,
                    label=f"{who}, largest",
                )  # fmt: skip
                medians = [(r["median"], p) for r, p in zip(layers, places, strict=True)
                           if r["median"] > 0]  # fmt: skip
                if medians:
                    axis.plot(*zip(*medians, strict=True), "|", color=JUDGED[i], ms=8,
                              label=f"{who}, median")  # fmt: skip
                total = trips[who][start]["total"]["max"]
                axis.axvline(total, color=JUDGED[i], lw=1, ls=":")
            axis.set(xscale="log", xlabel="|round trip - start|")
        every = [r["layer"] for r in trips[shown[0]]["data"]["layers"]]
        moved = {
            row["layer"]
            for who in shown
            for start in ("data", "prior")
            for row in trips[who][start]["layers"]
            if row["max"] > 0
        }
        kept = [n for n in every if n in moved]
        axes[0].set_yticks([int(n.split()[0]) for n in kept], kept, fontsize=8)
        axes[0].invert_yaxis()
        axes[0].set_title("from an image: x → z → x", loc="left")
        axes[1].set_title("from noise: z → x → z", loc="left")
        marks = axes[1].get_legend_handles_labels()
        figure.legend(*marks, fontsize=8, loc="outside lower center", ncols=3)
        return _svg(figure)


def _dtype_color(dtype: str) -> str:
    return {"float32": "#2471a3", "float64": "#117864"}[dtype]


def _shown(value: float) -> float:
    return max(value, 1e-17) if np.isfinite(value) else np.nan


def _svg(figure: Any) -> str:
    for axis in figure.axes:
        axis.minorticks_off()  # they clutter axes of many decades
    with io.StringIO() as file:
        figure.savefig(file, format="svg", dpi=110, metadata={"Date": None})
        text = file.getvalue()
    plt.close(figure)
    return text[text.index("<svg") :]
