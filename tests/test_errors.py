"""Golden wrong programs: the exception, and a message that names the op, the operands and what clashes."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest

import glassgrad as gg

# (program, exception, what the message must contain); a two-line program fails in its last line.
PROGRAMS: list[tuple[str, str, list[str]]] = [
    # matmul
    ("gg.ones(32, 784) @ gg.ones(785, 10)", "ShapeError", ["matmul", "(32, 784)", "(785, 10)", "784", "785"]),
    ("gg.mm(gg.ones(2, 3), gg.ones(2, 3))", "ShapeError", ["mm", "(2, 3)", "3 and 2"]),
    ("gg.mm(gg.ones(2, 3, 4), gg.ones(4, 5))", "ShapeError", ["mm", "(2, 3, 4)"]),
    ("gg.bmm(gg.ones(2, 3, 4), gg.ones(3, 4, 5))", "ShapeError", ["bmm", "(2, 3, 4)", "(3, 4, 5)"]),
    ("gg.dot(gg.ones(3), gg.ones(4))", "ShapeError", ["dot", "(3,)", "(4,)"]),
    ("gg.ones(2, 3) @ gg.ones(3, 2, dtype=gg.float64)", "TypeError", ["matmul", "float32", "float64"]),
    ("gg.matmul(gg.tensor(1.0), gg.ones(3))", "ShapeError", ["matmul", "()"]),
    ("gg.einsum('ij,jk->ik', gg.ones(2, 3), gg.ones(4, 5))", "ShapeError", ["einsum", "j", "3", "4"]),
    ("gg.einsum('ij->iz', gg.ones(2, 3))", "ValueError", ["einsum", "z"]),
    ("gg.nn.functional.linear(gg.ones(4, 5), gg.ones(3, 6))", "ShapeError", ["linear", "(4, 5)", "(3, 6)"]),
    ("gg.nn.Linear(784, 10)(gg.ones(32, 785))", "ShapeError", ["linear", "(32, 785)", "(10, 784)"]),
    # elementwise
    ("gg.ones(2, 3) + gg.ones(2, 4)", "ShapeError", ["add", "(2, 3)", "(2, 4)"]),
    ("gg.ones(2, 3) * gg.ones(4)", "ShapeError", ["mul", "(2, 3)", "(4,)"]),
    ("gg.maximum(gg.ones(3), gg.ones(2))", "ShapeError", ["maximum", "(3,)", "(2,)"]),
    ("gg.where(gg.ones(3), 1.0, 2.0)", "TypeError", ["where", "float32", "bool"]),
    ("gg.ones(3) & gg.ones(3)", "TypeError", ["bitwise_and", "float32"]),
    ("gg.ones(3).add_(gg.ones(2, 3))", "ShapeError", ["add_", "(3,)", "(2, 3)"]),
    ("gg.ones(3, dtype=gg.int64).add_(1.5)", "TypeError|RuntimeError", ["add_", "Float32", "int64"]),
    (
        "gg.ones(3) - gg.ones(3, dtype=gg.bool) - (gg.ones(3, dtype=gg.bool) - True)",
        "TypeError|RuntimeError",
        ["sub", "bool"],
    ),
    ("gg.nn.functional.gelu(gg.ones(3), approximate='fast')", "ValueError|RuntimeError", ["gelu", "fast", "tanh"]),
    ("gg.div(gg.ones(3), 2.0, rounding_mode='up')", "ValueError|RuntimeError", ["div", "up", "floor", "trunc"]),
    ("gg.ones(3) + 'x'", "TypeError", ["add", "str"]),
    ("gg.clamp(gg.ones(3))", "ValueError|RuntimeError|TypeError", ["clamp", "min", "max"]),
    # reductions
    ("gg.ones(2, 3).sum(2)", "IndexError", ["sum", "2", "-2", "1"]),
    ("gg.ones(2, 3).mean(-3)", "IndexError", ["mean", "-3"]),
    ("gg.ones(2, 3).sum((0, 0))", "ValueError|RuntimeError", ["sum", "0"]),
    ("gg.ones(2, 3, dtype=gg.int64).mean()", "TypeError|RuntimeError", ["mean", "int64"]),
    ("gg.zeros(0).max()", "IndexError|RuntimeError|ValueError", ["max", "(0,)"]),
    ("gg.zeros(0, 3).argmax(0)", "IndexError|RuntimeError|ValueError", ["argmax", "(0, 3)"]),
    ("gg.topk(gg.ones(3), 4)", "IndexError|RuntimeError|ValueError", ["topk", "4", "3"]),
    ("gg.kthvalue(gg.ones(3), 0)", "IndexError|RuntimeError|ValueError", ["kthvalue", "0"]),
    ("gg.quantile(gg.ones(3), 1.5)", "ValueError|RuntimeError", ["quantile", "1.5"]),
    # layout
    ("gg.ones(2, 3).reshape(4, 2)", "ShapeError", ["reshape", "(2, 3)", "(4, 2)", "6", "8"]),
    ("gg.ones(2, 3).reshape(-1, -1)", "ValueError|RuntimeError", ["reshape", "-1"]),
    ("gg.ones(2, 3).t().view(6)", "ShapeError|RuntimeError", ["view", "reshape"]),
    ("gg.ones(2, 3).permute(0, 0)", "ValueError|RuntimeError", ["permute", "0"]),
    ("gg.ones(2, 3).transpose(0, 2)", "IndexError", ["transpose", "2"]),
    ("gg.ones(2, 3).expand(3, 3)", "ShapeError", ["expand", "(2, 3)", "(3, 3)"]),
    ("gg.cat([gg.ones(2, 3), gg.ones(2, 4)], 0)", "ShapeError", ["cat", "(2, 3)", "(2, 4)"]),
    ("gg.stack([gg.ones(2), gg.ones(3)])", "ShapeError", ["stack", "(2,)", "(3,)"]),
    ("gg.cat([])", "ValueError|RuntimeError", ["cat", "at least one"]),
    ("gg.split(gg.ones(5), [2, 2])", "ValueError|RuntimeError", ["split", "5", "4"]),
    (
        "gg.nn.functional.pad(gg.ones(2, 3), (4, 4), mode='reflect')",
        "ShapeError|NotImplementedError",
        ["pad", "(2, 3)", "4"],
    ),
    ("gg.zeros(2**40, 2**40)", "ShapeError|ValueError|MemoryError|OverflowError", ["zeros", "1099511627776"]),
    ("gg.zeros(-1)", "ValueError|RuntimeError", ["zeros", "-1"]),
    ("gg.tensor([[1.0, 2.0], [3.0]])", "ValueError", ["tensor"]),
    # indexing
    ("gg.ones(3, 4)[3]", "IndexError", ["3", "axis 0", "size 3"]),
    ("gg.ones(3, 4)[:, -5]", "IndexError", ["-5", "4"]),
    ("gg.ones(3, 4)[0, 0, 0]", "IndexError", ["3", "(3, 4)"]),
    ("gg.ones(3, 4)[gg.tensor([0, 5])]", "IndexError", ["5", "3"]),
    ("gg.ones(3, 4)[gg.ones(4, dtype=gg.bool)]", "IndexError", ["(4,)", "(3, 4)"]),
    ("gg.ones(3, 4)[0.5]", "TypeError|IndexError", ["float"]),
    ("gg.ones(3, 4)[::-1]", "ValueError", ["step", "flip"]),
    ("gg.gather(gg.ones(2, 3), 1, gg.tensor([[0, 3]]))", "IndexError", ["gather", "3"]),
    ("gg.index_select(gg.ones(2, 3), 0, gg.tensor([2]))", "IndexError", ["index_select", "2"]),
    ("gg.nn.functional.embedding(gg.tensor([0, 10]), gg.ones(10, 4))", "IndexError", ["embedding", "10"]),
    ("gg.nn.functional.one_hot(gg.tensor([0, 3]), 3)", "IndexError|RuntimeError|ValueError", ["one_hot", "3"]),
    ("gg.masked_select(gg.ones(3), gg.ones(3))", "TypeError|RuntimeError", ["masked_select", "bool"]),
    # convolution, pooling, norms, attention
    ("gg.nn.functional.conv2d(gg.ones(1, 3, 8, 8), gg.ones(4, 2, 3, 3))", "ShapeError", ["conv2d", "3", "2"]),
    ("gg.nn.functional.conv2d(gg.ones(1, 3, 2, 2), gg.ones(4, 3, 5, 5))", "ShapeError", ["conv2d", "5", "2"]),
    ("gg.nn.Conv2d(3, 8, 3)(gg.ones(1, 1, 28, 28))", "ShapeError", ["conv2d", "(1, 1, 28, 28)", "(8, 3, 3, 3)"]),
    ("gg.nn.functional.max_pool2d(gg.ones(1, 1, 2, 2), 3)", "ShapeError|ValueError|RuntimeError", ["max_pool2d", "3"]),
    ("gg.nn.functional.layer_norm(gg.ones(2, 5), (4,))", "ShapeError", ["layer_norm", "(2, 5)", "(4,)"]),
    ("gg.nn.BatchNorm2d(3)(gg.ones(2, 4, 5, 5))", "ShapeError|ValueError", ["batch_norm", "3", "4"]),
    (
        "gg.nn.functional.group_norm(gg.ones(2, 5, 3), 2)",
        "ShapeError|ValueError|RuntimeError",
        ["group_norm", "5", "2"],
    ),
    (
        "gg.nn.functional.scaled_dot_product_attention(gg.ones(1, 4, 8), gg.ones(1, 4, 6), gg.ones(1, 4, 8))",
        "ShapeError",
        ["scaled_dot_product_attention", "8", "6"],
    ),
    ("gg.softmax(gg.ones(2, 3), 2)", "IndexError", ["softmax", "2"]),
    ("gg.nn.functional.dropout(gg.ones(3), p=1.5)", "ValueError", ["dropout", "1.5"]),
    # losses
    ("gg.nn.functional.mse_loss(gg.ones(4, 1), gg.ones(4))", "ShapeError", ["mse_loss", "(4, 1)", "(4,)"]),
    ("gg.nn.functional.cross_entropy(gg.ones(4, 3), gg.tensor([0, 1, 2, 3]))", "IndexError", ["cross_entropy", "3"]),
    (
        "gg.nn.functional.cross_entropy(gg.ones(4, 3), gg.tensor([0, 1]))",
        "ShapeError|ValueError",
        ["cross_entropy", "(4, 3)", "(2,)"],
    ),
    (
        "gg.nn.functional.nll_loss(gg.ones(2, 3), gg.ones(2))",
        "TypeError|RuntimeError",
        ["nll_loss", "int64", "float32"],
    ),
    (
        "gg.nn.functional.binary_cross_entropy(gg.ones(3), gg.ones(2))",
        "ShapeError|ValueError",
        ["binary_cross_entropy", "(3,)", "(2,)"],
    ),
    ("gg.nn.functional.l1_loss(gg.ones(3), gg.ones(3), reduction='avg')", "ValueError", ["avg", "mean"]),
    # the graph
    ("gg.ones(3).sum().backward()", "RuntimeError", ["backward", "grad"]),
    ("gg.ones(3, requires_grad=True).mul(2).backward()", "RuntimeError", ["backward", "(3,)"]),
    (
        "y = gg.ones(3, requires_grad=True).exp().sum(); y.backward()\ny.backward()",
        "RuntimeError",
        ["backward", "retain_graph"],
    ),
    (
        "x = gg.ones(3, requires_grad=True); y = x.exp(); y.mul_(2)\ny.sum().backward()",
        "RuntimeError",
        ["Exp", "(3,)", "modified", "version", "program:1"],
    ),
    ("x = gg.ones(3, requires_grad=True)\nx.add_(1)", "RuntimeError", ["leaf", "add_"]),
    ("x = gg.ones(3, requires_grad=True)\nx.numpy()", "RuntimeError", ["detach"]),
    ("gg.ones(3, dtype=gg.int64, requires_grad=True)", "RuntimeError|TypeError", ["int64", "grad"]),
    (
        "x = gg.ones(3, requires_grad=True); z = gg.ones(3, requires_grad=True)\ngg.autograd.grad(x.sum(), [z])",
        "RuntimeError",
        ["allow_unused"],
    ),
    ("x = gg.ones(3, requires_grad=True)\nx.exp().backward(gg.ones(2))", "RuntimeError", ["(2,)", "(3,)"]),
    # conversions
    ("bool(gg.ones(3))", "RuntimeError|ValueError", ["bool", "(3,)", "3 elements"]),
    ("gg.ones(3).item()", "RuntimeError|ValueError", ["item", "(3,)"]),
    ("gg.ones(3).to('gpu')", "ValueError|RuntimeError", ["gpu", "cpu"]),
    ("len(gg.tensor(1.0))", "TypeError", ["0-d"]),
    ("gg.tensor(['a'])", "TypeError|ValueError", ["tensor"]),
    ("gg.from_numpy([1, 2])", "TypeError", ["from_numpy", "list"]),
    ("gg.from_numpy(np.array(['a']))", "TypeError", ["from_numpy"]),
    # modules
    ("gg.nn.Linear(2, 3).load_state_dict({'weight': gg.ones(3, 2)})", "RuntimeError|KeyError", ["Linear", "bias"]),
    (
        "gg.nn.Linear(2, 3).load_state_dict({'weight': gg.ones(2, 3), 'bias': gg.ones(3)})",
        "RuntimeError",
        ["weight", "(2, 3)", "(3, 2)"],
    ),
    ("gg.nn.Sequential(gg.nn.Linear(2, 3)).nothing", "AttributeError", ["Sequential", "nothing"]),
    ("gg.optim.SGD([], lr=0.1)", "ValueError", ["empty"]),
    ("gg.optim.Adam([gg.ones(2, requires_grad=True)], lr=-1.0)", "ValueError", ["-1"]),
]


def named(name: str) -> type[Exception]:
    found: Any = getattr(builtins, name, None) or getattr(gg, name, None) or getattr(gg._core, name)
    assert issubclass(found, Exception)
    return found


@pytest.mark.parametrize(
    ("program", "exception", "words"), PROGRAMS, ids=[p[0].replace("gg.", "")[:70] for p in PROGRAMS]
)
def test_message(program: str, exception: str, words: list[str]) -> None:
    scope = {"gg": gg, "np": np}
    *setup, last = program.split("\n")
    exec(compile("\n".join(setup), "program", "exec"), scope)
    with pytest.raises(tuple(map(named, exception.split("|")))) as caught:
        exec(compile(last, "program", "exec"), scope)
    message = str(caught.value)
    absent = [word for word in words if word not in message]
    assert not absent, f"not in the message: {absent}\n{type(caught.value).__name__}: {message}"


def test_shape_errors_are_both_runtime_and_value_errors() -> None:
    for wanted in (RuntimeError, ValueError):
        with pytest.raises(wanted):
            gg.ones(2, 3) @ gg.ones(4, 5)
