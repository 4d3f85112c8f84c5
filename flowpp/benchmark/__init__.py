"""Time and memory of the library, compared with a textbook implementation of the same model.

    python -m flowpp.benchmark --preset cifar10 --batch-size 2 --what train,sample --json FILE

Seconds depend on the machine and its load; their ratio within one process hardly does. So the two
implementations are timed alternately, and medians are reported.
"""
