"""Layers, losses and what they are made of, with PyTorch's names and state_dict keys."""

from glassgrad.nn import functional, init, utils
from glassgrad.nn.activation import *  # noqa: F403
from glassgrad.nn.attention import MultiheadAttention
from glassgrad.nn.containers import ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential
from glassgrad.nn.conv import *  # noqa: F403
from glassgrad.nn.dropout import *  # noqa: F403
from glassgrad.nn.embedding import Embedding, EmbeddingBag
from glassgrad.nn.linear import Bilinear, Identity, Linear
from glassgrad.nn.loss import *  # noqa: F403
from glassgrad.nn.module import Buffer, Module, Parameter
from glassgrad.nn.norm import *  # noqa: F403
from glassgrad.nn.pooling import *  # noqa: F403
from glassgrad.nn.shape import *  # noqa: F403
