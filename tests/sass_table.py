"""What the machine code of each kernel must show: the instruction that its speed stands on.

A row names the source's stem, the kernel, opcodes by their beginning, and how many of its instantiations show all of
them (1: every one; fewer where some dtypes or options cannot). Kernels marked hot may use no local memory, unless the
row says why they do.
"""

from __future__ import annotations

from dataclasses import dataclass

WIDE = ("LDG.E.128", "STG.E.128")
MMA = ("LDGSTS", "LDSM", "HMMA.16816")  # cp.async, ldmatrix, mma.sync
HOPPER = ("UTMALDG", "HGMMA.64", "SYNCS.ARRIVE", "USETMAXREG")  # TMA, wgmma, phase barriers, setmaxnreg


@dataclass(frozen=True)
class Expected:
    source: str
    kernel: str
    opcodes: tuple[str, ...]
    share: float = 1.0
    local: str = ""  # why a hot kernel uses local memory


TABLE = [
    # Elementwise: strided operands go one by one in the same kernel; outputs of one byte are packs of fewer bytes.
    Expected(
        "elementwise_cuda", "map_kernel", WIDE, 0.8, local="sin, cos and tan reduce large arguments through a table"
    ),
    Expected("layout_cuda", "copy_tiles_kernel", WIDE),
    Expected("layout_cuda", "convert_kernel", WIDE),
    Expected("layout_cuda", "triangle_kernel", WIDE, 0.5),
    Expected("index_cuda", "masked_fill_dense_kernel", WIDE),
    Expected("index_cuda", "pick_rows_kernel", WIDE),
    Expected("embedding_cuda", "sum_bags_kernel", WIDE, 0.5),
    Expected("softmax_cuda", "softmax_row_kernel", (*WIDE, "SHFL.BFLY")),
    Expected("softmax_cuda", "softmax_row_backward_kernel", (*WIDE, "SHFL.BFLY")),
    Expected("softmax_cuda", "softmax_long_row_kernel", (*WIDE, "SHFL.BFLY")),
    Expected("softmax_cuda", "softmax_long_row_backward_kernel", (*WIDE, "SHFL.BFLY")),
    Expected("softmax_cuda", "cross_entropy_row_kernel", ("LDG.E.128", "SHFL.BFLY")),
    Expected("softmax_cuda", "cross_entropy_row_backward_kernel", WIDE),
    Expected("norm_cuda", "norm_forward_kernel", ("LDG.E.128", "SHFL.BFLY")),
    Expected("norm_cuda", "layer_backward_kernel", (*WIDE, "SHFL.BFLY")),
    Expected("norm_cuda", "batch_backward_kernel", ("LDG.E.128", "SHFL.BFLY")),
    Expected("norm_cuda", "apply_lines_kernel", WIDE),
    Expected("loss_cuda", "pointwise_backward_kernel", WIDE, 0.5),
    Expected("random_cuda", "dropout_backward_kernel", WIDE),
    Expected("optimizer_cuda", "step_kernel", WIDE),
    Expected("attention_mma_cuda", "forward_kernel", MMA),
    Expected("attention_mma_cuda", "backward_kernel", MMA),
    # float32 and the dtypes without tensor cores have products of their own.
    Expected("matmul_cuda", "gemm_kernel", MMA, 0.5),
    Expected("matmul_sm90", "product_sm90_kernel", HOPPER),
    Expected("matmul_sm90", "matmul_sm90_float_kernel", HOPPER),
]
