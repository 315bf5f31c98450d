"""Training steps per second under `hard-adamw`'s augmentation, batch 64: ours / the ordinary way, pair by pair.

    python benchmarks/throughput.py [--data PARQUET_FOLDER] [--pairs 3] [--device cpu] [--steps N] [--only NAME]

ours      `dap.evaluation.fit`: images in memory as uint8, whole batches augmented at once, no loader
ordinary  ImageFolder, torchvision's transforms one image at a time, a DataLoader of 2 workers, CutMix on the batch, a
          plain AdamW step: what this field's evaluation code does

Both train the same network in the same process, one after the other, `--pairs` times; the first steps warm up. To say
what bounds a step, the batches are also made alone (no training) and the network is trained alone (one fixed batch).
A case that is in results/throughput.json is not measured again. Images are resized from --data, else smooth noise.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from dap.data import Source, open_dataset
from dap.evaluation import Labelled, build_network, fit, get_protocol
from dap.evaluation.augment import augment, cutmix
from record import RESULTS, Results

CLASSES, EACH, BATCH, WORKERS, WARM_UP = 10, 64, 64, 2, 2
PROTOCOL = get_protocol("hard-adamw")
PCA = torch.tensor([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
PCA = PCA * torch.tensor([0.2175, 0.0188, 0.0045])


@dataclass(frozen=True)
class Case:
    """A network at a size, and how many steps are timed on a CPU and on a GPU; fast: ours in bf16 and compiled."""

    network: str
    size: int
    steps_cpu: int
    steps_gpu: int = 200
    fast: bool = False

    @property
    def name(self) -> str:
        """Key of its row."""
        return f"{self.network} at {self.size} px" + ", ours in bf16 and compiled" * self.fast


CASES = (
    Case("convnet-3", 32, 40),
    Case("convnet-3", 32, 40, fast=True),
    Case("convnet-6", 64, 8),
    Case("convnet-6", 64, 8, fast=True),
    Case("resnetap-10", 64, 4),
    Case("resnetap-10", 64, 4, fast=True),
    Case("convnet-6", 224, 1),
    Case("resnetap-10", 224, 1),
)


def pictures(source: Source | None, size: int, root: Path) -> tuple[Path, Labelled]:
    """The same images as a folder of PNG files and in memory."""
    rng, images = np.random.default_rng(0), []
    for label in range(CLASSES):
        if source is None:
            coarse = [Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for _ in range(EACH)]
            made = [image.resize((size, size), Image.Resampling.BICUBIC) for image in coarse]
        else:
            pixels = source.with_format(size=size).images(label, range(EACH))
            made = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in pixels]
        folder = root / f"{size}" / f"class{label}"
        folder.mkdir(parents=True)
        for i, image in enumerate(made):
            image.save(folder / f"{i:03d}.png")
            images.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
    labels = torch.arange(CLASSES).repeat_interleave(EACH)
    return root / f"{size}", Labelled(torch.stack(images), labels)


def rate_of(steps: Iterator[None], count: int, settle: Callable[[], object]) -> float:
    """Steps per second after the warm-up."""
    for _ in range(WARM_UP):
        next(steps)
    settle()
    began = time.perf_counter()
    for _ in range(count):
        next(steps)
    settle()
    return count / (time.perf_counter() - began)


def ours(case: Case, data: Labelled, count: int, device: str, settle: Callable[[], object]) -> float:
    """Steps per second of `fit`; the clock runs between the ends of two steps."""
    plan = PROTOCOL.plan(classes=CLASSES, images=len(data.labels), ipc=EACH)
    epochs = (WARM_UP + count) // plan.steps_per_epoch + 1  # the evaluation at the end lies outside the clock
    steps = epochs * plan.steps_per_epoch
    plan = replace(plan, epochs=epochs, steps=steps, evaluate_every=steps)
    stamps: list[float] = []

    def stop(done: int, total: int) -> None:
        if done in (WARM_UP, WARM_UP + count):
            settle()
            stamps.append(time.perf_counter())
        if len(stamps) == 2:
            raise TimeoutError

    make = partial(build_network, case.network, CLASSES, size=case.size)
    with suppress(TimeoutError):
        judged: dict[str, Any] = {"classes": CLASSES, "protocol": PROTOCOL, "plan": plan}
        fit(make, data, data, seed=0, device=device, bf16=case.fast, compiled=case.fast, progress=stop, **judged)
    return count / (stamps[1] - stamps[0])


def lighting(x: Tensor) -> Tensor:
    """AlexNet's, of one image."""
    return x + (PCA @ (0.1 * torch.randn(3))).view(3, 1, 1)


def loader_of(folder: Path, size: int) -> DataLoader[Any]:
    """The ordinary way to batches."""
    mean, sd = PROTOCOL.normalise
    steps = [
        transforms.Resize(size),
        transforms.CenterCrop(size),
        transforms.RandomResizedCrop(size, scale=(0.5, 1.0)),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.ColorJitter(0.4, 0.4, 0.4),
        transforms.Lambda(lighting),
        transforms.Normalize(mean, sd),
    ]
    data = ImageFolder(str(folder), transforms.Compose(steps))
    return DataLoader(data, BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True)


def batches_of(loader: DataLoader[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader


def ordinary_steps(network: nn.Module, batches: Iterator[tuple[Tensor, Tensor]], device: str) -> Iterator[None]:
    """The field's training step: CutMix by numpy's generator, AdamW."""
    optimiser, rng = torch.optim.AdamW(network.parameters(), 1e-3), np.random.default_rng(0)
    for images, labels in batches:
        images, labels = images.to(device), labels.to(device)
        size, partner = images.shape[-1], torch.randperm(len(images), device=device)
        side, centre = int(size * np.sqrt(1 - rng.beta(1, 1))), rng.integers(size, size=2)
        (top, left), (bottom, right) = (np.clip(centre + sign * (side // 2), 0, size) for sign in (-1, 1))
        images[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
        ratio = 1 - (bottom - top) * (right - left) / size**2
        logits = network(images)
        loss = ratio * F.cross_entropy(logits, labels) + (1 - ratio) * F.cross_entropy(logits, labels[partner])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield


def our_batches(data: Labelled) -> Iterator[None]:
    generator = torch.Generator().manual_seed(0)
    while True:
        rows = torch.randint(len(data.labels), (BATCH,), generator=generator).to(data.labels.device)
        cutmix(augment(data.images[rows], PROTOCOL, generator), generator)
        yield


def measure(case: Case, folder: Path, data: Labelled, device: str, count: int, pairs: int) -> dict[str, Any]:
    """One row: pairs of steps per second, and what the parts of a step allow."""
    settle = torch.cuda.synchronize if device.startswith("cuda") else (lambda: None)

    def make() -> nn.Module:
        return build_network(case.network, CLASSES, size=case.size).to(device)

    loader = loader_of(folder, case.size)
    rows = []
    for _ in range(pairs):
        mine = ours(case, data, count, device, settle)
        theirs = rate_of(ordinary_steps(make(), batches_of(loader), device), count, settle)
        rows.append([mine, theirs])
        print(case.name, rows[-1], flush=True)
    fixed = next(batches_of(loader))
    alone = rate_of(ordinary_steps(make(), iter(lambda: fixed, None), device), count, settle)
    many = max(count, 20)
    our_data = rate_of(our_batches(data.to(torch.device(device))), many, settle)
    their_data = rate_of((None for _ in batches_of(loader)), many, settle)
    ratios = [a / b for a, b in rows]
    return {
        "steps": count,
        "pairs_steps_per_second": rows,
        "ratios": ratios,
        "median_ratio": statistics.median(ratios),
        "network_alone": alone,
        "batches_alone": {"ours": our_data, "ordinary": their_data},
    }


def table(results: Results) -> str:
    """Markdown."""
    about = results.record
    lines = [
        "# Training steps per second, batch 64: ours against the ordinary way",
        "",
        f"Machine: {about['machine']['processor']}, {about['machine']['cores']} cores, GPU {about['machine']['gpu']};"
        f" device {about['device']}. torch {about['versions']['torch']}. {about['date']}."
        " Script: `benchmarks/throughput.py`.",
        "Ordinary: ImageFolder, torchvision transforms per image, DataLoader with 2 workers. The median of the pairs'"
        " ratios. The last three columns are what the network alone (one fixed batch) and making batches alone allow,"
        " in batches per second: the smaller of network and batches bounds a step.",
        "",
        "| case | ours, steps/s | ordinary, steps/s | ratio | all ratios | network | our batches | ordinary ones |",
        "|---|--:|--:|--:|---|--:|--:|--:|",
    ]
    for name, row in ((case.name, about["rows"][case.name]) for case in CASES if case.name in about["rows"]):
        mine, theirs = (statistics.median(pair[i] for pair in row["pairs_steps_per_second"]) for i in (0, 1))
        parts = row["network_alone"], row["batches_alone"]["ours"], row["batches_alone"]["ordinary"]
        ratios = ", ".join(f"{r:.2f}" for r in row["ratios"])
        numbers = " | ".join(f"{part:.3g}" for part in parts)
        lines.append(f"| {name} | {mine:.3g} | {theirs:.3g} | {row['median_ratio']:.2f} | {ratios} | {numbers} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="labelled images to resize, for example a parquet folder")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, help="timed steps of every case")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", help="cases whose name contains this")
    arguments = parser.parse_args()
    gpu = arguments.device.startswith("cuda")
    kept = Results("throughput", batch=BATCH, workers=WORKERS, device=arguments.device)
    real = open_dataset(arguments.data) if arguments.data else None
    with tempfile.TemporaryDirectory() as scratch:
        made: dict[int, tuple[Path, Labelled]] = {}
        for case in CASES:
            if case.name in kept or (arguments.only and arguments.only not in case.name):
                continue
            if case.size not in made:
                made[case.size] = pictures(real, case.size, Path(scratch))
            count = arguments.steps or (case.steps_gpu if gpu else case.steps_cpu)
            kept[case.name] = measure(case, *made[case.size], arguments.device, count, arguments.pairs)
    (RESULTS / "throughput.md").write_text(table(kept))
    print(table(kept))
