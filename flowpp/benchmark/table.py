"""The report as a text table."""

from __future__ import annotations

from typing import Any

from .tasks import VERSIONS

COLUMNS = "{:<17} {:<9} {:>10} {:>12} {:>10} {:>9} {:>7}"


def heading(report: dict[str, Any]) -> str:
    """Return the description of the machine and the sizes, and the column names."""
    machine, sizes = report["machine"], report["sizes"]
    description = (
        f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}: "
        f"{machine['matmul_flops_per_second'] / 1e9:.0f} GFLOP/s in matrix products, "
        f"{machine['bytes_per_second'] / 1e9:.1f} GB/s copied\n"
        f"{sizes['preset']}, batches of {sizes['batch_size']}; mixture of "
        f"{sizes['components']} components on {sizes['elements']:,} scalars\n"
        "of peak: of matrix products for models, of bandwidth for the mixture"
    )
    names = COLUMNS.format("task", "version", "seconds", "items/s", "of peak", "memory", "ratio")
    return f"{description}\n\n{names}"


def rows(record: dict[str, Any]) -> str:
    """Return a line for each version."""
    return "\n".join(_row(record, version) for version in VERSIONS)


def _row(record: dict[str, Any], version: str) -> str:
    entry = record[version]
    per_second = entry.get("images_per_second") or entry.get("scalars_per_second")
    share = entry.get("share_of_matmul_peak") or entry.get("share_of_bandwidth")
    memory = entry.get("peak_resident_bytes")
    return COLUMNS.format(
        record["task"],
        version,
        f"{entry['seconds']:.4f}",
        f"{per_second:.4g}",
        f"{share:.1%}",
        "" if memory is None else f"{memory / 1e9:.2f} GB",
        f"{record['ratio']:.3f}" if version == "library" else "",
    )
