"""One command that checks a GPU: laws, tests, speed, accuracy, training, evaluation, pictures.

    python -m flowpp.benchmark.gpu_check --out FOLDER [--minutes 8] [--data CIFAR.npz]

Each stage is a process of its own with a time limit, so that a crash, a hang or a CUDA error ends
that stage alone. The report is written after every stage; `docs/gpu-check.md` describes it.
"""
