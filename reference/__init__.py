"""Flow++ in NumPy and SciPy, float64: the ground truth that implementations are compared with.

Written to be read next to the paper (Ho, Chen, Srinivas, Duan, Abbeel: "Flow++: Improving
Flow-Based Generative Models with Variational Dequantization and Architecture Design", 2019),
and to be right rather than fast. Every object is a frozen dataclass whose fields are the symbols
of the paper; nothing is trained here.

Layout: `bijectors/` (one map a file), `elementwise` (from a network's output to a bijector),
`conditioner` (the networks), `dequantization`, `objective`, `model`, `root_finding`.
"""

from __future__ import annotations
