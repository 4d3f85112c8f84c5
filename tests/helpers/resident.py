"""resident.py SOURCE PATH: load a data set, use it as training does, print its memory as JSON."""

from __future__ import annotations

import json
import re
import sys
import threading
from pathlib import Path

from flowpp import data
from flowpp.config import DataConfig
from flowpp.data import decoded
from flowpp.evaluation.baselines import histogram_code


def anonymous() -> int:
    """Return the bytes of this process that no other process shares and no file backs."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"RssAnon:\s+(\d+) kB", status)[1])


class Peak(threading.Thread):
    """Largest value of `anonymous` until `stop` is set."""

    def __init__(self):
        super().__init__(daemon=True)
        self.stop, self.bytes = threading.Event(), 0

    def run(self):
        while not self.stop.wait(0.002):
            self.bytes = max(self.bytes, anonymous())


def main():
    source, path = sys.argv[1:]
    decoded.LARGE = 0
    before = anonymous()
    peak = Peak()
    peak.start()
    images = data.load(DataConfig(source=source, path=path, partial=True))
    for begin in range(0, len(images.train), 64):
        images.train[begin : begin + 64].astype("float32")
    histogram_code(images)
    peak.stop.set()
    peak.join()
    print(
        json.dumps(
            {
                "peak": peak.bytes - before,
                "images": images.train.nbytes + images.test.nbytes,
                "sha256": images.sha256,
            }
        )
    )


if __name__ == "__main__":
    main()
