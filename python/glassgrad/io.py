"""Files: nested state as safetensors, arrays as npz. Files are written whole or not at all; nothing read is executed.

`save` splits a state (a state_dict, an optimizer's state, any nesting of dicts, lists, tuples, tensors, numbers,
strings, None) into its tensors, which go into the safetensors file by number, and a JSON description of the rest, which
goes into its header. A plain dict of tensors is stored under its own names, as other tools expect.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from glassgrad import _core as core
from glassgrad.tensor import Tensor, from_numpy, tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["load", "load_npz", "save", "save_npz"]

_NAMES = {
    "F64": core.float64, "F32": core.float32, "F16": core.float16, "BF16": core.bfloat16, "I64": core.int64,
    "I32": core.int32, "I16": core.int16, "I8": core.int8, "U8": core.uint8, "BOOL": core.bool,
}  # fmt: skip


def _safetensors() -> Any:
    try:
        import safetensors
    except ImportError:
        raise ImportError(
            "gg.save and gg.load need the package safetensors: pip install 'glassgrad[examples]'"
        ) from None
    return safetensors


def write_whole(path: str | os.PathLike[str], write: Callable[[str], None]) -> None:
    """Calls `write(temporary path)`, renames the result to `path`: a crash leaves the old file or none, never half."""
    path = os.fspath(path)
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"save: the folder {folder} does not exist")
    handle, temporary = tempfile.mkstemp(prefix=os.path.basename(path) + ".", suffix=".tmp", dir=folder)
    os.close(handle)
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _array_of(x: Tensor) -> NDArray[Any]:
    x = x.detach().cpu().contiguous()
    return (x.view(core.int16) if x.dtype is core.bfloat16 else x).numpy()


def _describe(value: Any, tensors: dict[str, Any], path: str) -> Any:
    """JSON for everything but the tensors, which are collected by number."""
    if isinstance(value, core.TensorBase):
        key = f"tensor.{len(tensors)}"
        tensors[key] = value
        return {"tensor": key, "requires_grad": bool(value.requires_grad and value.is_leaf)}
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else {"float": repr(value)}
    if isinstance(value, core.dtype):
        return {"dtype": value.name}
    if isinstance(value, np.generic):
        return _describe(value.item(), tensors, path)
    if isinstance(value, np.ndarray):
        return {"array": _describe(tensor(value), tensors, path)}
    if isinstance(value, dict):
        kind = "ordered" if isinstance(value, OrderedDict) else "dict"
        items = []
        for k, v in value.items():
            if not (k is None or isinstance(k, (bool, int, float, str))):
                raise TypeError(f"save: the key {k!r} at {path} must be a string or a number, not {type(k).__name__}")
            items.append([k, _describe(v, tensors, f"{path}[{k!r}]")])
        return {kind: items}
    if isinstance(value, (list, tuple)):
        items = [_describe(v, tensors, f"{path}[{i}]") for i, v in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    raise TypeError(
        f"save: cannot store {type(value).__name__} at {path}; a state holds tensors, numpy arrays, numbers, strings, "
        "None, and dicts, lists and tuples of these (of a Module, save its state_dict())"
    )


def _rebuild(described: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(described, list):
        return [_rebuild(v, tensors) for v in described]
    if not isinstance(described, dict):
        return described
    ((kind, value), *rest) = described.items()
    if kind == "tensor":
        x = tensors[value]
        if dict(rest).get("requires_grad"):
            x.requires_grad = True
        return x
    if kind == "float":
        return float(value)
    if kind == "dtype":
        return _by_name(value)
    if kind == "array":
        return _rebuild(value, tensors).numpy()
    if kind == "tuple":
        return tuple(_rebuild(v, tensors) for v in value)
    pairs = [(k, _rebuild(v, tensors)) for k, v in value]
    return OrderedDict(pairs) if kind == "ordered" else dict(pairs)


def _by_name(name: str) -> Any:
    found = {t.name: t for t in _NAMES.values()}.get(name)
    if found is None:
        raise ValueError(f"load: unknown dtype '{name}' in the file")
    return found


def save(obj: Any, path: str | os.PathLike[str], metadata: dict[str, str] | None = None) -> None:
    """Writes a nested state to a safetensors file, whole or not at all.

    A flat dict of tensors (a state_dict) keeps its names; anything else is described in the header. Needs the package
    safetensors. Raises TypeError, naming the place, for what is no plain state.

    >>> gg.save({"w": gg.ones(2), "step": 3}, tmp_path / "state.safetensors")
    >>> gg.load(tmp_path / "state.safetensors")
    {'w': tensor([1., 1.]), 'step': 3}
    """
    safetensors = _safetensors()
    header = dict(metadata or {})
    flat = (
        isinstance(obj, dict)
        and obj
        and all(isinstance(k, str) and isinstance(v, core.TensorBase) and k != "__metadata__" for k, v in obj.items())
    )
    if flat:
        named = dict(obj)
        header["glassgrad.requires_grad"] = json.dumps([k for k, v in obj.items() if v.requires_grad and v.is_leaf])
        header["glassgrad.order"] = json.dumps(list(obj))
    else:
        named = {}
        header["glassgrad.state"] = json.dumps(_describe(obj, named, "the state"))
    arrays = {name: _array_of(x) for name, x in named.items()}
    specs = {
        name: safetensors.TensorSpec(
            dtype=x.dtype.name, shape=list(x.shape), data_ptr=arrays[name].ctypes.data, data_len=arrays[name].nbytes
        )
        for name, x in named.items()
    }
    write_whole(path, lambda temporary: safetensors.serialize_file(specs, temporary, header))


def load(path: str | os.PathLike[str], map_location: Any = None) -> Any:
    """Reads what `save` wrote, or any safetensors file as a dict of tensors. Nothing in the file is executed.

    The tensors are on the CPU, or on the device `map_location`.

    >>> gg.save(gg.nn.Linear(2, 1).state_dict(), tmp_path / "linear.safetensors")
    >>> sorted(gg.load(tmp_path / "linear.safetensors"))
    ['bias', 'weight']
    """
    safetensors = _safetensors()
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"load: there is no file {path}")
    with open(path, "rb") as file:
        content = file.read()
    try:
        parts = dict(safetensors.deserialize(content))
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size]).get("__metadata__", {})
    except Exception as error:
        raise ValueError(f"load: {path} is not a whole safetensors file: {error}") from None
    tensors = {name: _tensor_of(part, path) for name, part in parts.items()}
    if map_location is not None:
        tensors = {name: x.to(map_location) for name, x in tensors.items()}
    if "glassgrad.state" in header:
        return _rebuild(json.loads(header["glassgrad.state"]), tensors)
    for name in json.loads(header.get("glassgrad.requires_grad", "[]")):
        tensors[name].requires_grad = True
    order = json.loads(header.get("glassgrad.order", "[]")) or sorted(tensors)
    return {name: tensors[name] for name in order}


def _tensor_of(part: dict[str, Any], path: str) -> Tensor:
    dtype = _NAMES.get(part["dtype"])
    if dtype is None:
        raise ValueError(f"load: {path} holds elements of type {part['dtype']}, which glassgrad does not have")
    stored = "int16" if dtype is core.bfloat16 else dtype.name
    array: NDArray[Any] = np.frombuffer(bytearray(part["data"]), dtype=stored).reshape(part["shape"])
    x = from_numpy(array)
    return x.view(core.bfloat16) if dtype is core.bfloat16 else x


def save_npz(path: str | os.PathLike[str], **tensors: Tensor) -> None:
    """Writes tensors to a numpy .npz file under the given names, whole or not at all.

    >>> gg.io.save_npz(tmp_path / "a.npz", w=gg.ones(2))
    >>> gg.load_npz(tmp_path / "a.npz")
    {'w': tensor([1., 1.])}
    """

    def write(temporary: str) -> None:
        with open(temporary, "wb") as file:
            arrays: dict[str, Any] = {name: x.detach().cpu().numpy() for name, x in tensors.items()}
            np.savez(file, **arrays)

    write_whole(path, write)


def load_npz(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Reads the arrays of an .npz file as tensors; pickled objects are refused.

    >>> gg.io.save_npz(tmp_path / "b.npz", w=gg.zeros(1))
    >>> gg.load_npz(tmp_path / "b.npz")["w"].shape
    (1,)
    """
    with np.load(os.fspath(path), allow_pickle=False) as archive:
        return {name: from_numpy(np.ascontiguousarray(archive[name])) for name in archive.files}
