"""PyTorch's own samples and names: nothing listed is missing or crashes, 98% agree, the rest is explained here."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch, whose samples these are, is not installed")

import glassgrad as gg  # noqa: E402
import torch_samples  # noqa: E402

# Ops of which some sample differs on purpose, and why.
DEPARTURES: dict[str, str] = {
    "linalg.matrix_norm": "'nuc', 2 and -2 need singular values, which are not built in: ValueError",
    "norm.nuc": "the same",
    "nn.functional.batch_norm": "an empty input without a channel axis is a ShapeError",
}

SHARDS = 6


@pytest.mark.parametrize("shard", range(SHARDS))
def test_samples(shard: int) -> None:
    results = torch_samples.run(list(torch_samples.infos())[shard::SHARDS])
    passed, failed = sum(r.passed for r in results.values()), sum(r.failed for r in results.values())
    table = torch_samples.table(list(results.values()))
    assert not [r.name for r in results.values() if r.crash], table
    assert not [r.name for r in results.values() if r.missing], table
    assert passed >= 0.98 * (passed + failed), table
    unexplained = [r.name for r in results.values() if r.failed and r.name not in DEPARTURES]
    assert not unexplained, table


# Names of the issue, and of ordinary model code, that PyTorch's lists of samples do not cover.
NAMES = {
    "": """tensor as_tensor from_numpy zeros ones full empty arange linspace logspace eye tril triu rand randn randint
        randperm bernoulli multinomial normal manual_seed seed Generator get_rng_state set_rng_state no_grad
        enable_grad inference_mode set_grad_enabled is_grad_enabled get_default_dtype set_default_dtype
        get_num_threads set_num_threads is_tensor is_floating_point numel save load finfo iinfo Size Tensor device
        dtype float16 bfloat16 float32 float64 half float double uint8 int8 int16 int32 int64 short int long bool
        result_type promote_types can_cast broadcast_shapes einsum concat concatenate moveaxis swapaxes swapdims
        absolute arccos arccosh arcsin arcsinh arctan arctanh arctan2 negative subtract multiply divide greater
        greater_equal less less_equal not_equal clip fix row_stack vstack hstack dstack inf nan pi e newaxis conv1d
        conv2d conv3d conv_transpose2d relu dropout cosine_similarity pixel_shuffle prelu selu celu addmm baddbmm norm
        cdist softmax log_softmax topk sort gather scatter scatter_add index_select masked_select take_along_dim
        unique_consecutive meshgrid cartesian_prod combinations histc bincount tril_indices triu_indices is_nonzero
        strided contiguous_format channels_last typename set_printoptions autograd nn optim""",
    "autograd": """backward grad Function no_grad enable_grad set_grad_enabled inference_mode gradcheck gradgradcheck
        functional.jacobian functional.hessian functional.vjp functional.jvp functional.vhp functional.hvp""",
    "Tensor": """backward grad requires_grad requires_grad_ retain_grad register_hook detach detach_ is_leaf grad_fn
        data shape dtype device ndim T mT size dim numel nelement element_size stride storage_offset is_contiguous
        contiguous data_ptr item tolist numpy cpu to type type_as clone copy_ fill_ zero_ float double half bfloat16
        long int short char byte bool is_floating_point new_tensor new_zeros new_ones new_full new_empty view view_as
        reshape reshape_as expand expand_as uniform_ normal_ bernoulli_ random_ exponential_ add_ sub_ mul_ div_ pow_
        clamp_ relu_ sigmoid_ tanh_ sqrt_ exp_ log_ neg_ abs_ round_ floor_ ceil_ masked_fill_ masked_scatter_
        scatter_ scatter_add_ scatter_reduce_ index_add_ index_copy_ index_fill_ index_put_ addcmul_ addcdiv_ lerp_
        squeeze_ unsqueeze_ transpose_ t_ tril_ triu_ __len__ __iter__ __array__ __dlpack__ __dlpack_device__
        __contains__ __bool__ __float__ __int__ __index__ __format__ __deepcopy__ __reduce_ex__ __invert__ __and__
        __or__ __xor__ __lshift__ __rshift__ __iadd__ __imul__ __isub__ __itruediv__ __ipow__ __ifloordiv__
        __floordiv__ __rfloordiv__ __mod__ __pow__ __rpow__ __matmul__ __neg__ __pos__ __abs__ __eq__ __lt__
        __getitem__ __setitem__ share_memory_ is_shared pin_memory unfold repeat tile softmax log_softmax""",
    "nn.functional": """relu relu_ elu elu_ leaky_relu_ hardtanh_ threshold_ gumbel_softmax softmin softmax
        log_softmax tanh sigmoid one_hot embedding embedding_bag dropout1d fold unfold lp_pool1d lp_pool2d lp_pool3d
        interpolate upsample pad affine_grid grid_sample scaled_dot_product_attention linear bilinear normalize
        cosine_similarity rms_norm cross_entropy nll_loss ctc_loss adaptive_max_pool2d max_pool2d max_unpool2d""",
    "nn": """Module Parameter Sequential ModuleList ModuleDict ParameterList ParameterDict Identity Flatten Unflatten
        Dropout Dropout1d Dropout2d Dropout3d AlphaDropout EmbeddingBag Upsample PixelShuffle PixelUnshuffle Fold
        Unfold CosineSimilarity PairwiseDistance BCELoss TripletMarginLoss TripletMarginWithDistanceLoss Hardsigmoid
        MultiheadAttention init.uniform_ init.normal_ init.constant_ init.ones_ init.zeros_ init.eye_ init.dirac_
        init.xavier_uniform_ init.xavier_normal_ init.kaiming_uniform_ init.kaiming_normal_ init.trunc_normal_
        init.orthogonal_ init.sparse_ init.calculate_gain utils.clip_grad_norm_ utils.clip_grad_value_
        utils.parameters_to_vector utils.vector_to_parameters""",
    "optim": """Optimizer SGD Adam AdamW RMSprop Adagrad Adadelta lr_scheduler.StepLR lr_scheduler.MultiStepLR
        lr_scheduler.ExponentialLR lr_scheduler.CosineAnnealingLR lr_scheduler.LinearLR lr_scheduler.OneCycleLR
        lr_scheduler.ReduceLROnPlateau lr_scheduler.LambdaLR lr_scheduler.SequentialLR""",
    "utils": """data.Dataset data.IterableDataset data.TensorDataset data.Subset data.random_split data.ConcatDataset
        data.DataLoader data.Sampler data.RandomSampler data.SequentialSampler data.BatchSampler
        data.WeightedRandomSampler data.default_collate data.get_worker_info checkpoint.checkpoint""",
}


@pytest.mark.parametrize("namespace", NAMES)
def test_names(namespace: str) -> None:
    missing = []
    for name in NAMES[namespace].split():
        full = f"{namespace}.{name}".lstrip(".")
        assert has(torch, full), f"PyTorch itself has no {full}"
        if not has(gg, full):
            missing.append(full)
    assert not missing, f"missing: {' '.join(missing)}"


def has(root: Any, name: str) -> bool:
    for part in name.split("."):
        if not hasattr(root, part):
            return False
        root = getattr(root, part)
    return True
