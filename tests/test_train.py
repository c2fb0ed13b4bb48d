"""Whole trainings: programs as a PyTorch user types them, reproducibility across threads, the demo."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import glassgrad as gg

MLP = """
import {lib} as torch
from {lib} import nn
from {lib}.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(512, 20)
y = (x[:, 0] * x[:, 1] > 0).long()
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(30):
    for xb, yb in DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(xb), yb)
        loss.backward()
        optimizer.step()
accuracy = (model(x).argmax(dim=1) == y).float().mean().item()
"""

CNN = """
import {lib} as torch
import {lib}.nn as nn
import {lib}.nn.functional as F
import {lib}.optim as optim

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(8)
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(8, 16, 3)
        self.drop = nn.Dropout(0.1)
        self.fc = nn.Linear(16 * 2 * 2, 10)

    def forward(self, x):
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        x = F.relu(self.conv2(x))
        x = torch.flatten(x, 1)
        return self.fc(self.drop(x))

torch.manual_seed(0)
images, labels = torch.from_numpy(images), torch.from_numpy(labels)
net = Net()
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=8, gamma=0.3)
for epoch in range(12):
    order = torch.randperm(len(images))
    for i in range(0, len(images), 64):
        batch = order[i : i + 64]
        optimizer.zero_grad()
        loss = criterion(net(images[batch]), labels[batch])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
    scheduler.step()
net.eval()
with torch.no_grad():
    accuracy = (net(images).argmax(1) == labels).float().mean().item()
"""


def digits():
    sklearn = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    data = sklearn.load_digits()
    return (data.images[:, None] / 16).astype(np.float32), data.target.astype(np.int64)


@pytest.mark.parametrize("lib", ["glassgrad", "torch"])
@pytest.mark.parametrize("program", ["MLP", "CNN"])
def test_programs_run_with_only_the_import_changed(lib, program):
    pytest.importorskip(lib, reason="PyTorch is not installed")
    images, labels = digits()
    scope = {"images": images, "labels": labels}
    exec(compile({"MLP": MLP, "CNN": CNN}[program].format(lib=lib), program, "exec"), scope)
    assert scope["accuracy"] > 0.97


THREADS = """
import sys, hashlib
import numpy as np
import glassgrad as gg
from glassgrad import nn
import glassgrad.nn.functional as F

gg.set_num_threads(int(sys.argv[1]))
gg.manual_seed(7)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        self.norm = nn.LayerNorm(32)
        self.qkv = nn.Linear(32, 96)
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.bn = nn.BatchNorm2d(16)
        self.group = nn.GroupNorm(4, 16)
        self.out = nn.Linear(32 + 16 * 64, 10)

    def forward(self, image, tokens):
        h = self.norm(self.embed(tokens))
        q, k, v = self.qkv(h).view(h.shape[0], h.shape[1], 3, 4, 8).permute(2, 0, 3, 1, 4).unbind(0)
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2).mean(1)
        c = F.max_pool2d(F.gelu(self.group(self.bn(self.conv(image)))), 2)
        return self.out(F.dropout(gg.cat([h, c.flatten(1)], 1), 0.2, self.training))

net = Net()
optimizer = gg.optim.AdamW(net.parameters(), lr=1e-3)
image, tokens, labels = gg.randn(32, 3, 16, 16), gg.randint(0, 50, (32, 40)), gg.randint(0, 10, (32,))
for _ in range(6):
    loss = F.cross_entropy(net(image, tokens), labels)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
weights = [np.ascontiguousarray(v.numpy()).tobytes() for v in net.state_dict().values()]
print(hashlib.sha256(b"".join(weights)).hexdigest())
"""


def test_training_is_bitwise_the_same_for_any_number_of_threads():
    found = set()
    for threads in (1, 2, 2, 3, 1):
        done = subprocess.run(
            [sys.executable, "-c", THREADS, str(threads)], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        found.add(done.stdout.strip())
    assert len(found) == 1


def test_demo_learns(tmp_path, capsys):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from glassgrad import demo

    score = demo.run(out=str(tmp_path), epochs=12)
    printed = capsys.readouterr().out
    assert score >= 0.97
    assert "predictions are identical" in printed and "worst relative difference" in printed
    assert (tmp_path / "digits.png").stat().st_size > 10_000 and (tmp_path / "digits.safetensors").exists()


def test_demo_reads_mnist_files(tmp_path):
    import gzip
    import struct

    from glassgrad import demo

    random = np.random.default_rng(0)
    for name, shape in (
        ("train-images-idx3", (20, 28, 28)), ("train-labels-idx1", (20,)), ("t10k-images-idx3", (5, 28, 28)),
        ("t10k-labels-idx1", (5,)),
    ):  # fmt: skip
        header = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
        (tmp_path / f"{name}-ubyte.gz").write_bytes(
            gzip.compress(header + random.integers(0, 10, shape, np.uint8).tobytes())
        )
    images, labels, test_images, test_labels = demo.load_digits(str(tmp_path))
    assert images.shape == (20, 1, 28, 28) and labels.dtype is gg.int64 and len(test_images) == len(test_labels) == 5
    with pytest.raises(FileNotFoundError, match="standard files"):
        demo.load_digits(str(tmp_path / "nowhere"))
