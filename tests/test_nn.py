"""Layers and modules against PyTorch's: the same names, the same state_dict, the same outputs and gradients."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import glassgrad as gg

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

# name: (constructor arguments, input shapes, integer input?)
LAYERS = [
    ("Identity", (), [(2, 3)]),
    ("Linear", (4, 3), [(5, 4)]),
    ("Bilinear", (3, 4, 2), [(5, 3), (5, 4)]),
    ("Conv1d", (4, 6, 3, 2, 1), [(2, 4, 9)]),
    ("Conv2d", (4, 6, (3, 2), 1, "same"), [(2, 4, 7, 6)]),
    ("Conv3d", (2, 4, 2), [(1, 2, 4, 4, 4)]),
    ("ConvTranspose1d", (4, 6, 3, 2), [(2, 4, 5)]),
    ("ConvTranspose2d", (4, 6, 3, 2, 1, 1), [(2, 4, 5, 4)]),
    ("ConvTranspose3d", (2, 3, 2), [(1, 2, 3, 3, 3)]),
    ("Unfold", (2,), [(1, 2, 4, 4)]),
    ("Fold", ((4, 4), 2), [(1, 8, 9)]),
    ("MaxPool1d", (2,), [(1, 2, 8)]),
    ("MaxPool2d", (3, 2, 1), [(1, 2, 8, 8)]),
    ("MaxPool3d", (2,), [(1, 2, 4, 4, 4)]),
    ("AvgPool1d", (2,), [(1, 2, 8)]),
    ("AvgPool2d", (3, 2, 1, True, False), [(1, 2, 8, 8)]),
    ("AvgPool3d", (2,), [(1, 2, 4, 4, 4)]),
    ("LPPool1d", (2, 3), [(1, 2, 8)]),
    ("LPPool2d", (2, 3), [(1, 2, 8, 8)]),
    ("AdaptiveMaxPool2d", ((3, 2),), [(1, 2, 8, 8)]),
    ("AdaptiveAvgPool2d", ((None, 3),), [(1, 2, 8, 8)]),
    ("BatchNorm1d", (3,), [(5, 3)]),
    ("BatchNorm2d", (3,), [(2, 3, 4, 4)]),
    ("BatchNorm3d", (3,), [(2, 3, 2, 2, 2)]),
    ("InstanceNorm1d", (3,), [(2, 3, 6)]),
    ("InstanceNorm2d", (3, 1e-5, 0.1, True, True), [(2, 3, 4, 4)]),
    ("LayerNorm", ((3, 4),), [(2, 3, 4)]),
    ("RMSNorm", (4,), [(2, 3, 4)]),
    ("GroupNorm", (2, 4), [(2, 4, 3)]),
    ("LocalResponseNorm", (2,), [(1, 4, 3, 3)]),
    ("PReLU", (3,), [(2, 3)]),
    ("ReLU", (), [(2, 3)]),
    ("ReLU6", (), [(2, 3)]),
    ("LeakyReLU", (0.2,), [(2, 3)]),
    ("ELU", (), [(2, 3)]),
    ("SELU", (), [(2, 3)]),
    ("CELU", (), [(2, 3)]),
    ("GELU", (), [(2, 3)]),
    ("GELU", ("tanh",), [(2, 3)]),
    ("SiLU", (), [(2, 3)]),
    ("Mish", (), [(2, 3)]),
    ("Sigmoid", (), [(2, 3)]),
    ("LogSigmoid", (), [(2, 3)]),
    ("Tanh", (), [(2, 3)]),
    ("Softplus", (), [(2, 3)]),
    ("Softsign", (), [(2, 3)]),
    ("Hardtanh", (), [(2, 3)]),
    ("Hardsigmoid", (), [(2, 3)]),
    ("Hardswish", (), [(2, 3)]),
    ("Tanhshrink", (), [(2, 3)]),
    ("Softshrink", (), [(2, 3)]),
    ("Hardshrink", (), [(2, 3)]),
    ("Threshold", (0.1, 5.0), [(2, 3)]),
    ("GLU", (), [(2, 4)]),
    ("Softmin", (1,), [(2, 3)]),
    ("Softmax", (1,), [(2, 3)]),
    ("LogSoftmax", (1,), [(2, 3)]),
    ("Softmax2d", (), [(2, 3, 2, 2)]),
    ("Flatten", (), [(2, 3, 4)]),
    ("Unflatten", (1, (2, 3)), [(2, 6)]),
    ("ReflectionPad1d", (1,), [(1, 2, 4)]),
    ("ReflectionPad2d", ((1, 2, 0, 1),), [(1, 2, 4, 4)]),
    ("ReplicationPad2d", (2,), [(1, 2, 4, 4)]),
    ("CircularPad2d", (1,), [(1, 2, 4, 4)]),
    ("ConstantPad2d", (1, 3.5), [(1, 2, 4, 4)]),
    ("ZeroPad2d", ((1, 0, 2, 1),), [(1, 2, 4, 4)]),
    ("PixelShuffle", (2,), [(1, 4, 3, 3)]),
    ("PixelUnshuffle", (2,), [(1, 1, 4, 4)]),
    ("CosineSimilarity", (), [(3, 4), (3, 4)]),
    ("PairwiseDistance", (), [(3, 4), (3, 4)]),
    ("Upsample", (None, 2, "bilinear"), [(1, 2, 3, 3)]),
    ("UpsamplingNearest2d", (None, 2), [(1, 2, 3, 3)]),
]


def twins(name, args):
    """The layer in both libraries with the same weights."""
    ours, theirs = getattr(gg.nn, name)(*args), getattr(torch.nn, name)(*args)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({k: gg.from_numpy(v.numpy().copy()) for k, v in theirs.state_dict().items()})
    return ours, theirs


@pytest.mark.parametrize(("name", "args", "shapes"), LAYERS, ids=lambda v: v if isinstance(v, str) else None)
def test_layer_equals_torchs(name, args, shapes):
    ours, theirs = twins(name, args)
    random = np.random.default_rng(0)
    arrays = [random.standard_normal(s).astype(np.float32) for s in shapes]
    for mode in (True, False):
        a = [gg.tensor(x, requires_grad=True) for x in arrays]
        b = [torch.tensor(x, requires_grad=True) for x in arrays]
        y, z = ours.train(mode)(*a), theirs.train(mode)(*b)
        assert tuple(y.shape) == tuple(z.shape)
        np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-4, atol=2e-5)
        (y * y).sum().backward()
        (z * z).sum().backward()
        for p, q in zip(a, b):
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-3, atol=1e-4)
    for (key, p), q in zip(ours.named_parameters(), theirs.parameters()):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-3, atol=2e-4, err_msg=key)
    for key, value in ours.state_dict().items():
        np.testing.assert_allclose(value.numpy(), theirs.state_dict()[key].numpy(), rtol=1e-5, atol=1e-6, err_msg=key)


# PyTorch prints these with details of its own.
OWN_DETAILS = [
    "AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "AvgPool1d", "AvgPool2d", "AvgPool3d", "BatchNorm1d", "BatchNorm2d",
    "BatchNorm3d", "Bilinear", "CELU", "CosineSimilarity", "ELU", "GELU", "GLU", "GroupNorm", "Hardshrink",
    "Hardtanh", "InstanceNorm1d", "InstanceNorm2d", "LPPool1d", "LPPool2d", "LayerNorm", "LeakyReLU",
    "LocalResponseNorm", "MaxPool1d", "MaxPool2d", "MaxPool3d", "PairwiseDistance", "PixelShuffle",
    "PixelUnshuffle", "RMSNorm", "Softplus", "Softshrink", "Threshold", "Upsample", "UpsamplingNearest2d",
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "shapes"), LAYERS, ids=lambda v: v if isinstance(v, str) else None)
def test_repr_equals_torchs(name, args, shapes):
    ours, theirs = getattr(gg.nn, name)(*args), getattr(torch.nn, name)(*args)
    if name in OWN_DETAILS:
        assert repr(ours).startswith(name + "(")
    else:
        assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("name", ["Linear", "Conv2d", "Embedding"])
def test_initial_values_have_torchs_distribution(name):
    args = {"Linear": (50, 400), "Conv2d": (8, 64, 3), "Embedding": (300, 50)}[name]
    gg.manual_seed(0)
    torch.manual_seed(0)
    ours, theirs = (
        getattr(gg.nn, name)(*args).weight.detach().numpy(),
        getattr(torch.nn, name)(*args).weight.detach().numpy(),
    )
    np.testing.assert_allclose(ours.std(), theirs.std(), rtol=0.05)
    np.testing.assert_allclose(np.abs(ours).max(), np.abs(theirs).max(), rtol=0.25 if name == "Embedding" else 0.02)


LOSSES = [
    ("L1Loss", {}, "pair"), ("MSELoss", {}, "pair"), ("SmoothL1Loss", {"beta": 0.5}, "pair"),
    ("HuberLoss", {"delta": 0.7}, "pair"), ("KLDivLoss", {"reduction": "batchmean"}, "probabilities"),
    ("PoissonNLLLoss", {}, "pair"), ("SoftMarginLoss", {}, "signs"), ("HingeEmbeddingLoss", {}, "signs"),
    ("BCELoss", {}, "probabilities"), ("BCEWithLogitsLoss", {}, "probabilities"),
    ("MultiLabelSoftMarginLoss", {}, "probabilities"), ("CrossEntropyLoss", {"label_smoothing": 0.1}, "classes"),
    ("NLLLoss", {}, "classes"), ("MultiMarginLoss", {"margin": 0.5}, "classes"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kwargs", "kind"), LOSSES, ids=lambda v: v if isinstance(v, str) else None)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_loss_equals_torchs(name, kwargs, kind, reduction):
    random = np.random.default_rng(0)
    x = random.uniform(0.1, 0.9, (6, 5)) if kind == "probabilities" else random.standard_normal((6, 5))
    y = {
        "pair": lambda: random.uniform(0.1, 2, (6, 5)),
        "probabilities": lambda: random.uniform(0.1, 0.9, (6, 5)),
        "signs": lambda: random.choice([-1.0, 1.0], (6, 5)),
        "classes": lambda: random.integers(0, 5, 6),
    }[kind]()
    kwargs = {"reduction": reduction} | (kwargs if "reduction" not in kwargs else {})
    a, b = gg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    ours, theirs = (
        getattr(gg.nn, name)(**kwargs)(a, gg.tensor(y)),
        getattr(torch.nn, name)(**kwargs)(b, torch.tensor(y)),
    )
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-9, atol=1e-12)
    ours.sum().backward()
    theirs.sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-8, atol=1e-12)


def test_embedding_layers():
    ours, theirs = twins("Embedding", (6, 3, 2))
    index = np.array([[1, 2], [2, 5]])
    ours(gg.tensor(index)).sum().backward()
    theirs(torch.tensor(index)).sum().backward()
    np.testing.assert_allclose(ours.weight.grad.numpy(), theirs.weight.grad.numpy())
    ours, theirs = twins("EmbeddingBag", (6, 3))
    np.testing.assert_allclose(
        ours(gg.tensor(index)).detach().numpy(), theirs(torch.tensor(index)).detach().numpy(), rtol=1e-6
    )
    assert gg.nn.Embedding.from_pretrained(gg.ones(2, 3)).weight.requires_grad is False


def test_dropout_layers():
    gg.manual_seed(0)
    drop = gg.nn.Dropout(0.25)
    y = drop(gg.ones(10_000))
    assert set(np.unique(y.numpy()).round(4)) == {0.0, np.float32(1 / 0.75).round(4)}
    assert abs(float((y == 0).float().mean()) - 0.25) < 0.02
    assert (drop.eval()(gg.ones(5)) == 1).all()
    channels = gg.nn.Dropout2d(0.5)(gg.ones(20, 10, 3, 3)).numpy().reshape(200, 9)
    assert all(len(set(row)) == 1 for row in channels)


class Net(gg.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = gg.nn.Linear(4, 3)
        self.rest = gg.nn.ModuleList([gg.nn.Linear(3, 3), gg.nn.BatchNorm1d(3)])
        self.scale = gg.nn.Parameter(gg.ones(3))
        self.register_buffer("steps", gg.zeros(()))
        self.register_buffer("scratch", gg.zeros(2), persistent=False)

    def forward(self, x):
        for layer in self.rest:
            x = layer(x) if x.shape[-1] == 3 else layer(self.first(x))
        return x * self.scale


def test_module_tree():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == [
        "scale", "first.weight", "first.bias", "rest.0.weight", "rest.0.bias", "rest.1.weight", "rest.1.bias",
    ]  # fmt: skip
    assert [n for n, _ in net.named_children()] == ["first", "rest"]
    assert "scratch" not in net.state_dict() and "steps" in net.state_dict()
    assert net.get_submodule("rest.1").num_features == 3
    with pytest.raises(AttributeError, match=r"rest\.7"):
        net.get_submodule("rest.7")
    net.eval()
    assert not net.rest[1].training
    net.double()
    assert net.scale.dtype is gg.float64 and net.rest[1].num_batches_tracked.dtype is gg.int64
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())


def test_shared_parameters_are_listed_once_and_saved_under_both_names():
    a, b = gg.nn.Linear(2, 2, bias=False), gg.nn.Linear(2, 2, bias=False)
    b.weight = a.weight
    model = gg.nn.Sequential(a, b)
    assert len(list(model.parameters())) == 1 and list(model.state_dict()) == ["0.weight", "1.weight"]


def test_load_state_dict_checks_before_it_writes():
    net = Net()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = {k: gg.ones_like(v) for k, v in net.state_dict().items()}
    state["rest.1.weight"] = gg.ones(7)
    with pytest.raises(RuntimeError, match=r"size mismatch for 'rest.1.weight': \(7,\) in the state, \(3,\) here"):
        net.load_state_dict(state)
    assert all(bool(gg.equal(v, before[k])) for k, v in net.state_dict().items())
    del state["rest.1.weight"]
    state["extra"] = gg.ones(1)
    with pytest.raises(RuntimeError, match=r"unexpected keys: extra; missing keys: rest.1.weight"):
        net.load_state_dict(state)
    result = net.load_state_dict(state, strict=False)
    assert result.missing_keys == ["rest.1.weight"] and result.unexpected_keys == ["extra"]
    assert net.scale.tolist() == [1.0, 1.0, 1.0]


def test_copies_and_pickles():
    net = Net()
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert all(bool(gg.equal(a, b)) for a, b in zip(net.parameters(), other.parameters()))
        with gg.no_grad():
            other.scale.fill_(5)
        assert net.scale.tolist() == [1.0, 1.0, 1.0] and isinstance(other.scale, gg.nn.Parameter)


def test_assignment_rules():
    net = Net()
    with pytest.raises(TypeError, match="scale"):
        net.scale = gg.ones(3)
    with pytest.raises(AttributeError, match="super"):

        class Early(gg.nn.Module):
            def __init__(self):
                self.w = gg.nn.Parameter(gg.ones(1))

        Early()
    with pytest.raises(KeyError, match="already exists"):
        net.register_buffer("forward", gg.ones(1))
    net.steps = gg.ones(())
    assert net.state_dict()["steps"].item() == 1.0
    del net.scale
    assert not hasattr(net, "scale")


def test_hooks():
    net = gg.nn.Linear(2, 2)
    seen = []
    h1 = net.register_forward_pre_hook(lambda m, args: (args[0] * 0,))
    h2 = net.register_forward_hook(lambda m, args, out: seen.append(out.shape))
    assert gg.equal(net(gg.ones(1, 2)), net.bias.unsqueeze(0).detach()) and seen == [(1, 2)]
    h1.remove()
    h2.remove()
    gradients = []
    net.register_full_backward_hook(lambda m, gi, go: gradients.append((gi[0].shape, go[0].tolist())))
    x = gg.ones(1, 2, requires_grad=True)
    net(x).sum().backward()
    assert gradients == [((1, 2), [[1.0, 1.0]])]


def test_clipping():
    ours, theirs = twins("Linear", (4, 3))
    x = np.ones((2, 4), np.float32)
    (ours(gg.tensor(x)) * 100).sum().backward()
    (theirs(torch.tensor(x)) * 100).sum().backward()
    a, b = gg.nn.utils.clip_grad_norm_(ours.parameters(), 1.0), torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
    assert a.item() == pytest.approx(b.item(), rel=1e-5)
    np.testing.assert_allclose(ours.weight.grad.numpy(), theirs.weight.grad.numpy(), rtol=1e-5)


@pytest.mark.parametrize("norm_type", [2.0, 1.0, float("inf")])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_clipping_of_many_sizes(norm_type, dtype):
    generator = np.random.default_rng(0)
    values = [generator.standard_normal(n) for n in (1, 3, 17, 64, 1000, 40_001)]
    values += [np.zeros((0,))] * (norm_type < 3)  # nothing has no largest element
    whole = np.concatenate(values)
    exact = np.linalg.norm(whole, norm_type)
    rtol = 2e-2 if dtype == "bfloat16" else 1e-5
    found, before = [], gg.get_num_threads()
    for threads in (1, 2, before):
        gg.set_num_threads(threads)
        owners = [gg.zeros(len(v), dtype=getattr(gg, dtype)) for v in values]
        for p, v in zip(owners, values):
            p.grad = gg.tensor(v, dtype=p.dtype)
        total = gg.nn.utils.clip_grad_norm_(owners, 2.0, norm_type)
        assert total.dtype == owners[0].dtype and total.item() == pytest.approx(exact, rel=rtol)
        clipped = np.concatenate([p.grad.to(gg.float64).numpy() for p in owners])
        np.testing.assert_allclose(clipped, whole * (2 / exact), rtol=rtol)
        found.append((total.item(), clipped))
        gg.nn.utils.clip_grad_norm_(owners, 1e9, norm_type)  # a norm below the largest changes nothing
        np.testing.assert_array_equal(np.concatenate([p.grad.to(gg.float64).numpy() for p in owners]), clipped)
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_clipping_of_strided_and_shared_gradients():
    strided, first, second = gg.zeros(2, 3), gg.zeros(2), gg.zeros(2)
    strided.grad = gg.ones(3, 2).t()
    first.grad = second.grad = gg.ones(2)
    version = strided.grad._version
    assert gg.nn.utils.clip_grad_norm_([strided], 1.0).item() == pytest.approx(6**0.5)
    np.testing.assert_allclose(strided.grad.numpy(), np.full((2, 3), 6**-0.5), rtol=1e-5)
    assert strided.grad._version > version
    assert gg.nn.utils.clip_grad_norm_([first, second], 1.0).item() == 2.0
    np.testing.assert_allclose(first.grad.numpy(), [0.25, 0.25], rtol=1e-5)  # one tensor, scaled for each owner


def test_clipping_of_what_is_not_finite():
    w = gg.zeros(3)
    w.grad = gg.tensor([1.0, float("inf"), 2.0])
    with pytest.raises(RuntimeError, match=r"total norm of order 2\.0 is inf"):
        gg.nn.utils.clip_grad_norm_([w], 1.0, error_if_nonfinite=True)
    np.testing.assert_array_equal(w.grad.numpy(), [1.0, np.inf, 2.0])
    gg.nn.utils.clip_grad_norm_([w], 1.0)
    np.testing.assert_array_equal(w.grad.numpy(), [0.0, np.nan, 0.0])
    w.grad = gg.tensor([1.0, float("nan"), 2.0])
    gg.nn.utils.clip_grad_norm_([w], 1.0)
    assert np.isnan(w.grad.numpy()).all()


@pytest.mark.parametrize("name", ["Linear", "Sequential", "Conv2d"])
def test_layers_report_what_is_wrong(name):
    if name == "Linear":
        with pytest.raises(gg.ShapeError, match=r"linear.*\(2, 5\).*\(3, 4\)"):
            gg.nn.Linear(4, 3)(gg.zeros(2, 5))
    elif name == "Sequential":
        with pytest.raises(TypeError):
            gg.nn.Sequential(3)
    else:
        with pytest.raises(ValueError, match="divide into 2 groups"):
            gg.nn.Conv2d(3, 4, 3, groups=2)


def test_every_torch_layer_that_has_a_function_of_ours_has_a_layer():
    for name in torch.nn.__all__ if hasattr(torch.nn, "__all__") else dir(torch.nn):
        if name.startswith(
            ("Lazy", "Quant", "Adaptive", "RNN", "LSTM", "GRU", "Transformer", "Fractional", "Cross", "DataParallel")
        ):
            continue
        kind = getattr(torch.nn, name, None)
        if isinstance(kind, type) and issubclass(kind, torch.nn.Module) and name not in (
            "MultiheadAttention", "SyncBatchNorm", "Module", "Container", "NLLLoss2d", "LinearCrossEntropyLoss",
        ):  # fmt: skip
            assert hasattr(gg.nn, name), name
