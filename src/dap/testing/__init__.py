"""Conformance checks for those who extend `dap`, and tiny models to try things on. Nothing here needs pytest.

    check_backbone(backbone)             the contract of dap.backbones.base
    check_guidance(guidance, backbone)   the contract of dap.guidance.base
    check_kernel(kernel, dims)           symmetric, positive semi-definite, its distance a pseudo-metric

Each returns None, or raises AssertionError saying what is broken. `tiny_dit`, `tiny_latent_dit` and
`tiny_stable_diffusion` are backbones of some thousand random weights, none of them zero, so that every layer matters;
`tiny_source` has random images for them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dap.backbones.base import Backbone
from dap.backbones.dit import DiTBackbone
from dap.data import Source
from dap.guidance.base import Guidance, settled
from dap.kernels import Kernel, distance
from dap.reference import Reference
from dap.sampling import Guided, Sampler, trajectory
from dap.testing.stable_diffusion import disturb
from dap.testing.stable_diffusion import save_tiny_stable_diffusion as save_tiny_stable_diffusion
from dap.testing.stable_diffusion import tiny_stable_diffusion as tiny_stable_diffusion
from dap.train.model import LINEAR_BETAS, save_pipeline
from dap.types import Step, Unit


def tiny_dit(
    classes: int = 3,
    channels: int = 1,
    size: int = 8,
    width: int = 16,
    depth: int = 3,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    *,
    learned_variance: bool = False,
    vae: Any = None,
) -> DiTBackbone:
    """A DiT with random weights: on pixels [channels, size, size], or in the latent space of `vae`.

    class_names       None: c0, c1, ...; else they set the number of classes
    learned_variance  twice the output channels, as in the published DiTs
    """
    from diffusers import DiTTransformer2DModel

    names = tuple(f"c{k}" for k in range(classes)) if class_names is None else tuple(class_names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rest = {"num_layers": depth, "sample_size": size, "num_embeds_ada_norm": len(names), "norm_eps": 1e-6}
        outputs = channels * (2 if learned_variance else 1)
        model = DiTTransformer2DModel(2, width // 2, channels, outputs, patch_size=2, **rest)
        disturb(model)
    schedule = {**LINEAR_BETAS, "clip_sample": vae is None}
    return DiTBackbone(model, schedule, names, vae=vae, name="tiny")


def tiny_latent_dit(classes: int = 3, size: int = 4, seed: int = 0, **options: Any) -> DiTBackbone:
    """A DiT on 4 x size x size latents of RGB images of 2 x size px, with its VAE; options as in `tiny_dit`."""
    from diffusers import AutoencoderKL

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        blocks = ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2
        vae = AutoencoderKL(3, 3, *blocks, (8, 8), latent_channels=4, norm_num_groups=4, scaling_factor=0.5)
        disturb(vae)
    return tiny_dit(classes, channels=4, size=size, seed=seed, vae=vae, **options)


def save_tiny_dit(directory: str | Path, backbone: DiTBackbone | None = None, **record: Any) -> Path:
    """A pipeline directory as `dap train` writes it; `backbone` None is `tiny_dit()`, `record` goes into dap.json."""
    directory, backbone = Path(directory), backbone or tiny_dit()
    record = {"cfg_scale": backbone.cfg_scale, **record}
    if backbone.vae is not None:
        backbone.vae.save_pretrained(directory / "vae", safe_serialization=True)
    vae, parts = directory if backbone.vae is not None else None, (backbone.transformer, backbone.class_names)
    save_pipeline(directory, *parts, record=record, vae=vae, scheduler=backbone.schedule)
    return directory


def tiny_source(class_names: Sequence[str], count: int = 5, size: int = 8, mode: str = "L", seed: int = 0) -> Source:
    """`count` random images a class, in memory; a class's images depend on its name, not on the other classes."""

    def read(label: int, key: str) -> bytes:
        text = f"{seed}/{class_names[label]}/{key}".encode()
        shape = (size, size) if mode == "L" else (size, size, 3)
        pixels = np.random.default_rng(list(text)).integers(0, 256, shape, dtype=np.uint8)
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG")
        return out.getvalue()

    keys = tuple(f"{i:03d}.png" for i in range(count))
    return Source("tiny", tuple(class_names), (keys,) * len(class_names), read, size=size, mode=mode)


def check_kernel(kernel: Kernel, dims: int = 8, rows: int = 24, seed: int = 0) -> None:
    """Symmetry, eigenvalues, and the metric axioms of the induced distance, on float64 rows [rows, dims]."""
    a = torch.randn(rows, dims, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    gram = kernel(a, a)
    tolerance = 1e-9 * max(1.0, float(gram.abs().max()))
    _expect(gram.shape == (rows, rows) and kernel(a[:3], a[3:7]).shape == (3, 4), "k(a [n, F], b [m, F]) is not [n, m]")
    _expect(torch.allclose(gram, gram.T, atol=tolerance, rtol=0), "the kernel is not symmetric")
    _expect(torch.allclose(kernel(a[:3], a)[1], gram[1], atol=tolerance), "k(a_i, b_j) depends on the other rows")
    lowest = float(torch.linalg.eigvalsh((gram + gram.T) / 2).min())
    _expect(lowest >= -tolerance * rows, f"the kernel is not positive semi-definite: eigenvalue {lowest:g}")
    d = distance(kernel, a, a)
    slack = 1e-5 * max(1.0, float(d.max()))
    _expect(bool(((d >= 0) & d.isfinite()).all()), "the induced distance is negative or not finite")
    _expect(float(d.diagonal().max()) <= slack, "the induced distance of a row to itself is not 0")
    _expect(torch.allclose(d, d.T, atol=slack), "the induced distance is not symmetric")
    detour = (d[:, :, None] + d[None, :, :]).amin(1)  # the shortest way over any third row
    _expect(bool((d <= detour + slack).all()), "the induced distance breaks the triangle inequality")


def check_backbone(backbone: Backbone) -> None:
    """Shapes, ranges, the null condition, taps and what the autograd graph reaches; a few forward passes."""
    _check_names(backbone)
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, *backbone.latent_shape, generator=draw).to(backbone.device)
    condition = backbone.condition([0, len(backbone.class_names) - 1])
    _expect(backbone.condition([0, 0], [0, 1]).shape == condition.shape, "condition(classes, indices) has other shapes")
    _expect(len(condition) == 2 and len(backbone.null_condition(2)) == 2, "conditions are one row an image")
    for t in (999, 500, 0):
        plain = backbone.predict(x, t, condition)
        _expect(plain.eps.shape == x.shape, f"eps has shape {tuple(plain.eps.shape)}, x has {tuple(x.shape)}")
        _expect(plain.eps.dtype == torch.float32, f"eps is {plain.eps.dtype}, not torch.float32")
        _expect(plain.features is None, "predict without a tap gives features")
        _expect((plain.variance is not None) is backbone.learned_variance, "learned_variance is not what predict gives")
        null = backbone.predict(x, t, backbone.null_condition(2)).eps
        _expect(bool((plain.eps != null).flatten(1).any(1).all()), "the null condition gives the same eps as a class")
    _expect(not backbone.predict(x.clone().requires_grad_(), 500, condition).eps.requires_grad, "eps has a graph")
    _check_state(backbone, x, condition)
    for tap in backbone.taps():
        _check_tap(backbone, x, condition, tap)
    _check_border(backbone, draw)


def _check_names(backbone: Backbone) -> None:
    names, taps = backbone.class_names, backbone.taps()
    _expect(len(names) > 0, "class_names are empty")  # not all distinct: ImageNet has two cranes
    _expect(len(taps) > 0 and len(set(taps)) == len(taps), "taps() are empty or not distinct")
    _expect(backbone.default_tap in taps, f"default_tap {backbone.default_tap!r} is not one of taps()")
    _expect(backbone.image_mode in ("RGB", "L"), f"image_mode is {backbone.image_mode!r}")
    _expect(backbone.row_cost > 0 and backbone.cfg_scale >= 1, "row_cost must be above 0, cfg_scale at least 1")
    _expect(backbone.weights_digest() == backbone.weights_digest(), "weights_digest differs from call to call")
    for scheduler in ("ddpm", "ddim"):
        steps = backbone.chain(scheduler, 4, 0.0).timesteps
        _expect(len(steps) == 4 and list(steps) == sorted(steps, reverse=True), f"{scheduler}: timesteps {steps}")


def _check_tap(backbone: Backbone, x: Tensor, condition: Tensor, tap: str) -> None:
    leaf = x.clone().requires_grad_()
    given = backbone.predict(leaf, 500, condition, tap)
    features, plain = given.features, backbone.predict(x, 500, condition).eps
    if features is None:
        raise AssertionError(f"predict gives no features at {tap}")
    _expect(len(features) == len(x), f"features at {tap} have {len(features)} rows for {len(x)} images")
    _expect(not given.eps.requires_grad, f"eps has a graph behind {tap}")
    _expect(torch.allclose(given.eps, plain, rtol=0, atol=1e-6), f"eps with tap {tap} is not eps without")
    same, one = backbone.condition([0] * len(x)), backbone.condition([0])
    each, shared = (backbone.tap_features(x, 500, c, tap) for c in (same, one))
    _expect(torch.allclose(each, shared, rtol=1e-4, atol=1e-4), "a single condition is not shared by all rows")
    early = backbone.tap_features(x, 500, condition, tap)
    _expect(not early.requires_grad, f"tap_features at {tap} has a graph")
    _expect(torch.equal(early, features.detach()), f"tap_features at {tap} are not the features that predict gives")
    _expect(features.requires_grad, f"the graph of the features at {tap} does not reach x")
    others = sum(end is not leaf for end in _leaves(features))
    _expect(not others, f"the graph at {tap} reaches {others} tensors besides x: freeze the weights")
    (slope,) = torch.autograd.grad(features.float().square().sum(), leaf)
    moved = slope.flatten(1).norm(dim=1)
    _expect(bool((moved > 0).all()) and bool(torch.isfinite(moved).all()), f"the gradient at {tap} is 0 or not finite")


def _check_state(backbone: Backbone, x: Tensor, condition: Tensor) -> None:
    tap = backbone.taps()[0]
    for enabled in (True, False):
        for rows in (x, torch.cat([x, x], dim=1)):  # twice the channels cannot pass
            for forward in (backbone.predict, backbone.tap_features):
                with torch.set_grad_enabled(enabled):
                    with suppress(Exception):
                        forward(rows, 500, condition, tap)
                    _expect(torch.is_grad_enabled() is enabled, "a forward pass leaves autograd switched")


def _check_border(backbone: Backbone, draw: torch.Generator) -> None:
    shape = (2, 3 if backbone.image_mode == "RGB" else 1, backbone.image_size, backbone.image_size)
    images = torch.rand(shape, generator=draw)
    latents = backbone.encode(images)
    _expect(latents.shape == (2, *backbone.latent_shape), f"encode gives {tuple(latents.shape)}")
    for back in (backbone.decode(latents), backbone.decode(1e3 * latents)):
        _expect(back.shape == images.shape, f"decode gives {tuple(back.shape)} for {tuple(images.shape)}")
        _expect(bool(((back >= 0) & (back <= 1)).all()), "decode leaves [0, 1]")
        _expect(not latents.requires_grad and not back.requires_grad, "encode or decode builds a graph")


def check_guidance(guidance: Guidance, backbone: Backbone, images: int = 2, steps: int = 4) -> None:
    """`shift` fits its Step and leaves it alone, is repeatable, and couples images of one class only if it says so."""
    guidance = settled(guidance.resolved(backbone), backbone, images, steps)
    _expect(guidance.tap is None or guidance.tap in backbone.taps(), f"tap is {guidance.tap!r}")
    _expect(len(guidance.interval) == 2 and guidance.interval[0] < guidance.interval[1], "interval is not [start, end)")
    names, chain = backbone.class_names, backbone.chain("ddim", steps, 0.0)
    labels = tuple(range(len(names)))
    sampler = Sampler(backbone=backbone, chain=chain, classes=labels, cfg_scale=1.0, cfg_channels="all", micro_batch=1)
    source = tiny_source(names, 4, backbone.image_size, backbone.image_mode)
    shift = guidance.prepare(backbone, Reference.of(guidance, backbone, source, labels, chain, ipc=images, rows=4))

    def watched(step: Step) -> Tensor:
        before = [step.x_t.clone(), step.x_prev.clone()]
        moved = shift(step)
        _expect(moved.shape == step.x_prev.shape, f"shift gives {tuple(moved.shape)} for {tuple(step.x_prev.shape)}")
        _expect(not moved.requires_grad and bool(torch.isfinite(moved).all()), "shift has a graph or is not finite")
        _expect(torch.equal(before[0], step.x_t) and torch.equal(before[1], step.x_prev), "shift changes its Step")
        _expect(torch.is_grad_enabled(), "shift leaves autograd switched off")
        return moved

    def sample(units: Sequence[Unit]) -> Tensor:
        guided = Guided(shift=watched, tap=guidance.tap, interval=(0.0, 2.0))
        return list(trajectory(sampler, units, guided))[-1].x

    units = [Unit(label, i, 100 * label + i) for label in labels[:2] for i in range(images)]
    together = sample(units)
    _expect(torch.equal(together, sample(units)), "the same step gives another shift the second time")
    _expect(torch.equal(together[:images], sample(units[:images])), "the images of one class depend on another class")
    if not guidance.couples:
        _expect(torch.equal(together[:1], sample(units[:1])), "images influence each other, but couples is False")


def _leaves(root: Tensor) -> list[Tensor]:
    """The tensors at which a graph ends."""
    nodes: list[Any] = [root.grad_fn]
    for node in nodes:  # grows while it is walked
        nodes += {parent for parent, _ in node.next_functions if parent is not None}.difference(nodes)
    return [node.variable for node in nodes if hasattr(node, "variable")]


def _expect(ok: bool, message: str) -> None:
    if not ok:
        raise AssertionError(message)
