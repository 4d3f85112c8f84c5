"""Topics of the API reference: which modules stand on which page, in the order of the pages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """A page of the API reference.

    Args:
        name: File name of the page.
        title: Heading of the page.
        text: One sentence below it, also shown in the index.
        modules: Modules and packages on the page; a package stands for all modules below it
            that no other topic names.
    """

    name: str
    title: str
    text: str
    modules: tuple[str, ...]


GROUPS: dict[str, tuple[Topic, ...]] = {
    "flowpp: models": (
        Topic(
            "trained-models", "Trained models",
            "`flowpp.load`, `flowpp.fit`, and bounds, samples and latents of images.",
            ("flowpp", "flowpp.trained_model", "flowpp.in_memory", "flowpp.runs.open_model"),
        ),
        Topic(
            "models", "Models and bounds",
            "A model as a module, its noise, and the bound on log P(x).",
            (
                "flowpp.model",
                "flowpp.objective",
                "flowpp.dequantization",
                "flowpp.truncated_normal",
                "flowpp.augmentation",
                "flowpp.context",
            ),
        ),
        Topic(
            "bijectors", "Bijectors",
            "Invertible maps of images, alone or in a model of your own.",
            ("flowpp.bijectors", "flowpp.elementwise", "flowpp.root_finding"),
        ),
        Topic(
            "networks", "Networks of the couplings",
            "Gated convolutions, self-attention and their layers.",
            ("flowpp.conditioner",),
        ),
        Topic(
            "settings", "Settings",
            "Settings of model, data and training; presets; a model built from settings.",
            ("flowpp.config",),
        ),
        Topic(
            "interop", "Other libraries and formats",
            "torch.distributions, zuko, Pyro, torch.export, ONNX, weights of the released code.",
            ("flowpp.interop",),
        ),
    ),
    "flowpp: training and evaluation": (
        Topic("data", "Data sets", "Reading images, and splitting them.", ("flowpp.data",)),
        Topic(
            "training", "Training",
            "The training loop and its parts: step, optimizer, average, resumption, log.",
            ("flowpp.training",),
        ),
        Topic(
            "evaluation", "Evaluation",
            "Bounds of held-out images, importance sampling, baselines, scores, samples.",
            ("flowpp.evaluation",),
        ),
        Topic(
            "coding", "Compression",
            "Local bits-back coding of images with a model; see [Compression](../compression.md).",
            ("flowpp.coding",),
        ),
        Topic("runs", "Runs on disk", "Run directories and checkpoints.", ("flowpp.runs",)),
        Topic(
            "commands", "Commands",
            "The modules behind `python -m flowpp.COMMAND`; see [the commands](../cli.md).",
            (
                "flowpp.train", "flowpp.evaluate", "flowpp.report", "flowpp.sample",
                "flowpp.score", "flowpp.classify", "flowpp.complete", "flowpp.reconstruct",
                "flowpp.interpolate", "flowpp.plot", "flowpp.convert",
                "flowpp.compress", "flowpp.decompress",
            ),
        ),
    ),
    "flowpp: the machine": (
        Topic(
            "kernels", "Kernels",
            "Compiled operations for CPU and GPU, and the choice between them.",
            ("flowpp.kernels",),
        ),
        Topic(
            "runtime", "Devices and processes",
            "Devices, processes, precision, random states, signals and files.",
            ("flowpp.runtime",),
        ),
        Topic(
            "benchmark", "Benchmark",
            "Time and memory of tasks, and the check of a GPU.",
            ("flowpp.benchmark",),
        ),
    ),
    "reference: the ground truth": (
        Topic(
            "reference-models", "Reference: models and bounds",
            "The paper's mathematics in NumPy float64.",
            (
                "reference", "reference.model", "reference.objective",
                "reference.dequantization", "reference.truncated_normal",
                "reference.augmentation", "reference.context",
            ),
        ),
        Topic(
            "reference-coding", "Reference: compression",
            "Local bits-back coding, slow and readable.",
            ("reference.coding",),
        ),
        Topic(
            "reference-bijectors", "Reference: bijectors",
            "The same bijectors as in flowpp, in NumPy float64.",
            ("reference.bijectors", "reference.elementwise", "reference.root_finding"),
        ),
        Topic(
            "reference-networks", "Reference: networks",
            "The networks of the couplings, in NumPy float64.",
            ("reference.conditioner",),
        ),
    ),
    "conformance: the laws": (
        Topic(
            "adapters", "Adapters",
            "What an implementation needs to be tested, and ready adapters.",
            ("conformance", "conformance.adapter", "conformance.adapters"),
        ),
        Topic(
            "laws", "Laws and cases",
            "The laws, the cases that they are checked on, and the numerics of comparisons.",
            ("conformance.laws", "conformance.cases", "conformance.numerics"),
        ),
        Topic(
            "judging", "Judging and reports",
            "Running the laws, in worker processes or as a pytest plugin, and their reports.",
            ("conformance.judging", "conformance.pytest_plugin", "conformance.reports"),
        ),
        Topic(
            "audit", "Audit",
            "Measuring the arithmetic of a mixture, and the page about it.",
            ("conformance.audit",),
        ),
        Topic(
            "released", "Released code and fingerprints",
            "Comparison with recorded vectors of the released code, and with recorded runs.",
            ("conformance.released", "conformance.fingerprint"),
        ),
    ),
}  # fmt: skip
"""Topics by group."""

LEFT_OUT = {
    "conformance.conftest": "a pytest hook",
    "conformance.test_laws": "tests",
}
"""Modules without a page, with the reason."""


def modules_by_topic(names: list[str]) -> dict[str, list[str]]:
    """Return the modules of each topic, in the tables' order; the closest package decides.

    Raises:
        ValueError: A module without topic, or a name in the tables that is no module.
    """
    topics = [topic for group in GROUPS.values() for topic in group]
    owner = {module: topic.name for topic in topics for module in topic.modules}
    unknown = (set(owner) | set(LEFT_OUT)) - set(names)
    if unknown:
        raise ValueError(f"api_topics.py must name existing modules, got {sorted(unknown)}")
    found: dict[str, list[str]] = {topic.name: [] for topic in topics}
    places = list(owner)  # in the order of the tables
    documented = {name: closest(name, owner) for name in names if name not in LEFT_OUT}
    for name in sorted(documented, key=lambda name: (places.index(documented[name]), name)):
        found[owner[documented[name]]].append(name)
    return found


def closest(name: str, owner: dict[str, str]) -> str:
    """Return the module itself or the nearest package around it that a topic names.

    A tree's own name stands for its `__init__` alone.
    """
    package = name
    while package not in owner:
        package = package.rpartition(".")[0]
        if "." not in package:
            raise ValueError(f"{name} must belong to a topic of docs/api_topics.py")
    return package
