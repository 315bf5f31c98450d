"""How near the guidance's gradient comes to its mean over the noise of the real images, for how many forward rows.

    python benchmarks/reference.py [--classes 10]

Digits, IPC 10, at states x_t of guided trajectories (generation seed 300, in no other table). The truth is the gradient
with all real images of a class, each noised 16 times in antithetic pairs ("clusters": in the same ones; "contrast" and
"half precision": what they name). Per variant and level: the mean cosine of the images' gradients with the truth, and
the smallest. Written to results/reference.{json,md}.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dap.config import load_config
from dap.distillation import Job, open_job
from dap.guidance import PRESETS, Representativeness
from dap.guidance.clusters import cluster_weights
from dap.negatives import NEGATIVES, pool_of
from dap.noise import neighbours
from dap.pooling import Pooling
from dap.reference import Reference
from dap.support import small_pictures, support_points
from dap.types import Unit
from record import RESULTS, Results, places

LEVELS = (26, 34, 42, 46)
SIZES = (8, 16, 32, 64, 96, 128)
DRAWS = 8


class Probe:
    """Gradients of one class's images at a captured state, for any real rows."""

    def __init__(self, job: Job, label: int, index: int, x_t: Tensor) -> None:
        if job.guided is None or job.reference is None or not isinstance(job.guidance, Representativeness):
            raise AssertionError("the preset guides")
        self.job, self.label, self.index, self.guidance = job, label, index, job.guidance
        self.reference: Reference = job.reference
        self.t = job.sampler.chain.timesteps[index]
        self.x = x_t.clone().requires_grad_()
        self.condition = job.backbone.condition([job.sampler.classes[label]])
        given = job.backbone.predict(self.x, self.t, self.condition, str(job.guidance.tap))
        if given.features is None:
            raise AssertionError("a tap gives features")
        self.features = given.features

    def rows(self, x_0: Tensor, noise: Tensor) -> Tensor:
        """Real rows [n, F] at this level."""
        x_t = self.reference.chain.noised(x_0, noise, self.t)
        return self.job.backbone.tap_features(x_t, self.t, self.condition, str(self.guidance.tap)).flatten(1)

    def gradient(
        self,
        real: Tensor,
        pooling: Pooling | None = None,
        weights: Tensor | None = None,
        negatives: Tensor | None = None,
    ) -> Tensor:
        """g_t [I, C H W] for these real rows; with the weights [I, N] of clusters; negatives weigh as at IPC 1."""
        pooling, energy = pooling or Pooling(), self.guidance.energy
        energy = replace(energy, contrast=PRESETS["dap"]["contrast"] * len(self.features))
        slope = energy.slope([pooling.rows(self.features.detach())], [real], weights, negatives).slopes[0]
        back = pooling.back(slope, self.features)
        return torch.autograd.grad(self.features, self.x, back, retain_graph=True)[0].flatten(1)

    def truth(self) -> Tensor:
        """All real images, each noised 2 x DRAWS times."""
        x_0, draw = self.reference.latents(self.label), torch.Generator().manual_seed(self.index)
        noises = [torch.randn(x_0.shape, generator=draw) for _ in range(DRAWS)]
        return torch.cat([self.rows(x_0, sign * noise) for noise in noises for sign in (1, -1)])


def clustered(probe: Probe, chosen: list[int], noise: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients with image i guided by cluster i: of the chosen rows, and of all of them in the same clusters."""
    latents = probe.reference.latents(probe.label)
    x_0, images = latents[chosen], len(probe.features)
    weights = cluster_weights(x_0, images, partner=neighbours(x_0.flatten(1)))
    nearest = torch.cdist(latents.flatten(1), weights @ x_0.flatten(1)).argmin(1)
    nearest[chosen] = weights.argmax(0)
    members = torch.nn.functional.one_hot(nearest, images).T.float()
    everyone = (members / members.sum(1, keepdim=True)).repeat(1, 2 * DRAWS) / (2 * DRAWS)
    return probe.gradient(probe.rows(x_0, noise), weights=weights), probe.gradient(truth, weights=everyone)


def variants(
    probe: Probe, order: list[int], shuffled: list[int], truth: Tensor
) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """(name, gradient) of everything that is compared."""
    reference, latents = probe.reference, probe.reference.latents(probe.label)
    draw = torch.Generator().manual_seed(1000 + probe.index)

    def of(chosen: list[int], balanced: bool) -> Tensor:
        x_0 = latents[chosen]
        noise = reference.noise(probe.label, x_0) if balanced else torch.randn(x_0.shape, generator=draw)
        return probe.rows(x_0, noise)

    everyone = list(range(len(latents)))
    for name, balanced in (("independent", False), ("balanced", True)):
        yield f"images | all, {name} noise | {len(latents)}", lambda b=balanced: probe.gradient(of(everyone, b))
        for size in SIZES:
            for kind, chosen in (("random", shuffled), ("support points", order)):
                key = f"images | {kind}, {name} noise | {size}"
                yield key, lambda c=chosen, s=size, b=balanced: probe.gradient(of(c[:s], b))
    for size in (64, 96, 128):
        x_0 = latents[order[:size]]
        for kind, noise in (
            ("independent", torch.randn(x_0.shape, generator=draw)),
            ("balanced", reference.noise(probe.label, x_0)),
        ):
            yield (
                f"clusters | support points, {kind} noise | {size}",
                lambda c=order[:size], n=noise: clustered(probe, c, n, truth),
            )  # type: ignore[return-value]
    x_0 = latents[order[:96]]
    for spacing in (0, 0.06, 0.09, 0.12, 0.14, 0.2, 0.3):
        kept = Reference(
            probe.job.backbone,
            replace(reference.source, keys=keys_in(reference, probe.label, order[:96])),
            reference.classes,
            reference.chain,
            tap=reference.tap,
            interval=reference.interval,
            spacing=spacing,
            rows=96,
        )
        yield (
            f"anchors | 96 support points | {spacing}",
            lambda k=kept: probe.gradient(k.features(probe.label, probe.index)),
        )
    rows = probe.rows(x_0, reference.noise(probe.label, x_0))
    pool, foreign = reference.negatives(probe.label, probe.index), everyone_else(probe)
    yield (
        "contrast | negatives, against all images of the other classes, weighed as at IPC 1 | 99",
        lambda: (probe.gradient(rows, negatives=pool), probe.gradient(rows, negatives=foreign)),
    )  # type: ignore[return-value]
    exact = probe.gradient(rows)
    yield (
        "half precision | against full, 96 support points | fp16",
        lambda: (probe.gradient(rows.half().float()), exact),
    )  # type: ignore[return-value]
    for count in (256, 512, 1024, 2048):
        pooling = Pooling(projection=count)
        yield (
            f"projection | 96 support points, of {rows.shape[1]} numbers | {count}",
            lambda p=pooling: probe.gradient(p.rows(rows), p),
        )


def everyone_else(probe: Probe) -> Tensor:
    """Rows of all images of all other classes at this level, each seen as its own class."""
    job, reference, found = probe.job, probe.reference, []
    for label in [k for k in range(len(reference.classes)) if k != probe.label]:
        x_0, condition = reference.latents(label), job.backbone.condition([job.sampler.classes[label]])
        x_t = reference.chain.noised(x_0, reference.noise(label, x_0), probe.t)
        found.append(job.backbone.tap_features(x_t, probe.t, condition, str(probe.guidance.tap)).flatten(1))
    return torch.cat(found)


def keys_in(reference: Reference, label: int, chosen: list[int]) -> tuple[tuple[str, ...], ...]:
    """The source's keys with only the chosen images of one class."""
    keys = list(reference.source.keys)
    keys[label] = tuple(keys[label][i] for i in chosen)
    return tuple(keys)


def states(job: Job, label: int) -> dict[int, Tensor]:
    """x_t of the ten images of a class at the chosen levels."""
    from dap.sampling import trajectory

    units: list[Unit] = [u for chunk in job.chunks for u in chunk.units if u.label == label]
    found = {s.index + 1: s.x for s in trajectory(job.sampler, units, job.guided)}
    return {index: found[index] for index in LEVELS}


def main() -> None:
    """Measures what is missing and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=10)
    classes = parser.parse_args().classes
    config = load_config(
        data={"source": "digits:train"}, guidance={"name": "dap", "reference_size": None}, run={"ipc": 10, "seed": 300}
    )
    job = open_job(config, Path(tempfile.mkdtemp()) / "never-written")
    assert job.reference is not None
    job.reference.negative_pool = pool_of(job.reference.source.counts, NEGATIVES)  # at IPC 10 the preset has none
    kept = Results("reference", levels=list(LEVELS), ipc=10, draws_of_the_truth=2 * DRAWS)
    found: dict[str, dict[int, list[float]]] = {}
    for label in range(classes):
        rows = small_pictures(job.source.images(label))
        order, draw = support_points(rows, len(rows)), torch.Generator().manual_seed(label)
        shuffled = torch.randperm(len(rows), generator=draw).tolist()
        for index, x_t in states(job, label).items():
            probe = Probe(job, label, index, x_t)
            everything = probe.truth()
            truth = probe.gradient(everything)
            for name, gradient in variants(probe, order, shuffled, everything):
                got: Any = gradient()
                one, other = got if isinstance(got, tuple) else (got, truth)
                cosine = torch.nn.functional.cosine_similarity(one, other).tolist()
                found.setdefault(name.replace(f"| {len(rows)}", "| all"), {}).setdefault(index, []).extend(cosine)
        print(f"class {label} done", flush=True)
    for name, levels in found.items():
        kept[name] = {str(i): [statistics.fmean(c), min(c)] for i, c in levels.items()}
    (RESULTS / "reference.md").write_text(table(kept))
    print(table(kept))


def table(kept: Results) -> str:
    """Markdown: mean cosine (smallest in brackets) a level."""
    lines = ["# The gradient for fewer real rows, digits, IPC 10: cosine with its mean over the noise", ""]
    lines += [
        "Mean over the images (smallest). Columns: reverse step of 50. Script: `benchmarks/reference.py`. Measured"
    ]
    lines += [f"on {places(kept.record)}.", ""]
    lines += [
        "| varied | kind | value | " + " | ".join(f"step {i}" for i in LEVELS) + " |",
        "|---|---|--:|" + "--:|" * len(LEVELS),
    ]
    for name, levels in kept.record["rows"].items():
        cells = " | ".join(f"{mean:.4f} ({least:.3f})" for mean, least in (levels[str(i)] for i in LEVELS))
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
