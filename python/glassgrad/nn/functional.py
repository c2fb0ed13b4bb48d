"""The functions behind the layers, under PyTorch's names: `import glassgrad.nn.functional as F`."""

# elementwise
from glassgrad.ops.activation import (
    celu as celu,
    celu_ as celu_,
    elu as elu,
    elu_ as elu_,
    gelu as gelu,
    glu as glu,
    hardshrink as hardshrink,
    hardsigmoid as hardsigmoid,
    hardswish as hardswish,
    hardtanh as hardtanh,
    hardtanh_ as hardtanh_,
    leaky_relu as leaky_relu,
    leaky_relu_ as leaky_relu_,
    logsigmoid as logsigmoid,
    mish as mish,
    prelu as prelu,
    relu as relu,
    relu6 as relu6,
    relu_ as relu_,
    rrelu as rrelu,
    rrelu_ as rrelu_,
    selu as selu,
    selu_ as selu_,
    sigmoid as sigmoid,
    silu as silu,
    softplus as softplus,
    softshrink as softshrink,
    softsign as softsign,
    tanhshrink as tanhshrink,
    threshold as threshold,
    threshold_ as threshold_,
)
from glassgrad.ops.elementwise import tanh as tanh

# layout
# index and embedding
from glassgrad.ops.embedding import embedding, embedding_bag
from glassgrad.ops.index import one_hot
# matmul and attention
# conv, pool and resample
from glassgrad.ops.layout import pad as pad

# softmax, norm and loss

# random
