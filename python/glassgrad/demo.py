"""The demo: a convolutional network learns handwritten digits, and every claim about it is checked on the way.

1 summary        layers, shapes, parameters, operations
2 gradients      of this very model, against central differences in float64
3 training       Adam, with a progress bar
4 picture        the loss curve and test digits with predictions
5 weights        saved, loaded into a new model, predictions identical
6 PyTorch        where installed: the same model, weights and batches in another process, losses compared, then timed
"""

from __future__ import annotations

import copy
import gzip
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

import numpy as np

import glassgrad as gg
from glassgrad.nn import functional as F

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from glassgrad.tensor import Tensor

__all__ = ["make_model", "run"]

BATCH = 64


def read_idx(path: str) -> NDArray[np.uint8]:
    """Reads an IDX file (gzipped or not): magic number, sizes, bytes."""
    opener: Any = gzip.open if path.endswith(".gz") else open
    with opener(path, "rb") as file:
        content = file.read()
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is not an IDX file of bytes")
    ndim = content[3]
    shape = np.frombuffer(content, ">u4", ndim, 4)
    data = np.frombuffer(content, np.uint8, offset=4 + 4 * ndim)
    if data.size != int(np.prod(shape, dtype=np.int64)):
        raise ValueError(f"{path} should hold {tuple(shape)} bytes and holds {data.size}")
    return data.reshape(shape)


def load_digits(folder: str | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images (N, 1, H, W) in [0, 1] and labels, then test images and labels."""
    if folder is not None:
        parts = []
        for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
            found = [
                os.path.join(folder, file)
                for file in (f"{name}-ubyte.gz", f"{name}-ubyte", name.replace("-idx", ".idx") + "-ubyte")
                if os.path.exists(os.path.join(folder, file))
            ]
            if not found:
                raise FileNotFoundError(f"{folder} has no {name}-ubyte.gz: MNIST's four standard files are needed")
            parts.append(read_idx(found[0]))
        images, labels, test_images, test_labels = parts
        return (*_tensors(images / np.float32(255), labels), *_tensors(test_images / np.float32(255), test_labels))
    from sklearn.datasets import load_digits as sklearn_digits

    digits = sklearn_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = digits.images[order] / 16.0
    labels = digits.target[order]
    return (*_tensors(images[:-360], labels[:-360]), *_tensors(images[-360:], labels[-360:]))


def _tensors(images: Any, labels: Any) -> tuple[Tensor, Tensor]:
    return gg.tensor(images[:, None].astype(np.float32)), gg.tensor(labels.astype(np.int64))


def make_model(side: int) -> gg.nn.Sequential:
    """Two convolutions, a pooling and two linear layers for images of side x side."""
    return gg.nn.Sequential(
        gg.nn.Conv2d(1, 32, 3, padding=1),
        gg.nn.ReLU(),
        gg.nn.Conv2d(32, 32, 3, padding=1),
        gg.nn.ReLU(),
        gg.nn.MaxPool2d(2),
        gg.nn.Flatten(),
        gg.nn.Linear(32 * (side // 2) ** 2, 64),
        gg.nn.ReLU(),
        gg.nn.Linear(64, 10),
    )


def check_gradients(model: gg.nn.Module, x: Tensor, y: Tensor, samples: int = 8) -> float:
    """The worst relative difference between backward and numpy's central differences, in float64.

    For each parameter: along one random direction, which every element takes part in, and of single elements.
    """
    model = copy.deepcopy(model).double()
    x = x.double()
    random = np.random.default_rng(0)

    def loss() -> float:
        with gg.no_grad():
            return float(F.cross_entropy(model(x), y))

    F.cross_entropy(model(x), y).backward()
    worst = 0.0
    for parameter in model.parameters():
        values = parameter.detach().numpy()  # the same memory: numpy moves the weights, the model computes
        gradient = parameter.grad.numpy()
        directions = [random.standard_normal(values.shape)]
        directions[0] /= np.linalg.norm(directions[0])  # a longer step would cross kinks of ReLU and max pooling
        for flat in random.choice(values.size, min(samples, values.size), replace=False):
            one = np.zeros(values.size)
            one[flat] = 1.0
            directions.append(one.reshape(values.shape))
        for direction in directions:
            before, step = values.copy(), 1e-6
            values[...] = before + step * direction
            up = loss()
            values[...] = before - step * direction
            down = loss()
            values[...] = before
            numeric = (up - down) / (2 * step)
            exact = float((gradient * direction).sum())
            worst = max(worst, abs(numeric - exact) / max(abs(numeric), abs(exact), 1e-3))
    return worst


def accuracy(model: gg.nn.Module, images: Tensor, labels: Tensor) -> tuple[float, NDArray[Any]]:
    """The fraction of images classified right, and the predictions."""
    model.eval()
    with gg.no_grad():
        predictions = np.concatenate([model(part).argmax(1).cpu().numpy() for part in images.split(1000)])
    model.train()
    return float((predictions == labels.cpu().numpy()).mean()), predictions


def train(model: gg.nn.Module, images: Tensor, labels: Tensor, epochs: int) -> list[float]:
    """Adam on shuffled batches; returns the loss of every step."""
    from tqdm import tqdm

    optimizer = gg.optim.Adam(model.parameters(), lr=2e-3)
    schedule = gg.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    loader: gg.data.DataLoader[Any] = gg.data.DataLoader(
        gg.data.TensorDataset(images, labels), batch_size=None, sampler=_Batches(len(labels))
    )
    losses: list[float] = []
    with tqdm(total=epochs * len(labels), unit="img", unit_scale=True, mininterval=0.5) as bar:
        for epoch in range(epochs):
            right = seen = 0
            for x, y in loader:
                scores = model(x)
                loss = F.cross_entropy(scores, y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(float(loss))
                right += int((scores.argmax(1) == y).sum())
                seen += len(y)
                bar.update(len(y))
                bar.set_description(f"epoch {epoch + 1}/{epochs}", refresh=False)
                bar.set_postfix(loss=f"{losses[-1]:.4f}", accuracy=f"{right / seen:.4f}", refresh=False)
            schedule.step()
    return losses


class _Batches(gg.data.Sampler["Tensor"]):
    """Index tensors of shuffled batches: a TensorDataset gathers a whole batch at once."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __iter__(self) -> Any:
        return iter(gg.randperm(self.n).split(BATCH))

    def __len__(self) -> int:
        return -(-self.n // BATCH)


def draw(path: str, losses: list[float], images: Tensor, labels: Tensor, predictions: NDArray[Any]) -> None:
    """The loss curve, and test digits under their predictions, wrong ones first and in red."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=(11, 4.5), constrained_layout=True)
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.2])
    axes = left.subplots()
    axes.plot(losses, color="0.75", linewidth=0.8, label="each step")
    window = max(1, len(losses) // 50)
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    axes.plot(np.arange(len(smooth)) + window - 1, smooth, color="C0", label=f"mean of {window}")
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("training loss (cross-entropy)")
    axes.legend()
    truth = labels.numpy()
    order = np.argsort(predictions == truth, kind="stable")[:32]
    for cell, i in zip(right.subplots(4, 8).flat, order):
        cell.imshow(images[int(i), 0].numpy(), cmap="gray_r")
        good = predictions[i] == truth[i]
        cell.set_title(
            f"{predictions[i]}" if good else f"{predictions[i]} not {truth[i]}", color="k" if good else "r", size=8
        )
        cell.axis("off")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def measure(model: Any, x: Any, y: Any, loss_of: Any, optimizer: Any, steps: int = 60) -> tuple[float, float]:
    """The loss before the first step, and images per second as the median over steps."""
    times = []
    first = None
    for _ in range(steps):
        start = time.perf_counter()
        loss = loss_of(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first = float(loss) if first is None else first
        times.append(time.perf_counter() - start)
    return float(first or 0.0), len(y) / float(np.median(times[5:]))


def _measure_ours(folder: str) -> dict[str, float]:
    state = gg.load_npz(os.path.join(folder, "state.npz"))
    x, y = state.pop("x"), state.pop("y")
    model = make_model(x.shape[-1])
    model.load_state_dict(state)
    first, speed = measure(model, x, y, F.cross_entropy, gg.optim.Adam(model.parameters(), lr=2e-3))
    return {"loss": first, "speed": speed}


def _measure_torch(folder: str) -> dict[str, float]:
    import torch

    torch.set_num_threads(gg.get_num_threads())
    with np.load(os.path.join(folder, "state.npz")) as archive:
        state = {name: torch.from_numpy(archive[name]) for name in archive.files}
    x, y = state.pop("x"), state.pop("y")
    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * (x.shape[-1] // 2) ** 2, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    model.load_state_dict(state)
    first, speed = measure(model, x, y, nn.functional.cross_entropy, torch.optim.Adam(model.parameters(), lr=2e-3))
    return {"loss": first, "speed": speed}


def compare_with_torch(images: Tensor, labels: Tensor) -> str:
    """Both libraries on the same weights and batch, each in its own process, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        state = dict(make_model(images.shape[-1]).state_dict())
        gg.io.save_npz(os.path.join(folder, "state.npz"), x=images[:BATCH], y=labels[:BATCH], **state)
        results: dict[str, list[dict[str, float]]] = {"ours": [], "torch": []}
        for _ in range(3):
            for who, found in results.items():
                code = f"import json; from glassgrad import demo; print(json.dumps(demo._measure_{who}({folder!r})))"
                done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
                if done.returncode:
                    return f"PyTorch comparison failed: {done.stderr.strip().splitlines()[-1]}"
                found.append(json.loads(done.stdout.splitlines()[-1]))
    ours, torch = (float(np.median([r["speed"] for r in results[who]])) for who in ("ours", "torch"))
    difference = abs(results["ours"][0]["loss"] - results["torch"][0]["loss"])
    return (
        f"training step, batch {BATCH}, {gg.get_num_threads()} threads: glassgrad {ours:,.0f} images/s, "
        f"PyTorch {torch:,.0f} images/s: {ours / torch:.2f} times (first losses differ by {difference:.1e})"
    )


def run(
    data: str | None = None,
    out: str = "glassgrad_demo",
    epochs: int | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> float:
    """Runs the whole demo, training on a device ("cpu", "cuda", "simt"), and returns the test accuracy."""
    missing = [
        name for name in ("matplotlib", "safetensors", "sklearn", "tqdm") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise ImportError(f"the demo needs {', '.join(missing)}: pip install 'glassgrad[examples]'")
    gg.manual_seed(seed)
    images, labels, test_images, test_labels = load_digits(data)
    epochs = epochs or (3 if data else 20)
    side = images.shape[-1]
    model = make_model(side)
    settings = gg.config()
    print(f"glassgrad {settings['version']}: {settings['isa']} kernels, {settings['threads']} threads")
    print(f"{len(labels):,} training and {len(test_labels):,} test images of {side}x{side}\n")
    print(gg.inspect.summary(model, images[:1]))

    worst = check_gradients(model, images[:8], labels[:8])
    print(f"\ngradients against central differences in float64: worst relative difference {worst:.1e}")
    if worst > 1e-4:
        raise RuntimeError(f"the gradients are wrong: they differ from central differences by {worst:.1e}")

    model.to(device)
    there = [x.to(device) for x in (images, labels, test_images, test_labels)]
    start = time.perf_counter()
    losses = train(model, there[0], there[1], epochs)
    seconds = time.perf_counter() - start
    score, predictions = accuracy(model, there[2], there[3])
    model.cpu()
    print(f"test accuracy {score:.2%} after {seconds:.1f} s ({epochs * len(labels) / seconds:,.0f} images/s)")

    os.makedirs(out, exist_ok=True)
    picture, weights = os.path.join(out, "digits.png"), os.path.join(out, "digits.safetensors")
    draw(picture, losses, test_images, test_labels, predictions)
    gg.save(model.state_dict(), weights)
    copied = make_model(side)
    copied.load_state_dict(gg.load(weights))
    with gg.no_grad():
        same = bool(gg.equal(model(test_images), copied(test_images)))
    print(f"picture in {picture}")
    print(f"weights in {weights}; loaded into a new model, predictions are {'identical' if same else 'DIFFERENT'}")
    if not same:
        raise RuntimeError("the loaded model predicts differently")

    if device != "cpu":
        print("the comparison with PyTorch is on the CPU: run without --device for it")
    elif importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed, so there is no comparison (make demo WITH_TORCH=1 installs it)")
    else:
        print(compare_with_torch(images, labels))
    return score
