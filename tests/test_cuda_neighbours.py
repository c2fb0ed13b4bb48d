"""Memory on a GPU shared with other libraries, without copies and in the order of streams, both ways.

GLASSGRAD_TEST_DEVICE=cuda runs these; anywhere else there is no GPU memory to share.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

import glassgrad as gg

pytestmark = pytest.mark.skipif(
    os.environ.get("GLASSGRAD_TEST_DEVICE") != "cuda", reason="no GPU was asked for (GLASSGRAD_TEST_DEVICE=cuda)"
)

SHARED = ("float64", "float32", "float16", "uint8", "int8", "int16", "int32", "int64", "bool")


class Neighbour:
    """An object of another library that knows __cuda_array_interface__ only."""

    def __init__(self, x: Any, **changes: Any) -> None:
        self.owner = x
        self.__cuda_array_interface__ = {**x.__cuda_array_interface__, **changes}


def numbers(dtype: str = "float32") -> Any:
    return gg.arange(6, device="cuda").reshape(2, 3).to(getattr(gg, dtype))


@pytest.mark.parametrize("dtype", SHARED)
def test_interface(dtype: str) -> None:
    x = numbers(dtype)
    about = x.__cuda_array_interface__
    assert about["shape"] == (2, 3) and about["strides"] is None and about["data"] == (x.data_ptr(), False)
    assert np.dtype(about["typestr"]) == np.dtype(dtype) and about["version"] == 3 and about["stream"]
    y = gg.as_tensor(Neighbour(x))
    assert y.device == x.device and y.dtype is x.dtype and y.data_ptr() == x.data_ptr()
    y[0, 0] = 1
    assert x.tolist() == y.tolist() and x[0, 0].item() == 1


def test_interface_of_views() -> None:
    x = numbers()
    about = x.t()[1:].__cuda_array_interface__
    assert about["shape"] == (2, 2) and about["strides"] == (4, 12) and about["data"][0] == x.data_ptr() + 4
    assert gg.as_tensor(Neighbour(x.t()[1:])).tolist() == [[1, 4], [2, 5]]
    assert x[:0].__cuda_array_interface__["data"][0] == 0
    assert gg.as_tensor(Neighbour(x[:0])).shape == (0, 3)


def test_memory_is_held_and_copied_where_it_must_be() -> None:
    x = numbers()
    neighbour = Neighbour(x)
    y = gg.as_tensor(neighbour)
    del x, neighbour
    gg.zeros(6, device="cuda")  # would take the memory if it were free
    assert y.tolist() == [[0, 1, 2], [3, 4, 5]]
    x = numbers()
    assert gg.tensor(Neighbour(x)).data_ptr() != x.data_ptr()
    assert gg.as_tensor(Neighbour(x, data=(x.data_ptr(), True))).data_ptr() != x.data_ptr()
    assert gg.as_tensor(Neighbour(x), dtype=gg.float64, device="cpu").tolist() == x.tolist()
    assert gg.as_tensor(Neighbour(x, stream=2)).tolist() == gg.as_tensor(Neighbour(x, stream=None)).tolist()


def test_what_cannot_be_shared() -> None:
    x = numbers()
    with pytest.raises(TypeError, match="complex64"):
        gg.as_tensor(Neighbour(x, typestr="<c8"))
    with pytest.raises(TypeError, match="f4"):
        gg.as_tensor(Neighbour(x, typestr=">f4"))
    with pytest.raises(ValueError, match="strides"):
        gg.as_tensor(Neighbour(x, strides=(13, 4)))
    with pytest.raises(ValueError, match="negative"):
        gg.as_tensor(Neighbour(x, strides=(-12, 4)))
    with pytest.raises(TypeError, match="bfloat16"):
        _ = x.to(gg.bfloat16).__cuda_array_interface__
    with pytest.raises(RuntimeError, match="detach"):
        _ = numbers().requires_grad_().__cuda_array_interface__
    with pytest.raises(BufferError, match="detach"):
        numbers().requires_grad_().__dlpack__()
    with pytest.raises(BufferError, match="device"):
        x.__dlpack__(dl_device=(2, 77))
    with pytest.raises(BufferError, match="device"):
        x.__dlpack__(dl_device=(1, 0), copy=False)


@pytest.mark.parametrize("dtype", [*SHARED, "bfloat16"])
@pytest.mark.parametrize("stream", [None, 1, 2, -1])
def test_dlpack(dtype: str, stream: int | None) -> None:
    x = numbers(dtype).t()
    assert x.__dlpack_device__() == (2, 0)
    y = gg.from_dlpack(x.__dlpack__(stream=stream))
    assert y.device == x.device and y.dtype is x.dtype and y.stride() == x.stride() and y.data_ptr() == x.data_ptr()
    assert y.tolist() == x.tolist() and gg.from_dlpack(x).data_ptr() == x.data_ptr()
    assert gg.from_dlpack(x.__dlpack__(copy=True)).data_ptr() != x.data_ptr()
    if dtype != "bfloat16":
        assert np.from_dlpack(gg.from_dlpack(x.__dlpack__(dl_device=(1, 0)))).tolist() == x.tolist()


def test_torch() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no GPU")
    x = numbers().requires_grad_()
    y = torch.from_dlpack(x.detach())
    assert y.device.type == "cuda" and y.data_ptr() == x.data_ptr()
    y *= 2
    assert x.tolist() == [[0, 2, 4], [6, 8, 10]]
    assert torch.as_tensor(x.detach(), device="cuda").data_ptr() == x.data_ptr()
    for z in (gg.from_dlpack(y), gg.as_tensor(y), gg.from_dlpack(y.to(torch.bfloat16))):
        assert z.device == x.device and z.tolist() == x.tolist()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):  # what is under way on another stream is waited for
        late = torch.ones(1 << 22, device="cuda").cumsum(0)
        assert gg.from_dlpack(late)[-1].item() == 1 << 22


def test_a_cupy_kernel_in_the_graph() -> None:
    cupy = pytest.importorskip("cupy")
    square = cupy.RawKernel(
        r"""extern "C" __global__ void square(const float* x, float* y, int n) {
              int i = blockIdx.x * blockDim.x + threadIdx.x;
              if (i < n) y[i] = x[i] * x[i];
            }""",
        "square",
    )

    class Square(gg.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            y = gg.empty_like(x)
            n = x.numel()
            square(((n + 255) // 256,), (256,), (cupy.asarray(x.detach()), cupy.asarray(y), n))
            return y

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            (x,) = ctx.saved_tensors
            return 2 * x * dy

    x = gg.arange(1000.0, device="cuda").requires_grad_()
    Square.apply(x).sum().backward()
    assert x.grad.tolist() == [2.0 * i for i in range(1000)]
    assert cupy.asarray(x.detach()).sum().item() == 499500
    assert gg.as_tensor(cupy.arange(3)).tolist() == [0, 1, 2]
