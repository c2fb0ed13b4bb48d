"""Files: round trips, other tools' files, crashes in the middle, nothing executed."""

from __future__ import annotations

import os
from collections import OrderedDict

import numpy as np
import pytest

import glassgrad as gg

safetensors_numpy = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")

DTYPES = [gg.bool, gg.uint8, gg.int8, gg.int16, gg.int32, gg.int64, gg.float16, gg.bfloat16, gg.float32, gg.float64]


def same(a, b):
    if isinstance(a, gg.Tensor):
        return (
            a.dtype is b.dtype
            and a.shape == b.shape
            and a.tolist() == b.tolist()
            and a.requires_grad == b.requires_grad
        )
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and (a == b).all()
    if isinstance(a, dict):
        return type(a) is type(b) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or a != a)


def test_nested_state(tmp_path):
    state = {
        "model": OrderedDict((t.name, gg.ones(2, 3).to(t).t()) for t in DTYPES),
        "optimizer": {
            "state": {0: {"step": 5}},
            "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "params": [0, 1]}],
        },
        "numbers": [1, 2.5, float("inf"), float("nan"), None, True, "text", gg.float32],
        "array": np.arange(3),
        "empty": gg.zeros(0, 3),
        "scalar": gg.tensor(2.0, requires_grad=True),
    }
    gg.save(state, tmp_path / "a.safetensors")
    assert same(state, gg.load(tmp_path / "a.safetensors"))


def test_state_dict_is_plain_safetensors(tmp_path):
    model = gg.nn.Linear(3, 2)
    gg.save(model.state_dict(), tmp_path / "w.safetensors")
    assert list(gg.load(tmp_path / "w.safetensors")) == ["weight", "bias"]
    theirs = safetensors_numpy.load_file(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(theirs["weight"], model.weight.detach().numpy())
    safetensors_numpy.save_file({"x": np.eye(2, dtype=np.float32)}, tmp_path / "x.safetensors")
    assert gg.load(tmp_path / "x.safetensors")["x"].tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_loaded_tensors_can_be_written(tmp_path):
    gg.save({"x": gg.zeros(3)}, tmp_path / "x.safetensors")
    x = gg.load(tmp_path / "x.safetensors")["x"]
    x += 1
    assert x.tolist() == [1.0, 1.0, 1.0]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    gg.save({"x": gg.ones(1)}, path)

    def crash(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="disk full"):
        gg.save({"x": gg.zeros(1)}, path)
    monkeypatch.undo()
    assert gg.load(path)["x"].tolist() == [1.0] and os.listdir(tmp_path) == ["a.safetensors"]


def test_bad_states_and_files(tmp_path):
    with pytest.raises(TypeError, match=r"Linear at the state\['model'\].*state_dict"):
        gg.save({"model": gg.nn.Linear(1, 1)}, tmp_path / "a")
    with pytest.raises(FileNotFoundError, match="missing"):
        gg.load(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="folder"):
        gg.save({}, tmp_path / "no" / "a")
    (tmp_path / "bad").write_bytes(b"\x80\x04cposix\nsystem\n")
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        gg.load(tmp_path / "bad")
    gg.save({"x": gg.ones(100)}, tmp_path / "whole")
    (tmp_path / "half").write_bytes((tmp_path / "whole").read_bytes()[:-50])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        gg.load(tmp_path / "half")
    assert not [f for f in os.listdir(tmp_path) if f.endswith(".tmp")]


def test_npz(tmp_path):
    gg.io.save_npz(tmp_path / "a.npz", x=gg.ones(2), y=gg.arange(3))
    assert np.load(tmp_path / "a.npz")["y"].tolist() == [0, 1, 2]
    assert gg.load_npz(tmp_path / "a.npz")["x"].tolist() == [1.0, 1.0]
    np.savez(tmp_path / "evil.npz", x=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match="pickle"):
        gg.load_npz(tmp_path / "evil.npz")
