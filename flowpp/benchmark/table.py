"""The report as a text table."""

from __future__ import annotations

from typing import Any

from .machine import name
from .tasks import VERSIONS

COLUMNS = "{:<31} {:<9} {:>10} {:>12} {:>10} {:>9} {:>7}"


def heading(report: dict[str, Any]) -> str:
    """Return the description of the machine and the sizes, and the column names."""
    machine, sizes = report["machine"], report["sizes"]
    description = (
        f"{name(machine)} ({machine['device']}), {machine['threads']} threads, torch "
        f"{machine['torch']}: {_products(machine)} in matrix products, "
        f"{machine['bytes_per_second'] / 1e9:.1f} GB/s copied\n"
        f"{sizes['preset']}, batches of {sizes['batch_size']}, {sizes['precision']}; mixture of "
        f"{sizes['components']} components on {sizes['elements']:,} scalars\n"
        "of peak: of matrix products for models, of bandwidth for the mixture"
    )
    names = COLUMNS.format("task", "version", "seconds", "items/s", "of peak", "memory", "ratio")
    return f"{description}\n\n{names}"


def rows(record: dict[str, Any]) -> str:
    """Return a line for each version, and one more for what a CUDA device has done."""
    lines = [f"  {note}" for note in record.get("notes", ())]
    for version in (v for v in VERSIONS if v in record):
        lines.append(_row(record, version))
        if "launches" in record[version]:
            lines.append(_device_row(record[version]))
    return "\n".join(lines)


def _products(machine: dict[str, Any]) -> str:
    """Return the rates of matrix products, one for each precision that was measured."""
    rates = machine.get("matmul", {"float32": machine["matmul_flops_per_second"]})
    return ", ".join(f"{rate / 1e9:,.0f} GFLOP/s ({name})" for name, rate in rates.items())


def _row(record: dict[str, Any], version: str) -> str:
    entry = record[version]
    per_second = entry.get("images_per_second") or entry.get("scalars_per_second")
    share = entry.get("share_of_matmul_peak") or entry.get("share_of_bandwidth")
    memory = entry.get("peak_device_bytes") or entry.get("peak_resident_bytes")
    return COLUMNS.format(
        record["task"],
        version,
        f"{entry['seconds']:.4f}",
        f"{per_second:.4g}",
        f"{share:.1%}",
        "" if memory is None else f"{memory / 1e9:.2f} GB",
        f"{record['ratio']:.3f}" if version == "library" and "ratio" in record else "",
    )


def _device_row(entry: dict[str, Any]) -> str:
    launches = entry["launches"]
    share = entry.get("kernel_share_of_bandwidth")
    kernels = "" if share is None else f", kernels alone at {share:.1%} of bandwidth"
    return (
        f"  device {1e3 * entry['device_seconds']:.3f} ms, host {1e3 * entry['host_seconds']:.3f} "
        f"ms, computing {launches['device_busy_ms']:.3f} ms in {launches['kernels']:,} kernels"
        f"{kernels}, {entry['host_synchronizations']['count']} host synchronizations"
    )
