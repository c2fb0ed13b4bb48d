"""The functions behind the layers, under PyTorch's names: `import glassgrad.nn.functional as F`."""

# elementwise

# layout
# index and embedding
# matmul and attention
# conv, pool and resample
from glassgrad.ops.layout import pad as pad

# softmax, norm and loss

# random
