"""The functions behind the layers, under PyTorch's names: `import glassgrad.nn.functional as F`."""

# elementwise

# layout

# index and embedding

# matmul and attention

# conv, pool and resample

# softmax, norm and loss

# random
