"""glassgrad: a deep-learning framework that a person can read through.

    import glassgrad as gg

    x = gg.randn(32, 784)
    model = gg.nn.Sequential(gg.nn.Linear(784, 128), gg.nn.ReLU(), gg.nn.Linear(128, 10))
    loss = gg.nn.functional.cross_entropy(model(x), gg.randint(0, 10, (32,)))
    loss.backward()
"""

# Core types

# fmt: off
from glassgrad._core import (
    ShapeError,
    bfloat16,
    bool,  # noqa: A004
    device,
    dtype,
    empty_cache,
    float16,
    float32,
    float64,
    get_num_threads,
    int8,
    int16,
    int32,
    int64,
    promote_types,
    reset_peak_memory_stats,
    set_num_threads,
    uint8,
)
# fmt: on

# elementwise

# reduce

# layout and creation
from glassgrad.ops.creation import (
    arange,
    empty,
    empty_like,
    eye,
    full,
    full_like,
    linspace,
    logspace,
    ones,
    ones_like,
    tril_indices,
    triu_indices,
    zeros,
    zeros_like,
)
from glassgrad.ops.layout import (
    as_strided,
    atleast_1d,
    atleast_2d,
    atleast_3d,
    block_diag,
    broadcast_shapes,
    broadcast_tensors,
    broadcast_to,
    cartesian_prod,
    cat,
    chunk,
    clone,
    column_stack,
    combinations,
    concat,
    concatenate,
    diag,
    diag_embed,
    diagflat,
    diagonal,
    dsplit,
    dstack,
    flatten,
    flip,
    fliplr,
    flipud,
    hsplit,
    hstack,
    is_floating_point,
    meshgrid,
    moveaxis,
    movedim,
    narrow,
    numel,
    permute,
    ravel,
    repeat_interleave,
    reshape,
    roll,
    rot90,
    row_stack,
    select,
    split,
    split_with_sizes,
    squeeze,
    stack,
    swapaxes,
    swapdims,
    t,
    tensor_split,
    tile,
    transpose,
    tril,
    triu,
    unbind,
    unflatten,
    unsqueeze,
    vsplit,
    vstack,
)

# index, sort and embedding
from glassgrad.ops.index import (
    argwhere,
    diagonal_scatter,
    gather,
    index_add,
    index_copy,
    index_fill,
    index_put,
    index_reduce,
    index_select,
    masked_fill,
    masked_scatter,
    masked_select,
    nonzero,
    put,
    scatter,
    scatter_add,
    scatter_reduce,
    select_scatter,
    slice_scatter,
    take,
    take_along_dim,
)
from glassgrad.ops.sort import (
    argsort,
    bincount,
    bucketize,
    histc,
    histogram,
    isin,
    kthvalue,
    median,
    mode,
    msort,
    nanmedian,
    nanquantile,
    quantile,
    searchsorted,
    sort,
    topk,
    unique,
    unique_consecutive,
)

# matmul and attention

# conv, pool and resample
from glassgrad.ops.conv import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
)

# softmax, norm and loss

# random

# Tensor, graph and packages
from glassgrad import autograd, nn, ops, testing
from glassgrad.autograd import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from glassgrad.config import can_cast, config, finfo, iinfo, memory_stats, result_type
from glassgrad.printing import set_printoptions
from glassgrad.tensor import Tensor, as_tensor, asarray, from_dlpack, from_numpy, is_tensor, tensor

__version__ = "0.1.0"

half, float, double = float16, float32, float64  # noqa: A001
short, int, long = int16, int32, int64  # noqa: A001
