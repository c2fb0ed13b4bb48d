"""What simt sees of a kernel: misaligned vectors, and counted traffic, in kernels whose figures are known."""

from __future__ import annotations

import pytest

import glassgrad as gg
from glassgrad.testing import simt

WARP = 32


@pytest.fixture(scope="module")
def pick() -> simt.RawKernel:
    """Thread i reads a float at i * step, in global or shared memory."""
    return simt.RawKernel(
        "struct Line { float x[1024]; };\n"
        "__global__ void pick(const float* x, float* y, int step, int in_shared) {\n"
        "  Line& s = shared<Line>();\n"
        "  for (int i = threadIdx.x; i < 1024; i += blockDim.x) s.x[i] = x[i];\n"
        "  __syncthreads();\n"
        "  const float* from = in_shared ? s.x : x;\n"
        "  y[threadIdx.x] = from[threadIdx.x * step];\n"
        "}",
        "pick",
    )


def test_a_misaligned_vector_is_a_fault() -> None:
    kernel = simt.RawKernel(
        "__global__ void four(const float* x, float* y, int from) {\n  store_pack(y, load_pack<4>(x + from));\n}",
        "four",
    )
    x, y = gg.arange(8.0).to("simt"), gg.zeros(4).to("simt")
    kernel(1, 1, (x, y, 4))
    assert y.tolist() == [4, 5, 6, 7]
    with pytest.raises(RuntimeError, match=r"misaligned at four.cu:\d"):
        kernel(1, 1, (x, y, 3))


@pytest.mark.parametrize("schedule", ["forward", "reverse", "random"])
@pytest.mark.parametrize(("step", "sectors", "wavefronts"), [(0, 1, 1), (1, 4, 1), (2, 8, 2), (8, 32, 8), (32, 32, 32)])
def test_sectors_and_bank_conflicts(
    pick: simt.RawKernel, step: int, sectors: int, wavefronts: int, schedule: str
) -> None:
    x, y = gg.zeros(1024).to("simt"), gg.zeros(WARP).to("simt")
    filling = 1024 // WARP  # requests, each of whole lines
    with simt.schedule(schedule), simt.counters() as of_global:
        pick(1, WARP, (x, y, step, 0), 4096)
    assert of_global.global_sectors == 4 * filling + sectors + 4
    assert of_global.global_requests == filling + 2
    assert of_global.global_read_bytes == 4096 + 128
    assert of_global.global_write_bytes == 128
    with simt.schedule(schedule), simt.counters() as of_shared:
        pick(1, WARP, (x, y, step, 1), 4096)
    assert of_shared.shared_wavefronts == filling + wavefronts
    assert of_shared.shared_requests == filling + 1
    assert (of_shared.shared_read_bytes, of_shared.shared_write_bytes) == (128, 4096)
    assert (of_shared.barriers, of_shared.launches) == (1, 1)


def test_vectors_take_a_wavefront_for_each_128_bytes() -> None:
    kernel = simt.RawKernel(
        "struct Line { alignas(16) float x[128]; };\n"
        "__global__ void fours(const float* x) {\n"
        "  store_pack(shared<Line>().x + 4 * threadIdx.x, load_pack<4>(x + 4 * threadIdx.x));\n"
        "}",
        "fours",
    )
    with simt.counters() as counted:
        kernel(2, WARP, (gg.zeros(128).to("simt"),), 512)
    assert (counted.global_requests, counted.global_sectors) == (2, 2 * 16)
    assert (counted.shared_requests, counted.shared_wavefronts) == (2, 2 * 4)


def test_tensor_cores_matrix_loads_and_asynchronous_copies() -> None:
    kernel = simt.RawKernel(
        "struct Tile { alignas(16) gg::bfloat16 a[16][16]; };\n"
        "__global__ void square(const gg::bfloat16* x, float* y) {\n"
        "  Tile& s = shared<Tile>();\n"
        "  const int lane = threadIdx.x;\n"
        "  copy_async<16>(&s.a[lane / 2][lane % 2 * 8], x + 8 * lane);\n"
        "  copy_async_commit();\n"
        "  copy_async_wait<0>();\n"
        "  __syncthreads();\n"
        "  uint32_t a[4], b[2];\n"
        "  ldmatrix(a, &s.a[lane % 16][lane / 16 * 8]);\n"
        "  ldmatrix_trans(b, &s.a[lane % 16][0]);\n"
        "  float d[4] = {};\n"
        "  mma_m16n8k16<gg::bfloat16>(d, a, b);\n"
        "  for (int i = 0; i < 4; ++i) y[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = d[i];\n"
        "}",
        "square",
    )
    x, y = gg.randn(16, 16).bfloat16(), gg.zeros(16, 8).to("simt")
    with simt.counters() as counted:
        kernel(1, WARP, (x.to("simt"), y), 512)
    assert ((x.float() @ x.float())[:, :8] - y.cpu()).abs().max() < 1e-4
    assert counted.tensor_multiply_adds == 16 * 16 * 8
    assert (counted.global_read_bytes, counted.shared_write_bytes) == (512, 512)
    assert counted.shared_read_bytes == 512 + 256
    # Rows of 32 bytes: eight of them are in half of the banks.
    assert counted.shared_wavefronts == 4 + 4 * 2 + 2 * 2


def test_nothing_is_counted_outside() -> None:
    with simt.counters() as counted:
        pass
    _ = gg.ones(8, device="simt") * 2
    assert counted == simt.Counters()


def test_a_host_function_launches_and_its_fault_is_raised() -> None:
    code = (
        "__global__ void fill_kernel(float* x, int n) { x[first_item()] = n; }\n"
        "void fill(float* x, int n) { launch(fill_kernel, dim3(n), dim3(1), 0, x, n); }"
    )
    fill = simt.RawFunction(code, "fill")
    x = gg.zeros(3).to("simt")
    fill(x, 3)
    assert x.tolist() == [3, 3, 3]
    with pytest.raises(RuntimeError, match=r"fill_kernel: block \(3, 0, 0\).*out of bounds at fill.cu:1"):
        fill(x, 4)
    with pytest.raises(TypeError, match="fill: 1 arguments for 2 parameters"):
        fill(x)


def test_code_from_a_file(tmp_path) -> None:
    file = tmp_path / "one.cu"
    file.write_text("\n\n__global__ void one(float* x) { x[threadIdx.x] = 1; }\n")
    kernel = simt.RawKernel(file, "one")
    x = gg.zeros(2).to("simt")
    kernel(1, 2, (x,))
    assert x.tolist() == [1, 1]
    with pytest.raises(RuntimeError, match=r"one\.cu:3"):
        kernel(1, 3, (x,))
