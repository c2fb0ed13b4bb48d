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

# index, sort and embedding

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
from glassgrad import autograd, nn, ops
from glassgrad.autograd import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from glassgrad.config import can_cast, config, finfo, iinfo, memory_stats, result_type
from glassgrad.printing import set_printoptions
from glassgrad.tensor import Tensor, as_tensor, asarray, from_dlpack, from_numpy, is_tensor, tensor

__version__ = "0.1.0"

half, float, double = float16, float32, float64  # noqa: A001
short, int, long = int16, int32, int64  # noqa: A001
