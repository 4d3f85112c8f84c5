"""HTML page of a run, from the template `report.html.jinja`: one file, readable offline."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from flowpp.config.serialization import to_dict
from flowpp.evaluation.bound import Estimate
from flowpp.evaluation.curves import curves_figure
from flowpp.evaluation.figures import svg
from flowpp.evaluation.page_images import embedded_file
from flowpp.evaluation.run_settings import differences, environments, flat
from flowpp.runs.environment_record import continued
from flowpp.runs.metrics import HELD_OUT, Record
from flowpp.runs.run import Run
from flowpp.runtime import bounded

MAX_SAMPLES = 8
"""Sample grids shown, spread over the training."""
_PARTS = {"train": "training images ", "valid": "validation images ", "other": "other images "}
LARGEST_JSON = 1 << 24
"""Bytes; larger files are not read."""


def render(run: Run, reconstructions: Mapping[str, str], warnings: Sequence[str] = ()) -> str:
    """Return the page as one self-contained HTML document.

    Args:
        run: The run, finished or not.
        reconstructions: `text`, and `image` as a data URI if there is one.
        warnings: Further notes.

    Raises:
        ValueError: Damaged settings or metrics.
    """
    environment = Environment(
        loader=PackageLoader("flowpp.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    loader = environment.loader
    assert loader is not None
    styles = [loader.get_source(environment, name)[0] for name in ("base.css", "report.css")]
    template = environment.get_template("report.html.jinja")
    return template.render(
        stylesheet=Markup("".join(styles)), dot=Markup(".<wbr>"), **_values(run),
        reconstructions={"image": "", **reconstructions},
        warnings=[*_warnings(run), *(("note", line) for line in warnings)],
        written=time.strftime("%Y-%m-%d %H:%M"),
    ).lstrip()  # fmt: skip


def _values(run: Run) -> dict[str, Any]:
    config, records = run.config(), run.metrics()
    result, facts = read_json(run.path / "result.json"), read_json(run.path / "environment.json")
    evaluations = list(_receipts(run))
    held_out = run.path / "samples" / "held-out.png"
    changed = differences(config, facts.get("arguments"))
    data = facts.pop("data", {})
    data = data if isinstance(data, dict) else {}
    return {
        "name": run.path.resolve().name,
        "preset": config.preset,
        "description": config.description.rstrip("."),
        "headline": {"failure": "", "number": "", **_headline(result, records, data)},
        "codes": _codes(result, data, evaluations),
        "classes": _classes(result),
        "curves": Markup(svg(curves_figure([run]))) if records else "",
        "samples": _samples(run),
        "held_out": embedded_file(held_out) if held_out.is_file() else "",
        "evaluations": [_evaluation_row(receipt) for receipt in evaluations],
        "given": changed.given if changed else [],
        "chosen": changed.chosen if changed else [],
        "known": changed is not None,
        "settings": flat(to_dict(config)),
        "data": [row for row in flat(data) if row[1] not in ("", None)],
        "environment": environments(facts),
    }  # fmt: skip


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a file; an empty one if the file is missing or damaged."""
    try:
        value = bounded.read_json(file, LARGEST_JSON)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _finite(value: object) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) else None  # type: ignore[arg-type]


def plus_minus(mean: object, error: object) -> str:
    """Format a number and its standard error, if they are finite."""
    value, spread = _finite(mean), _finite(error)
    if value is None:
        return "not finite"
    return f"{value:.4f}" + ("" if spread is None else f" \N{PLUS-MINUS SIGN} {spread:.4f}")


def interval(mean: object, error: object, count: object) -> str:
    """Format the 95 % interval of a mean over `count` images, empty if it is unknown."""
    value, spread = _finite(mean), _finite(error)
    if value is None or spread is None or not isinstance(count, int) or count < 2:
        return ""
    low, high = Estimate(value, spread, count).interval()
    return f"{max(0.0, low):.4f} \N{HORIZONTAL ELLIPSIS} {high:.4f}"


def _headline(
    result: Mapping[str, Any], records: Sequence[Record], data: Mapping[str, Any]
) -> dict[str, str]:
    unit = "bits/dim"
    if result:
        if _finite(result.get("bits_per_dim")) is None:
            return {"failure": str(result.get("failure") or "the bits/dim are not finite")}
        count = data.get("held_out", "the")
        return {
            "number": plus_minus(result["bits_per_dim"], result.get("standard_error")),
            "unit": unit,
            "meaning": f"One-sample bound of the averaged weights after {result.get('steps')} "
            f"steps on {count} held-out images; {_hours(result.get('seconds'))} of training."
            + _interval_of(result["bits_per_dim"], result.get("standard_error"), count),
        }
    last = next((r for r in reversed(records) if _finite(r.get(HELD_OUT)) is not None), None)
    if last is None:
        return {}
    return {
        "number": plus_minus(last[HELD_OUT], last.get("held_out_standard_error")),
        "unit": unit,
        "meaning": f"One-sample bound of the averaged weights at step {last['step']} on "
        f"{last.get('held_out_images')} held-out images; the training is not finished."
        + _interval_of(
            last[HELD_OUT], last.get("held_out_standard_error"), last.get("held_out_images")
        ),
    }


def _interval_of(mean: object, error: object, count: object) -> str:
    text = interval(mean, error, count)
    return f" 95 % interval: {text}." if text else ""


def _hours(seconds: object) -> str:
    value = _finite(seconds)
    if value is None:
        return "an unknown time"
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


def _codes(
    result: Mapping[str, Any], data: Mapping[str, Any], receipts: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the model's numbers and the baselines, each with the length of its bar."""
    rows: list[tuple[str, object, object, object]] = []
    if result:
        one = (result.get("bits_per_dim"), result.get("standard_error"))
        rows.append(("one-sample bound", *one, data.get("held_out", 0)))
        if result.get("valid_bits_per_dim") is not None:
            valid = (result["valid_bits_per_dim"], result.get("valid_standard_error"))
            rows.append(("validation images", *valid, data.get("valid", 0)))
        if result.get("without_label") is not None:
            none = (result["without_label"], result.get("without_label_standard_error"))
            rows.append(("with label none", *none, data.get("held_out", 0)))
    best = _tightest(receipts, result)
    if best is not None:
        name = f"{best['importance_samples']} importance samples"
        rows.append((name, best.get("mean"), best.get("standard_error"), best.get("count", 0)))
    for name, key in (("independent pixels", "histogram"), ("uniform", "uniform")):
        rows.append((name, result.get(key), None, None))
    finite = [(name, v, e, count) for name, value, e, count in rows
              if (v := _finite(value)) is not None]  # fmt: skip
    largest = max((abs(value) for _, value, _, _ in finite), default=1.0) or 1.0
    return [
        {
            "name": name, "text": plus_minus(value, error), "model": count is not None,
            "interval": interval(value, error, count),
            "percent": f"{max(0.0, 100 * value / largest):.1f}",
        }
        for name, value, error, count in finite
    ]  # fmt: skip


def _classes(result: Mapping[str, Any]) -> list[tuple[object, ...]]:
    """Return name, bits per dimension and number of images of each class, if there are any."""
    classes = result.get("per_class")
    rows = classes.items() if isinstance(classes, dict) else ()
    return [
        (name, plus_minus(row.get("bits_per_dim"), row.get("standard_error")), row.get("count"))
        for name, row in rows
        if isinstance(row, dict)
    ]


def _tightest(
    receipts: Sequence[Mapping[str, Any]], result: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """Return the bound of most samples on all the run's held-out images, at the last step."""
    bounds = [
        bound
        for receipt in receipts
        if receipt["weights"].get("step") == result.get("steps")
        and receipt["data"].get("count") == receipt["data"].get("held_out_images")
        and receipt["data"].get("part", "test") == "test"
        and "other data" not in str(receipt["data"].get("evaluated"))
        and _own_contexts(receipt)
        for bound in receipt["bounds"]
        if bound.get("importance_samples", 1) > 1
    ]
    return max(bounds, key=lambda bound: bound["importance_samples"], default=None)


def _own_contexts(receipt: Mapping[str, Any]) -> bool:
    """Return whether each image had its own context, not one label for all."""
    context = receipt.get("context")
    return not isinstance(context, dict) or context.get("label") is None


def _receipts(run: Run) -> Iterator[dict[str, Any]]:
    """Yield the receipts of `evaluate`, the oldest first."""
    for file in sorted((run.path / "evaluations").glob("*.json")):
        receipt = read_json(file)
        parts = [receipt.get(name) for name in ("data", "weights")]
        bounds = receipt.get("bounds")
        if all(isinstance(part, dict) for part in parts) and isinstance(bounds, list) and bounds:
            if all(isinstance(bound, dict) for bound in bounds):
                yield receipt


def _evaluation_row(receipt: Mapping[str, Any]) -> tuple[object, ...]:
    bound = receipt["bounds"][-1]
    data = receipt["data"]
    label = "" if _own_contexts(receipt) else f", label {receipt['context']['label']}"
    return (
        str(receipt.get("date")).replace("T", " "),
        f"{data.get('count')} {_PARTS.get(str(data.get('part')), '')}of {data.get('name')}{label}",
        bound.get("importance_samples"),
        plus_minus(bound.get("mean"), bound.get("standard_error")),
        receipt["weights"].get("step"),
    )


def _samples(run: Run) -> list[dict[str, Any]]:
    """Return sample grids over the training, the newest last."""
    files = sorted((run.path / "samples").glob("step-*.png"))
    if len(files) > MAX_SAMPLES:
        last = len(files) - 1
        files = [files[round(i * last / (MAX_SAMPLES - 1))] for i in range(MAX_SAMPLES)]
    named = ((file.stem.removeprefix("step-"), embedded_file(file)) for file in files)
    return [
        {"step": int(step), "image": image} for step, image in named if step.isdecimal() and image
    ]


def _warnings(run: Run) -> Iterator[tuple[str, str]]:
    """Yield what a reader of the number must know: (`warning` or `note`, text)."""
    config, records = run.config(), run.metrics()
    result, facts = read_json(run.path / "result.json"), read_json(run.path / "environment.json")
    steps, done = config.training.steps, max((r["step"] for r in records), default=0)
    if not result:
        yield "warning", f"the training is not finished: {done} of {steps} steps are logged"
    elif result.get("stopped"):
        yield "note", f"training stopped {result['stopped']}"
    skipped = max((r.get("skipped") or 0 for r in records), default=0)
    if skipped:
        yield (
            "warning",
            f"{skipped} of {done} steps were skipped, because their loss or gradient was not "
            "finite; the first batches are in non-finite/",
        )
    if result and _finite(result.get("bits_per_dim")) is not None:
        yield from _beside_baselines(result)
    yield from _from_evaluations(records)
    if result.get("augmentation"):
        yield "note", f"trained with {result['augmentation']}"
    for entry in continued(facts):
        yield "note", f"another environment computed the steps from {entry['step']} on"
    data = facts.get("data")
    if isinstance(data, dict):
        for line in data.get("notes") or ():
            yield "note", str(line)
        if data.get("skipped"):
            yield "note", f"{len(data['skipped'])} files of the data set were skipped"


def _beside_baselines(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, key in (("independent pixels", "histogram"), ("a uniform code", "uniform")):
        baseline = _finite(result.get(key))
        if baseline is not None and result["bits_per_dim"] >= baseline:
            yield "warning", f"the model is no better than {name}"


def _from_evaluations(records: Sequence[Record]) -> Iterator[tuple[str, str]]:
    held_out = [r for r in records if _finite(r.get(HELD_OUT)) is not None]
    if not held_out:
        return
    best, last = min(held_out, key=lambda r: r[HELD_OUT]), held_out[-1]
    if last[HELD_OUT] > best[HELD_OUT] + (_finite(best.get("held_out_standard_error")) or 0.0):
        yield (
            "warning",
            f"held-out bits/dim rose from {best[HELD_OUT]:.4f} at step {best['step']} to "
            f"{last[HELD_OUT]:.4f} at step {last['step']}, as in overfitting; --checkpoint best "
            "takes the former",
        )
    error = _finite(last.get("round_trip_max"))
    if error is None:
        yield "warning", "the inverse failed at the last evaluation: its round trip has no error"
    elif error > 0.5:
        yield "warning", f"the round trip changes pixels by up to {error:.3g} grey levels"
