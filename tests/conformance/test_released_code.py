"""Comparison of both trees with vectors recorded from the authors' code."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from conformance.released.__main__ import main
from conformance.released.comparison import compare_model
from conformance.released.topology import infer_topology
from conformance.released.vectors import Vectors

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "golden"
ALL_VECTORS = Path(__file__).resolve().parents[3] / "shared" / "golden"
CASE = GOLDEN / "case1_cifar_8x8.npz"


@pytest.mark.parametrize(
    "name", ["case1_cifar_8x8.npz", "case1_cifar_8x8_init.npz", "case5_cdf.npz"]
)
def test_committed_vectors_hold(name, capsys):
    assert main([str(GOLDEN / name)]) == 0
    assert "everything holds" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(not ALL_VECTORS.is_dir(), reason="the full set of vectors is not available")
def test_all_vectors_hold():
    files = [str(p) for p in sorted(ALL_VECTORS.glob("*.npz"))]
    assert files
    assert main(files) == 0


def test_topology_does_not_depend_on_the_file_name(tmp_path):
    renamed = tmp_path / "anything.npz"
    renamed.write_bytes(CASE.read_bytes())
    vectors = Vectors(renamed)
    topology = infer_topology(vectors.meta, vectors.variables, (3, 8, 8), vectors.levels)
    assert topology.settings["flow"]["layout"] == "columns 4, squeeze, channels 2, columns 3"
    assert topology.settings["flow"]["components"] == 4
    assert topology.settings["dequantizer"]["blocks"] == 2
    assert not topology.imagenet


def changed(path: Path, **arrays: np.ndarray) -> Path:
    """Save the committed case with some arrays replaced; None removes an array."""
    with np.load(CASE) as file:
        content = {name: file[name] for name in file.files} | arrays
    np.savez(path, **{name: array for name, array in content.items() if array is not None})
    return path


@pytest.mark.parametrize(
    "key",
    [
        "f64/z",
        "f64/trace/08_MixLogisticAttnCoupling/logd",
        "grad/Norm_4/norm0/g",
        "f64/inverse",
        "train/loss",
    ],
)
def test_a_wrong_recorded_number_fails(tmp_path, key):
    with np.load(CASE) as file:
        if key not in file.files:
            key = next(n for n in file.files if n.startswith("f64/trace/") and n.endswith("logd"))
        wrong = file[key] * (1 + 1e-4)
    _, rows = compare_model(Vectors(changed(tmp_path / "wrong.npz", **{key: wrong})), [])
    failed = [row.quantity for row in rows if not row.holds]
    assert any(name.rpartition("/")[0] in key or key.endswith(name) for name in failed), failed


def test_a_wrong_weight_fails_at_its_element(tmp_path):
    name = "w/MixLogisticAttnCoupling_5/proj_in/W"
    with np.load(CASE) as file:
        wrong = file[name][..., ::-1].copy()
    _, rows = compare_model(Vectors(changed(tmp_path / "wrong.npz", **{name: wrong})), [])
    failed = [r.quantity for r in rows if not r.holds and r.quantity.startswith("trace/")]
    assert failed and min(failed) >= "trace/08"


def test_unusable_files_get_a_clear_error(tmp_path, capsys):
    assert main([str(tmp_path / "none.npz")]) == 2
    error = capsys.readouterr().err
    assert "no file of vectors at" in error and "none.npz" in error
    cut = tmp_path / "cut.npz"
    cut.write_bytes(CASE.read_bytes()[:5000])
    assert main([str(cut)]) == 2
    assert "cut.npz" in capsys.readouterr().err
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, images=np.zeros(3))
    assert main([str(foreign)]) == 2
    assert "the arrays meta, x and eps" in capsys.readouterr().err


def test_missing_variables_are_named(tmp_path, capsys):
    name = "w/Norm_4/norm0/g"
    assert main([str(changed(tmp_path / "less.npz", **{name: None}))]) == 2
    assert "Norm_4/norm0/g" in capsys.readouterr().err


def test_a_case_without_attention_is_recognized_by_its_description():
    vectors = Vectors(CASE)
    meta = json.loads(json.dumps(vectors.meta))
    meta["case"]["name"] = "case2_abl_noattn"
    topology = infer_topology(meta, vectors.variables, (3, 8, 8), 256)
    assert topology.settings["flow"]["attention"] == "maxout"


def test_pickled_objects_are_rejected(tmp_path):
    pickled = tmp_path / "pickled.npz"
    buffer = io.BytesIO()
    np.save(buffer, np.array([print], dtype=object), allow_pickle=True)
    np.savez(pickled, meta=np.array([print], dtype=object), x=np.zeros(1), eps=np.zeros(1))
    with pytest.raises(ValueError, match="pickled.npz"):
        Vectors(pickled)
