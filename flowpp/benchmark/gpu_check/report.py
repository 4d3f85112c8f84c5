"""The check's goals, and its report as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Results = Mapping[str, Any]
LINE = "{:<18} {:<8} {:>6}  {}"


def goals(results: Results) -> list[dict[str, Any]]:
    """Return the goals for an H100, each with what was measured, as far as it was."""
    measured: list[tuple[str, str, float, Callable[[], float]]] = [
        ("training step of 64 in bfloat16, ms", "at most", 45.0, lambda: _step_ms(results, 64)),
        ("share of bfloat16 peak at 64", "at least", 0.15, lambda: _peak(results, 64)),
        ("share of bfloat16 peak at 256", "at least", 0.30, lambda: _peak(results, 256)),
        ("kernels of a step of 64", "at most", 3500.0, lambda: _launches(results, "kernels")),
        ("host synchronizations of a step", "at most", 0.0, lambda: _synchronizations(results)),
    ]
    for layout in ("NCHW", "channels last"):
        for direction in ("forward", "backward"):
            task = f"mixture {direction}, {layout}"
            measured.append(
                (
                    f"{task}: share of copy bandwidth",
                    "at least",
                    0.70,
                    lambda task=task: _bandwidth(results, task),  # type: ignore[misc]
                )
            )
    return [_goal(*entry) for entry in measured]


def line(record: Mapping[str, Any]) -> str:
    """Return a stage's line of the table."""
    words = record["error"] or headline(record["name"], record["result"] or {})
    return LINE.format(record["name"], record["status"], f"{record['seconds']:.0f} s", words)


def headline(name: str, result: Results) -> str:
    """Return the main numbers of a stage in a few words."""
    if name == "machine":
        return str(result.get("card") or result["processor"])
    if name == "compiler":
        registers = [entry["registers"] for entry in result["nvcc"].values()]
        return f"{result['architecture']}: at most {max(registers)} registers, no spills"
    if name == "tests":
        return f"{result['passed']} passed, {result['skipped']} skipped"
    if name.startswith("laws"):
        return ", ".join(f"{count} {status}" for status, count in result["counts"].items())
    if name == "mixture" or name.startswith("step"):
        return "; ".join(map(_speed, result["results"]))
    if name == "fingerprint":
        return (
            f"outputs within {result['largest_output_ulps']:.3g} ulps, log-determinants "
            f"{result['largest_log_det_ulps']:.3g}, "
            f"{result['bits_per_dim']['largest_difference']:.1e} bits/dim"
        )
    if name == "initialization":
        return f"float32 {_range(result['float32'])}, bfloat16 {_range(result['bfloat16'])}"
    if name == "training":
        points = [*result["held_out"], *result["training"][-1:]]
        return (
            f"{result['steps']:,} steps, {result['images_seen']:,} images, resumed at "
            f"{result['interrupted_at_step']}, {points[-1]['bits_per_dim']:.3f} bits/dim"
        )
    if "bounds" in result:
        bound = result["bounds"][-1]
        return f"{bound['mean']:.3f} +- {bound['standard_error']:.3f} bits/dim"
    return ", ".join(result.get("files", ()))


def ending(report: Mapping[str, Any]) -> str:
    """Return the goals and the outcome."""
    lines = []
    if report["goals"]:
        lines.append("\ngoals (for an H100; they do not change the exit status)")
    for goal in report["goals"]:
        value = goal["measured"]
        found = "not measured" if value is None else f"{value:.4g}"
        met = {True: "met", False: "missed", None: ""}[goal["met"]]
        asked = f"{goal['bound']} {goal['value']:g}"
        lines.append(f"  {goal['goal']}: {asked}, {found} {met}".rstrip())
    if report["failing"]:
        lines.append(f"\nfailed: {', '.join(report['failing'])}")
    else:
        lines.append(f"\nall stages passed in {report['seconds']:.0f} s")
    return "\n".join(lines)


def _goal(name: str, bound: str, value: float, measure: Callable[[], float]) -> dict[str, Any]:
    try:
        found: float | None = measure()
    except (KeyError, IndexError, TypeError, StopIteration):  # the stage has no such result
        found = None
    met = None
    if found is not None:
        met = found <= value if bound == "at most" else found >= value
    return {"goal": name, "bound": bound, "value": value, "measured": found, "met": met}


def _library(results: Results, stage: str, task: str) -> dict[str, Any]:
    records: Iterable[dict[str, Any]] = results[stage]["results"]
    return dict(next(r for r in records if r["task"] == task)["library"])


def _step_ms(results: Results, batch: int) -> float:
    return 1e3 * float(_library(results, f"step-{batch}-bfloat16", "train")["seconds"])


def _peak(results: Results, batch: int) -> float:
    entry = _library(results, f"step-{batch}-bfloat16", "train")
    return float(entry["share_of_matmul_peak"])


def _launches(results: Results, name: str) -> float:
    return float(_library(results, "step-64-bfloat16", "train")["launches"][name])


def _synchronizations(results: Results) -> float:
    entry = _library(results, "step-64-bfloat16", "train")["host_synchronizations"]
    return float(entry["count"])


def _bandwidth(results: Results, task: str) -> float:
    return float(_library(results, "mixture", task)["kernel_share_of_bandwidth"])


def _speed(record: Mapping[str, Any]) -> str:
    entry = record["library"]
    share = entry.get("kernel_share_of_bandwidth", entry.get("share_of_bandwidth"))
    share = entry.get("share_of_matmul_peak", share)
    task = record["task"].removeprefix("mixture ")
    return f"{task} {1e3 * entry['seconds']:.3g} ms, {share:.0%} of peak"


def _range(deviations: Mapping[str, float]) -> str:
    return f"{deviations['smallest']:.4f} ... {deviations['largest']:.4f}"
