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
from glassgrad.ops.activation import (
    celu,
    hardshrink,
    logit,
    prelu,
    relu,
    rrelu,
    selu,
    sigmoid,
    threshold,
)
from glassgrad.ops.elementwise import (
    abs,
    absolute,
    acos,
    acosh,
    add,
    addcdiv,
    addcmul,
    allclose,
    arccos,
    arccosh,
    arcsin,
    arcsinh,
    arctan,
    arctan2,
    arctanh,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    bitwise_and,
    bitwise_left_shift,
    bitwise_not,
    bitwise_or,
    bitwise_right_shift,
    bitwise_xor,
    ceil,
    clamp,
    clamp_max,
    clamp_min,
    clip,
    copysign,
    cos,
    cosh,
    deg2rad,
    digamma,
    div,
    divide,
    eq,
    equal,
    erf,
    erfc,
    erfinv,
    exp,
    exp2,
    expm1,
    fix,
    float_power,
    floor,
    floor_divide,
    fmax,
    fmin,
    fmod,
    frac,
    gcd,
    ge,
    greater,
    greater_equal,
    gt,
    heaviside,
    hypot,
    isclose,
    isfinite,
    isinf,
    isnan,
    isneginf,
    isposinf,
    isreal,
    lcm,
    ldexp,
    le,
    lerp,
    less,
    less_equal,
    lgamma,
    log,
    log10,
    log1p,
    log2,
    logaddexp,
    logaddexp2,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    lt,
    maximum,
    minimum,
    mul,
    multiply,
    mvlgamma,
    nan_to_num,
    ne,
    neg,
    negative,
    not_equal,
    polygamma,
    positive,
    pow,
    rad2deg,
    reciprocal,
    remainder,
    round,
    rsqrt,
    rsub,
    sgn,
    sign,
    signbit,
    sin,
    sinc,
    sinh,
    sqrt,
    square,
    sub,
    subtract,
    tan,
    tanh,
    true_divide,
    trunc,
    where,
    xlogy,
)

# reduce
from glassgrad.ops.reduce import (
    all,  # noqa: A004
    amax,
    amin,
    aminmax,
    any,  # noqa: A004
    argmax,
    argmin,
    count_nonzero,
    cumulative_trapezoid,
    diff,
    dist,
    logsumexp,
    max,  # noqa: A004
    mean,
    min,  # noqa: A004
    nanmean,
    nansum,
    norm,
    prod,
    renorm,
    std,
    std_mean,
    sum,  # noqa: A004
    trace,
    trapezoid,
    var,
    var_mean,
)
from glassgrad.ops.scan import (
    cummax,
    cummin,
    cumprod,
    cumsum,
    logcumsumexp,
)

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
    scalar_tensor,
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
    fill,
    fill_,
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
    zero_,
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
from glassgrad.ops.pool import (
    adaptive_avg_pool1d,
    adaptive_max_pool1d_with_indices as adaptive_max_pool1d,
    avg_pool1d,
    max_pool1d,
    max_pool1d_with_indices,
    max_pool2d,
    max_pool3d,
)

# softmax, norm and loss
from glassgrad.ops.loss import (
    binary_cross_entropy_with_logits,
    cosine_embedding_loss,
    ctc_loss,
    hinge_embedding_loss,
    margin_ranking_loss,
    triplet_margin_loss,
)
from glassgrad.ops.norm import cosine_similarity, group_norm, layer_norm, pairwise_distance, rms_norm
from glassgrad.ops.softmax import log_softmax, softmax

# random
from glassgrad._core import Generator, default_generator
from glassgrad.ops.random import (
    bernoulli,
    feature_dropout,
    get_rng_state,
    initial_seed,
    manual_seed,
    multinomial,
    normal,
    poisson,
    rand,
    rand_like,
    randint,
    randint_like,
    randn,
    randn_like,
    randperm,
    seed,
    set_rng_state,
)

# Tensor, graph and packages
<<<<<<< HEAD
from glassgrad import autograd, linalg, nn, ops, random, testing
=======
from glassgrad import autograd, nn, ops, optim, testing
>>>>>>> 5d8340a (Softmax, norm, loss and optim: Python side)
from glassgrad.autograd import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from glassgrad.config import can_cast, config, finfo, iinfo, memory_stats, result_type
from glassgrad.printing import set_printoptions
from glassgrad.tensor import Tensor, as_tensor, asarray, from_dlpack, from_numpy, is_tensor, tensor

__version__ = "0.1.0"

half, float, double = float16, float32, float64  # noqa: A001
short, int, long = int16, int32, int64  # noqa: A001
