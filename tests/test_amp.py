"""Mixed precision: the dtype of every op's result is PyTorch's, by the lists for CPU and GPU; regions; GradScaler."""

from __future__ import annotations

import logging
import pickle
import threading
import warnings
from typing import Any

import numpy as np
import pytest

import glassgrad as gg
import op_table as table

try:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
except ImportError:
    torch = None

F = gg.nn.functional

# PyTorch's lists (docs.pytorch.org, "Autocast Op Reference"), those of their ops that exist here, by the names of rows.
CPU = {
    "lower": """conv1d conv2d conv3d bmm mm baddbmm addmm addbmm linear matmul conv_transpose1d conv_transpose2d
        conv_transpose3d prelu scaled_dot_product_attention linalg.vecdot""",
    "float32": """avg_pool3d binary_cross_entropy grid_sample prod quantile nanquantile cdist trace max_pool3d
        max_unpool2d max_unpool3d adaptive_avg_pool3d mse_loss cosine_embedding_loss nll_loss hinge_embedding_loss
        poisson_nll_loss cross_entropy l1_loss huber_loss smooth_l1_loss margin_ranking_loss soft_margin_loss
        triplet_margin_loss multi_margin_loss ctc_loss kl_div multilabel_margin_loss binary_cross_entropy_with_logits
        linalg.inv adaptive_max_pool3d""",
    "widest": "cat stack index_copy",
}
GPU = {
    "lower": """matmul addbmm addmm addmv addr baddbmm bmm chain_matmul linalg.multi_dot conv1d conv2d conv3d
        conv_transpose1d conv_transpose2d conv_transpose3d linear mm mv prelu einsum linalg.vecdot
        scaled_dot_product_attention""",
    "float32": """pow acos asin binary_cross_entropy_with_logits cosh cosine_embedding_loss cdist cosine_similarity
        cross_entropy cumprod cumsum dist erfinv exp expm1 group_norm hinge_embedding_loss kl_div l1_loss layer_norm log
        log_softmax log10 log1p log2 margin_ranking_loss mse_loss multilabel_margin_loss multi_margin_loss nll_loss norm
        normalize pdist poisson_nll_loss prod reciprocal rsqrt sinh smooth_l1_loss soft_margin_loss softmax softmin
        softplus sum renorm tan triplet_margin_loss rms_norm huber_loss logsumexp linalg.vector_norm linalg.matrix_norm
        interpolate""",
    "widest": "addcdiv addcmul atan2 bilinear cross dot vdot grid_sample index_put scatter_add tensordot",
}
# Where torch's own lists are not followed to the end: it says what its documentation does not, or the other way round.
SPECIAL = {
    ("cpu", "mse_loss", "bfloat16"),  # with a weight, torch computes it by unlisted ops
    ("cpu", "pdist", "bfloat16"),  # made of cdist, which is listed
    ("cpu", "local_response_norm", "bfloat16"),  # torch's is made of avg_pool3d for images
    ("cpu", "block_diag", "float32 bfloat16"),  # torch's dtype is that of one operand, in or out of autocast
    ("gpu", "index_put", "bfloat16 float32"),  # the row's torch function is in place
}
DTYPES = ("float32", "bfloat16", "bfloat16 float32", "float32 bfloat16")  # of the first floating operand and the others
ROWS = {row.name: row for row in table.gather()}


def _listed(names: dict[str, str]) -> list[tuple[str, str]]:
    return [(name, rule) for rule, text in names.items() for name in text.split()]


def _samples(row: table.Row, dtypes: str) -> list[table.Sample]:
    several = " " in dtypes
    made = row.samples(row.random())
    return [s for s in made if sum(a.dtype == np.float64 for a in s.arrays()) > several]


def _arguments(sample: table.Sample, dtypes: str, make: Any, library: Any) -> table.Sample:
    first, *others = dtypes.split()
    seen = 0

    def one(a: np.ndarray) -> Any:
        nonlocal seen
        seen += a.dtype == np.float64
        return make(a, first if seen == 1 or not others else others[0])

    return sample.map(one, lambda d: getattr(library, d))


def _result_dtypes(function: Any, sample: table.Sample) -> list[str] | Exception:
    try:
        result = function(*sample.args, **sample.kwargs)
    except Exception as error:
        return error
    return [table.dtype_name(t) if hasattr(t, "dtype") else type(t).__name__ for t in table.flatten(result)]


@pytest.fixture
def gpu_list(monkeypatch):
    """The CPU follows the list for GPUs."""
    monkeypatch.setattr(gg.amp, "_GPUS", ("cpu",))


def _check_against_torch(row: table.Row, device: str) -> None:
    function = row.torch_function()
    if function is None:
        pytest.skip("no counterpart in torch")
    compared = 0
    for dtypes in DTYPES:
        if (device, row.name, dtypes) in SPECIAL:
            continue
        for sample in _samples(row, dtypes):
            theirs = _result_dtypes_of_torch(function, sample, dtypes, device)
            if isinstance(theirs, Exception):
                continue
            with gg.autocast("cpu", dtype=gg.bfloat16), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ours = _result_dtypes(row.function(), _arguments(sample, dtypes, table.tensor, gg))
            assert ours == theirs, f"{row.name} {sample} of {dtypes}"
            compared += 1
    if not compared:
        pytest.skip("torch takes none of the samples")


def _result_dtypes_of_torch(function: Any, sample: table.Sample, dtypes: str, device: str) -> list[str] | Exception:
    if device == "cpu":
        with torch.autocast("cpu", dtype=torch.bfloat16), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _result_dtypes(function, _arguments(sample, dtypes, table.torch_tensor, torch))

    # Tensors without elements that are on "cuda" to torch's dispatcher, whatever the machine has.
    def make(a: np.ndarray, dtype: str) -> Any:
        t = table.torch_tensor(a, dtype)
        return torch.empty(t.shape, dtype=t.dtype, device="cuda")

    with FakeTensorMode():
        fake = _arguments(sample, dtypes, make, torch)
        torch.set_autocast_enabled("cuda", True)
        torch.set_autocast_dtype("cuda", torch.bfloat16)
        try:
            return _result_dtypes(function, fake)
        finally:
            torch.set_autocast_enabled("cuda", False)
            torch.set_autocast_dtype("cuda", torch.float16)


needs_torch = pytest.mark.skipif(torch is None, reason="torch is not installed")


@needs_torch
@pytest.mark.parametrize("name", sorted(ROWS))
def test_result_dtypes_on_the_cpu_are_torchs(name):
    _check_against_torch(ROWS[name], "cpu")


@needs_torch
@pytest.mark.parametrize("name", sorted({name for name, _ in _listed(GPU)}))
def test_result_dtypes_on_a_gpu_are_torchs(name, gpu_list):
    logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)
    _check_against_torch(ROWS[name], "gpu")


@pytest.mark.parametrize(
    ("device", "name", "rule"), [("cpu", *i) for i in _listed(CPU)] + [("gpu", *i) for i in _listed(GPU)]
)
def test_lists(device, name, rule, request):
    if device == "gpu":
        request.getfixturevalue("gpu_list")
    row = ROWS[name]
    wanted = {
        "lower": {"float32": "bfloat16", "bfloat16": "bfloat16"},
        "float32": {"float32": "float32", "bfloat16": "float32"},
        "widest": {"float32": "float32", "bfloat16": "bfloat16", "bfloat16 float32": "float32"},
    }[rule]
    for dtypes, expected in wanted.items():
        for sample in _samples(row, dtypes)[:3]:
            with gg.autocast("cpu", dtype=gg.bfloat16), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dtype, *_ = _result_dtypes(row.function(), _arguments(sample, dtypes, table.tensor, gg))
            assert dtype == expected, f"{sample} of {dtypes}"


def test_float64_and_whole_numbers_are_not_cast():
    with gg.autocast("cpu"):
        x = gg.ones(2, 2, dtype=gg.float64)
        assert (x @ x).dtype is gg.float64
        i = gg.ones(2, 2, dtype=gg.int64)
        assert (i @ i).dtype is gg.int64


@pytest.mark.parametrize("dtype", [gg.float16, gg.bfloat16, gg.float32, gg.float64])
def test_an_explicit_dtype_is_kept(dtype, gpu_list):
    x = gg.rand(3, 3, dtype=gg.float16)
    with gg.autocast("cpu", dtype=gg.float16):
        results = [x.sum(dtype=dtype), x.prod(dtype=dtype), x.cumsum(0, dtype=dtype), x.cumprod(0, dtype=dtype)]
        results += [x.softmax(0, dtype=dtype), x.log_softmax(0, dtype=dtype), x.norm(dtype=dtype)]
        results += [gg.linalg.vector_norm(x, dtype=dtype), gg.linalg.matrix_norm(x, 1, dtype=dtype)]
        results += [gg.linalg.norm(x, dtype=dtype)]
    assert [y.dtype for y in results] == [dtype] * len(results)


def test_operators_that_the_gpu_list_names(gpu_list):
    x = gg.rand(3, dtype=gg.float16)
    with gg.autocast("cpu", dtype=gg.float16):
        float32 = [x**2, x**3, x**0.5, x**-1, x**1.5, 2**x, x**x, 1 / x, 2 / x, x.square(), x.norm(gg.inf), 2.0**x]
        float16 = [x / 2, x / x, x.sqrt(), x + 1, -x, x.relu(), x.mean(), x.sigmoid(), x.max()]
    assert [y.dtype for y in float32] == [gg.float32] * len(float32)
    assert [y.dtype for y in float16] == [gg.float16] * len(float16)


def test_refused_on_gpus(gpu_list):
    x = gg.rand(3)
    with gg.autocast("cpu"), pytest.raises(RuntimeError, match="binary_cross_entropy_with_logits"):
        F.binary_cross_entropy(x, x)


def test_in_place_ops_are_not_cast(gpu_list):
    x, y = gg.rand(3, 3), gg.rand(3, 3)
    expected = gg.addmm(x, y, y)
    half = (x * 0.1).half()
    with gg.autocast("cpu", dtype=gg.float16):
        x.addmm_(y, y)
        half.exp_()
    assert gg.equal(x, expected)
    assert half.dtype is gg.float16


def test_functions_of_several_ops_compute_in_one_dtype(gpu_list):
    # Within float32, the norms of cosine_similarity must not fall back to 16 bits, nor the product in einsum rise.
    x, y = gg.randn(4, 8), gg.randn(4, 8)
    with gg.autocast("cpu", dtype=gg.bfloat16):
        z = gg.cosine_similarity(x.bfloat16(), y.bfloat16())
        e = gg.einsum("ij,kj->ik", x, y)
    assert gg.equal(z, gg.cosine_similarity(x.bfloat16().float(), y.bfloat16().float()))
    assert gg.equal(e, gg.einsum("ij,kj->ik", x.bfloat16(), y.bfloat16()))


# Regions


def test_regions_nest_and_end():
    a = gg.ones(2, 2)
    assert not gg.is_autocast_enabled("cpu")
    with gg.autocast("cpu", dtype=gg.float16) as region:
        assert isinstance(region, gg.autocast)
        assert (a @ a).dtype is gg.float16
        with gg.autocast("cpu"):
            assert gg.get_autocast_dtype("cpu") is gg.float16  # the region's around, as in torch
        with gg.autocast("cpu", enabled=False):
            assert not gg.is_autocast_enabled("cpu")
            assert (a @ a).dtype is gg.float32
            with gg.autocast("cpu", dtype=gg.bfloat16):
                assert (a @ a).dtype is gg.bfloat16
        with gg.autocast("cuda"):
            assert gg.is_autocast_enabled("cuda") and gg.is_autocast_enabled()
            assert (a @ a).dtype is gg.float16
        assert (a @ a).dtype is gg.float16
    assert (a @ a).dtype is gg.float32
    assert (gg.get_autocast_dtype("cpu"), gg.get_autocast_dtype("cuda")) == (gg.bfloat16, gg.float16)
    assert gg.autograd.graph.casting is None


def test_a_region_of_another_device_does_nothing():
    a = gg.ones(2, 2)
    for device in ("cuda", "simt"):
        with gg.autocast(device):
            assert (a @ a).dtype is gg.float32


@pytest.mark.parametrize("dtype", [gg.float16, gg.bfloat16])
def test_casts_on_simt(dtype):
    @gg.amp.Casts(cpu="float32", gpu="lower")
    def kept(*operands: Any) -> Any:
        return operands

    x, number = gg.ones(2).to("simt"), gg.ones(())
    with gg.autocast("simt", dtype=dtype):
        assert [y.dtype for y in kept(number, x)] == [dtype, dtype]
        assert kept(number)[0].dtype is gg.float32
    with gg.autocast("simt"):
        assert kept(x)[0].dtype is gg.float16
    with gg.autocast("cuda"):
        assert kept(x)[0] is x


def test_a_region_ends_with_an_exception():
    with pytest.raises(gg.ShapeError), gg.autocast("cpu"):
        gg.ones(2, 3) @ gg.ones(2, 3)
    assert not gg.is_autocast_enabled("cpu") and gg.autograd.graph.casting is None


def test_decorator():
    @gg.autocast("cpu")
    def power(x: Any, n: int) -> Any:
        """Documented."""
        return x if n == 0 else power(x @ x, n - 1)

    assert power(gg.ones(2, 2), 3).dtype is gg.bfloat16
    assert power.__doc__ == "Documented."
    assert gg.autograd.graph.casting is None


def test_threads_have_regions_of_their_own():
    a = gg.ones(2, 2)
    inside, leave = threading.Event(), threading.Event()
    found: list[Any] = []

    def other() -> None:
        with gg.autocast("cpu"):
            inside.set()
            leave.wait()
            found.append((a @ a).dtype)

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait()
    assert (a @ a).dtype is gg.float32
    with gg.autocast("cpu", dtype=gg.float16):
        assert (a @ a).dtype is gg.float16
    leave.set()
    thread.join()
    assert found == [gg.bfloat16]
    assert gg.autograd.graph.casting is None


def test_wrong_regions():
    with pytest.raises(RuntimeError, match=r"'gpu'.*'cpu', 'cuda', 'simt'"):
        gg.autocast("gpu")
    with pytest.raises(ValueError, match="device_type must be a str"):
        gg.autocast(gg.float16)
    with pytest.raises(TypeError, match="function"):
        gg.autocast("cpu")(3)
    with pytest.warns(UserWarning, match="float32 is neither"):
        region = gg.autocast("cpu", dtype=gg.float32)
    with region:
        assert not gg.is_autocast_enabled("cpu")


# Casts of weights


def _casts_of(*outputs: Any) -> list[Any]:
    """The node that cast the weight of each product."""
    return [y._node.edges[1] for y in outputs]


def test_a_weight_is_cast_once_in_the_outermost_region():
    x, w = gg.randn(4, 3), gg.randn(5, 3, requires_grad=True)
    with gg.autocast("cpu"):
        with gg.autocast("cpu"):
            a = F.linear(x, w)
        b = F.linear(x, w)
        assert len({id(node) for node in _casts_of(a, b)}) == 1
    assert not gg.amp._thread.kept
    with gg.autocast("cpu"):
        c = F.linear(x, w)
    assert _casts_of(c)[0] is not _casts_of(a)[0]
    for y in (a, b, c):
        y.sum().backward()
    assert w.grad.dtype is gg.float32
    assert np.allclose(w.grad.numpy(), 3 * x.bfloat16().float().sum(0).numpy(), rtol=2e-2, atol=1e-2)


def test_casts_are_not_kept_where_they_must_not_be():
    x, w = gg.randn(4, 3), gg.randn(5, 3, requires_grad=True)
    with gg.autocast("cpu", cache_enabled=False):
        a, b = F.linear(x, w), F.linear(x, w)
    assert len({id(node) for node in _casts_of(a, b)}) == 2
    with gg.autocast("cpu"):
        F.linear(x, w * 1)
        F.linear(w.detach(), w[:, :])
        assert not gg.amp._thread.kept  # neither a leaf's nor one that needs a gradient
        with gg.no_grad():
            F.linear(x, w)
        F.linear(x, w).sum().backward()
        assert w.grad is not None  # the cast made under no_grad leads nowhere
        before = F.linear(x, w)
        with gg.no_grad():
            w.add_(1.0)
        assert not gg.equal(F.linear(x, w), before)


# Backward


def _net() -> Any:
    gg.manual_seed(0)
    return gg.nn.Sequential(gg.nn.Linear(6, 16), gg.nn.GELU(), gg.nn.LayerNorm(16), gg.nn.Linear(16, 3))


def _gradients(net: Any) -> list[Any]:
    found = [p.grad for p in net.parameters()]
    net.zero_grad()
    return found


@pytest.mark.parametrize("device_list", ["cpu", "gpu"])
def test_backward_is_the_same_in_and_out_of_the_region(device_list, request):
    if device_list == "gpu":
        request.getfixturevalue("gpu_list")
    net, x, target = _net(), gg.randn(8, 6), gg.randint(0, 3, (8,))
    with gg.autocast("cpu"):
        F.cross_entropy(net(x), target).backward()
        within = _gradients(net)
        loss = F.cross_entropy(net(x), target)
    loss.backward()
    for a, b in zip(within, _gradients(net)):
        assert a.dtype is gg.float32 and gg.equal(a, b)


def test_hooks_run_without_autocast():
    w = gg.ones(2, 2, requires_grad=True)
    seen: list[bool] = []
    with gg.autocast("cpu"):
        y = w @ w
        y.register_hook(lambda dy: seen.append(gg.is_autocast_enabled("cpu")))
        y.sum().backward()
        assert gg.is_autocast_enabled("cpu")
    assert seen == [False]


def test_second_order():
    x = gg.randn(3, 3, requires_grad=True)
    with gg.autocast("cpu"):
        y = (x @ x).tanh().sum()
        (dx,) = gg.autograd.grad(y, x, create_graph=True)
        assert dx.dtype is gg.float32
    dx.square().sum().backward()
    assert x.grad.dtype is gg.float32 and bool(x.grad.isfinite().all())


@pytest.mark.parametrize("inside", [False, True])
def test_checkpoint_recomputes_under_the_same_autocast(inside):
    net, x = _net(), gg.randn(8, 6)
    dtypes: list[Any] = []

    def segment(v: Any) -> Any:
        y = net(v)
        dtypes.append((y.dtype, gg.is_autocast_enabled("cpu")))
        return y

    with gg.autocast("cpu"):
        net(x).float().square().sum().backward()
    plain = _gradients(net)
    with gg.autocast("cpu"):
        loss = gg.autograd.checkpoint(segment, x).float().square().sum()
        if inside:
            loss.backward()
    if not inside:
        loss.backward()
    assert dtypes == [(gg.bfloat16, True)] * 2
    assert gg.autograd.graph.casting is None
    for a, b in zip(plain, _gradients(net)):
        assert gg.equal(a, b)


class Product(gg.autograd.Function):
    """A product that notes what autocast was in each direction."""

    seen: list[Any] = []

    @staticmethod
    @gg.amp.custom_fwd(device_type="cpu")
    def forward(ctx, a, b):
        Product.seen.append(gg.is_autocast_enabled("cpu"))
        ctx.save_for_backward(a, b)
        return a @ b

    @staticmethod
    @gg.amp.custom_bwd(device_type="cpu")
    def backward(ctx, dy):
        Product.seen.append(gg.is_autocast_enabled("cpu"))
        a, b = ctx.saved_tensors
        return dy @ b.mT, a.mT @ dy


class Float32Product(Product):
    @staticmethod
    @gg.amp.custom_fwd(device_type="cpu", cast_inputs=gg.float32)
    def forward(ctx, a, b):
        Product.seen.append(gg.is_autocast_enabled("cpu"))
        ctx.save_for_backward(a, b)
        return a @ b


@pytest.mark.parametrize(
    ("function", "region", "state", "dtype"),
    [
        (Product, True, True, gg.bfloat16),
        (Product, False, False, gg.float32),
        (Float32Product, True, False, gg.float32),
        (Float32Product, False, False, gg.float32),
    ],
)
def test_custom_functions(function, region, state, dtype):
    Product.seen.clear()
    a, b = gg.randn(2, 2, requires_grad=True), gg.randn(2, 2, requires_grad=True)
    with gg.autocast("cpu", enabled=region):
        y = function.apply(a, b)
    y.sum().backward()
    assert y.dtype is dtype and Product.seen == [state, state]
    assert a.grad.dtype is gg.float32
    assert np.allclose(a.grad.numpy(), b.detach().sum(1).numpy(), rtol=2e-2, atol=1e-2)


# Layers beside torch's


def _pair(make: Any) -> tuple[Any, Any]:
    theirs = make(torch.nn)
    ours = make(gg.nn)
    ours.load_state_dict({name: gg.from_numpy(t.numpy().copy()) for name, t in theirs.state_dict().items()})
    return theirs, ours


LAYERS = {
    "cnn": lambda nn: nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.ConvTranspose2d(4, 4, 2, 2),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4, affine=True),
        nn.PReLU(),
        nn.Flatten(),
        nn.LayerNorm(256),
        nn.Linear(256, 7),
        nn.Softmax(-1),
    ),
    "attention": lambda nn: nn.MultiheadAttention(8, 2),
}


@needs_torch
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("layer", ["cnn", "attention", "attention without weights"])
def test_layers_are_torchs(layer, dtype):
    r = np.random.default_rng(0)
    torch.manual_seed(0)
    theirs, ours = _pair(LAYERS[layer.split()[0]])
    kwargs: dict[str, Any] = {}
    if layer == "cnn":
        args = [r.standard_normal((2, 3, 8, 8)).astype(np.float32)]
    else:
        args = [r.standard_normal((5, 2, 8)).astype(np.float32)] * 3
        kwargs = {"need_weights": layer == "attention"}
    mask = r.standard_normal((5, 5)).astype(np.float32)
    with torch.autocast("cpu", dtype=getattr(torch, dtype)):
        more = {"attn_mask": torch.tensor(mask)} if kwargs else {}
        wanted = theirs(*map(torch.tensor, args), **kwargs, **more)
    with gg.autocast("cpu", dtype=getattr(gg, dtype)):
        more = {"attn_mask": gg.from_numpy(mask)} if kwargs else {}
        got = ours(*map(gg.from_numpy, args), **kwargs, **more)
    wanted, got = (v if isinstance(v, tuple) else (v,) for v in (wanted, got))
    for t, y in zip(wanted, got):
        if t is None:
            assert y is None
            continue
        assert table.dtype_name(t) == table.dtype_name(y)
        assert np.allclose(table.as_numpy(y), table.as_numpy(t), rtol=2e-2, atol=1e-2)
    weights = r.standard_normal(tuple(got[0].shape)).astype(np.float32)
    (wanted[0].float() * torch.tensor(weights)).sum().backward()
    (got[0].float() * gg.from_numpy(weights)).sum().backward()
    for t, p in zip(theirs.parameters(), ours.parameters()):
        assert p.grad.dtype is gg.float32
        scale = max(float(t.grad.abs().max()), 0.1)
        assert np.abs(p.grad.numpy() - t.grad.numpy()).max() < 3e-2 * scale


# GradScaler

OPTIMIZERS = [
    "SGD",
    "Adam",
    "AdamW",
    "NAdam",
    "RAdam",
    "Adamax",
    "RMSprop",
    "Adagrad",
    "Adadelta",
    "Rprop",
]


def _losses(optimizer: str, steps: int, bad: set[int], enabled: bool = True) -> tuple[list[float], list[float], Any]:
    """Training in float16; the gradients of the steps in `bad` hold an inf."""
    gg.manual_seed(0)
    net = _net()
    x = gg.randn(64, 6)
    target = (x.sum(1) > 0).long()
    step = {"lr": 1.0} if optimizer == "Adadelta" else {"lr": 1e-2}
    optim = getattr(gg.optim, optimizer)(net.parameters(), **step)
    scaler = gg.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=5, enabled=enabled)
    losses, scales = [], []
    for i in range(steps):
        optim.zero_grad()
        with gg.autocast("cpu", dtype=gg.float16, enabled=enabled):
            loss = F.cross_entropy(net(x), target)
        scaler.scale(loss).backward()
        if i in bad:
            net[0].weight.grad[0, 0] = gg.inf
        before = [p.detach().clone() for p in net.parameters()]
        scaler.step(optim)
        same = [gg.equal(a, b.detach()) for a, b in zip(before, net.parameters())]
        assert all(same) if i in bad else not all(same)
        scaler.update()
        losses.append(loss.item())
        scales.append(scaler.get_scale())
    return losses, scales, net


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_in_float16_with_an_inf(optimizer):
    losses, scales, net = _losses(optimizer, 40, {7, 8})
    assert losses[-1] < 0.8 * losses[0]
    assert all(p.dtype is gg.float32 and bool(p.isfinite().all()) for p in net.parameters())
    assert scales[:10] == [1024, 1024, 1024, 1024, 2048, 2048, 2048, 1024, 512, 512]
    assert scales[13] == 1024  # the fifth step since the inf


def test_training_in_float16_follows_float32():
    half, _, _ = _losses("AdamW", 40, set())
    full, _, _ = _losses("AdamW", 40, set(), enabled=False)
    assert np.allclose(half, full, rtol=5e-2, atol=5e-3)


@needs_torch
def test_scaler_moves_as_torchs():
    r = np.random.default_rng(0)
    ours = gg.amp.GradScaler("cpu", init_scale=8.0, growth_factor=3.0, backoff_factor=0.25, growth_interval=3)
    theirs = torch.amp.GradScaler("cpu", init_scale=8.0, growth_factor=3.0, backoff_factor=0.25, growth_interval=3)
    w = gg.ones(3, requires_grad=True)
    v = torch.ones(3, requires_grad=True)
    a, b = gg.optim.SGD([w], lr=0.1), torch.optim.SGD([v], lr=0.1)
    for _ in range(30):
        g = r.standard_normal(3).astype(np.float32)
        if r.random() < 0.2:
            g[1] = r.choice([np.inf, -np.inf, np.nan])
        w.grad = v.grad = None
        ours.scale((w * gg.from_numpy(g)).sum()).backward()
        theirs.scale((v * torch.tensor(g)).sum()).backward()
        ours.step(a)
        theirs.step(b)
        ours.update()
        theirs.update()
        assert ours.get_scale() == theirs.get_scale()
        assert np.allclose(w.detach().numpy(), v.detach().numpy(), rtol=1e-6)
    assert ours.state_dict() == theirs.state_dict()


def _scaled(scale: float = 8.0) -> tuple[Any, Any, Any]:
    w = gg.ones(2, requires_grad=True)
    optimizer, scaler = gg.optim.SGD([w], lr=0.5), gg.amp.GradScaler("cpu", init_scale=scale)
    scaler.scale((w * gg.tensor([3.0, 4.0])).sum()).backward()
    return w, optimizer, scaler


def test_clipping_after_unscale():
    w, optimizer, scaler = _scaled()
    assert w.grad.tolist() == [24.0, 32.0]
    scaler.unscale_(optimizer)
    assert w.grad.tolist() == [3.0, 4.0]
    assert gg.nn.utils.clip_grad_norm_([w], 1.0).item() == 5.0
    scaler.step(optimizer)
    scaler.update()
    assert np.allclose(w.detach().numpy(), [1 - 0.3, 1 - 0.4], rtol=1e-6)


def test_an_inf_is_remembered_when_clipping_hides_it():
    w, optimizer, scaler = _scaled()
    w.grad[0] = -gg.inf
    scaler.unscale_(optimizer)
    gg.nn.utils.clip_grad_value_([w], 1.0)
    scaler.step(optimizer)
    scaler.update()
    assert w.tolist() == [1.0, 1.0] and scaler.get_scale() == 4.0


def test_two_optimizers_and_groups():
    w, v, u = (gg.ones(2, requires_grad=True) for _ in range(3))
    a, b = gg.optim.SGD([{"params": [w]}, {"params": [u]}], lr=0.5), gg.optim.Adam([v], lr=0.5)
    scaler = gg.amp.GradScaler("cpu", init_scale=8.0)
    losses = scaler.scale([w.sum(), (v.sum(), v.mean())])
    assert isinstance(losses, list) and isinstance(losses[1], tuple)
    losses[0].backward()
    losses[1][0].backward()
    v.grad[1] = gg.nan
    scaler.step(a)
    scaler.step(b)
    assert w.tolist() == [0.5, 0.5] and v.tolist() == [1.0, 1.0] and u.grad is None
    scaler.update()
    assert scaler.get_scale() == 4.0


def test_gradients_of_every_dtype_and_layout():
    w = gg.ones(2, 3, requires_grad=True)
    v = gg.ones(3, dtype=gg.float64, requires_grad=True)
    h = gg.ones(3, dtype=gg.bfloat16, requires_grad=True)
    optimizer, scaler = gg.optim.SGD([w, v, h], lr=1.0), gg.amp.GradScaler("cpu", init_scale=8.0)
    w.grad = gg.full((3, 2), 8.0).t()
    v.grad, h.grad = gg.full((3,), 16.0, dtype=gg.float64), gg.full((3,), 4.0, dtype=gg.bfloat16)
    scaler.scale(gg.ones(()))
    scaler.step(optimizer)
    assert w.tolist() == [[0.0] * 3] * 2 and v.tolist() == [-1.0] * 3 and h.tolist() == [0.5] * 3


def test_scale_keeps_what_float16_cannot_hold():
    scaler = gg.amp.GradScaler("cpu")
    loss = scaler.scale(gg.tensor(3.0, dtype=gg.float16))
    assert loss.dtype is gg.float32 and loss.item() == 3 * 65536
    assert scaler.scale(gg.ones(2, dtype=gg.float16)).dtype is gg.float16
    assert [x.item() for x in scaler.scale(gg.tensor(float(i)) for i in range(2))] == [0.0, 65536.0]


def test_scale_stays_finite():
    scaler = gg.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=1)
    w = gg.ones(1, requires_grad=True)
    optimizer = gg.optim.SGD([w], lr=0.0)
    scaler.scale(w.sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**127


def test_state():
    w, optimizer, scaler = _scaled()
    with pytest.raises(RuntimeError, match="pickled"):
        scaler.step(optimizer)
        pickle.dumps(scaler)
    scaler.update()
    state = scaler.state_dict()
    assert state["scale"] == 8.0 and state["_growth_tracker"] == 1
    other = gg.amp.GradScaler("cpu", growth_interval=7)
    other.load_state_dict(state)
    assert other.state_dict() == state == pickle.loads(pickle.dumps(scaler)).state_dict()
    with pytest.raises(RuntimeError, match="empty"):
        other.load_state_dict({})
    other.set_growth_factor(4.0)
    other.set_backoff_factor(0.1)
    other.set_growth_interval(9)
    assert (other.get_growth_factor(), other.get_backoff_factor(), other.get_growth_interval()) == (4.0, 0.1, 9)
    _ = other.scale(w)
    other.update(gg.tensor(32.0))
    assert other.get_scale() == 32.0


def test_a_scaler_that_is_not_enabled_does_nothing():
    w, scaler = gg.ones(2, requires_grad=True), gg.amp.GradScaler("cpu", enabled=False)
    optimizer = gg.optim.SGD([w], lr=0.5)
    loss = w.sum()
    assert scaler.scale(loss) is loss
    loss.backward()
    scaler.unscale_(optimizer)
    assert scaler.step(optimizer, lambda: 7.0) == 7.0
    scaler.update()
    assert w.tolist() == [0.5, 0.5]
    assert (scaler.get_scale(), scaler.state_dict(), scaler.is_enabled()) == (1.0, {}, False)
    scaler.load_state_dict({})


def test_calls_out_of_order():
    w, optimizer, scaler = _scaled()
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="unscale_: has already been called"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="step: has already been called"):
        scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="called after step"):
        scaler.unscale_(optimizer)
    scaler.update()
    with pytest.raises(RuntimeError, match="update: no gradients"):
        scaler.update()
    optimizer.zero_grad()
    with pytest.raises(RuntimeError, match="no parameter of this optimizer has a gradient"):
        scaler.step(optimizer)
    fresh = gg.amp.GradScaler("cpu")
    for call in (lambda: fresh.unscale_(optimizer), lambda: fresh.step(optimizer), fresh.update):
        with pytest.raises(RuntimeError, match="nothing was scaled yet"):
            call()
    with pytest.raises(RuntimeError, match="closure"):
        scaler.step(optimizer, closure=lambda: w.sum())


def test_wrong_arguments_of_a_scaler():
    with pytest.raises(ValueError, match="growth_factor is 1"):
        gg.amp.GradScaler("cpu", growth_factor=1.0)
    with pytest.raises(ValueError, match="backoff_factor is 1"):
        gg.amp.GradScaler("cpu", backoff_factor=1.0)
    with pytest.raises(RuntimeError, match="'tpu'"):
        gg.amp.GradScaler("tpu")
    scaler = gg.amp.GradScaler("cpu")
    with pytest.raises(ValueError, match="outputs must be a Tensor"):
        scaler.scale(3)
    h = gg.ones(2, dtype=gg.float16, requires_grad=True)
    scaler.scale(h.sum()).backward()
    with pytest.raises(ValueError, match=r"\(2,\) is float16"):
        scaler.unscale_(gg.optim.SGD([h], lr=0.1))
    with pytest.raises(ValueError, match="new_scale"):
        scaler.update(gg.ones(2))
