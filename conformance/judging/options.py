"""What is judged, and how: the same for the command line, its workers, and pytest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from conformance.adapter import DTYPES, NotSupported, load
from conformance.judging.judge import Judge


@dataclass(frozen=True)
class Options:
    """See `Judge`; `adapter` by name, `dtypes` those that are asked for."""

    adapter: str
    seed: int = 0
    device: str = "cpu"
    examples: int = 1
    timeout: float | None = 60.0
    dtypes: Sequence[str] = DTYPES

    def judge(self) -> Judge:
        """Who judges.

        Raises:
            ValueError: there is no such adapter, or it refuses this device, or every dtype.
        """
        adapter = load(self.adapter)
        refusals = []
        for dtype in self.dtypes:
            try:
                adapter(dtype=dtype, device=self.device)  # type: ignore[arg-type]
            except NotSupported as reason:
                refusals.append(str(reason))
            except Exception:
                pass  # not a refusal: every cell will say so
        if refusals and len(refusals) == len(self.dtypes):
            raise ValueError(f"{self.adapter} refuses what is asked for: {refusals[0]}")
        return Judge(
            adapter,
            seed=self.seed,
            device=self.device,
            examples=self.examples,
            timeout=self.timeout,
            name=self.adapter,
        )
