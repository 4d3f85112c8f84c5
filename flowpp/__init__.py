"""Flow++ in PyTorch: bijectors, conditioners, dequantization, objective, training.

Ho, Chen, Srinivas, Duan, Abbeel, "Flow++: Improving Flow-Based Generative Models with Variational
Dequantization and Architecture Design", ICML 2019. Equation numbers in docstrings are the paper's.
"""

__version__ = "0.1.0"
