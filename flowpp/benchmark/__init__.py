"""Time, memory and arithmetic of the library, beside textbook versions of the same things.

    python -m flowpp.benchmark --preset cifar10 --batch-size 2 --what train,sample --json FILE

Seconds depend on the machine and on who else uses it; ratios taken in one process hardly do. So
the library and the yardstick take turns, repeat by repeat, and medians are reported.
"""
