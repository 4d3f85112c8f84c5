"""The report in words and columns."""

from __future__ import annotations

from typing import Any

from .tasks import VERSIONS

COLUMNS = "{:<17} {:<9} {:>10} {:>12} {:>10} {:>9} {:>7}"


def heading(report: dict[str, Any]) -> str:
    """The machine, and the columns' names."""
    machine, sizes = report["machine"], report["sizes"]
    about = (
        f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}: "
        f"{machine['matmul_flops_per_second'] / 1e9:.0f} GFLOP/s in matrix products, "
        f"{machine['bytes_per_second'] / 1e9:.1f} GB/s copied\n"
        f"{sizes['preset']}, batches of {sizes['batch_size']}; mixture of "
        f"{sizes['components']} components on {sizes['elements']:,} scalars\n"
        "of peak: matrix products for models, bandwidth for the mixture"
    )
    names = COLUMNS.format("task", "version", "seconds", "items/s", "of peak", "memory", "ratio")
    return f"{about}\n\n{names}"


def rows(record: dict[str, Any]) -> str:
    """A line for each version."""
    return "\n".join(_row(record, version) for version in VERSIONS)


def _row(record: dict[str, Any], version: str) -> str:
    found = record[version]
    per_second = found.get("images_per_second") or found.get("scalars_per_second")
    share = found.get("share_of_matmul_peak") or found.get("share_of_bandwidth")
    memory = found.get("peak_resident_bytes")
    return COLUMNS.format(
        record["task"],
        version,
        f"{found['seconds']:.4f}",
        f"{per_second:.4g}",
        f"{share:.1%}",
        "" if memory is None else f"{memory / 1e9:.2f} GB",
        f"{record['ratio']:.3f}" if version == "library" else "",
    )
