"""Flow++ in NumPy and SciPy, float64: the ground truth that implementations are compared with.

To be read next to the paper (Ho, Chen, Srinivas, Duan, Abbeel: "Flow++: Improving Flow-Based
Generative Models with Variational Dequantization and Architecture Design", 2019); accurate rather
than fast. Every object is a frozen dataclass whose fields are the paper's symbols. There is no
training here.

Layout: `bijectors/` (one map a file), `conditioner/` (one layer a file), `elementwise` (from a
network's output to a bijector), `dequantization`, `objective`, `model`, `root_finding`.
"""

from __future__ import annotations
