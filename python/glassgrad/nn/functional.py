"""The functions behind the layers, under PyTorch's names: `import glassgrad.nn.functional as F`."""

# elementwise

# layout
# index and embedding
from glassgrad.ops.embedding import embedding, embedding_bag
from glassgrad.ops.index import one_hot
# matmul and attention
# conv, pool and resample
from glassgrad.ops.layout import pad as pad

# softmax, norm and loss

# random
