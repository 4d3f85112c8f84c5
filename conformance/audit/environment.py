"""Software and hardware that the audit's numbers depend on."""

from __future__ import annotations

import platform
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

from conformance.audit import trained_model

PACKAGES = ("numpy", "scipy", "mpmath", "matplotlib", "torch")


def environment(seed: int) -> dict[str, Any]:
    """Return date, versions, processor and devices."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": processor(),
        "versions": {name: version(name) for name in PACKAGES},
        "seed": seed,
    } | trained_model.environment()


def processor() -> str:
    """Return the processor's model name on Linux, its architecture elsewhere."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            line = next((line for line in file if line.startswith("model name")), None)
    except OSError:
        line = None
    return line.split(":", 1)[1].strip() if line else platform.machine()
