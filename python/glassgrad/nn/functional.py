"""The functions behind the layers, under PyTorch's names: `import glassgrad.nn.functional as F`."""

# elementwise

# layout
from glassgrad.ops.layout import pad as pad

# index and embedding

# matmul and attention

# conv, pool and resample
from glassgrad.ops.conv import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    fold,
    unfold,
)

# softmax, norm and loss

# random
