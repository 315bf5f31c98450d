"""THE loop: reverse diffusion, classifier-free guidance, and the one place where a guidance enters.

    for t in chain:                                             DAP, Algorithm 1
        eps      = eps_null + s (eps_cond - eps_null)           classifier-free guidance on `cfg_channels`
        x~_{t-1} = reverse step of x_t with eps                 the scheduler's own
        x_{t-1}  = x~_{t-1} + shift(step)                       the guidance, inside its interval

Rows know nothing of each other here: each has its own generator, and every forward runs at the same number of rows,
short ones padded, because the same image in batches of another size differs in its last bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dap.backbones.base import Backbone
from dap.backbones.chain import Chain
from dap.config import require
from dap.errors import SamplingError
from dap.guidance.base import Shift, acts, first_of
from dap.types import Prediction, Step, Unit


@dataclass(frozen=True, kw_only=True)
class Guided:
    """A prepared guidance: its shift, the tap it reads and the interval it acts in."""

    shift: Shift
    tap: str | None
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class State:
    """x_{t-1} [B, C, H, W] after step `index` of `count`; the last state holds x_0."""

    index: int
    count: int
    x: Tensor


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """What does not change along a trajectory.

    classes       classes[label] is the backbone's index of the dataset's class
    cfg_scale     classifier-free guidance; 1 runs no null rows
    cfg_channels  how many channels it touches, "all" or the first n
    micro_batch   rows of every forward pass
    class_names   of the dataset, for messages
    dtype         the precision that the model computes in, for messages
    recompute     build each micro-batch's graph again when its gradient is asked for, instead of keeping those of all
                  rows: less memory, one more forward, the same bits
    """

    backbone: Backbone
    chain: Chain
    classes: tuple[int, ...]
    cfg_scale: float
    cfg_channels: int | str
    micro_batch: int
    class_names: tuple[str, ...] = ()
    dtype: str = "fp32"
    recompute: bool = False


@dataclass(frozen=True, kw_only=True)
class Start:
    """Image to image: the chain begins at `strength` of its way from x_0 instead of at noise.

    x_0       [B, C, H, W], one a unit
    strength  (0, 1]: the share of the steps that is taken, rounded up; 0.7 of 50 are the last 35
    """

    x_0: Tensor
    strength: float

    def first(self, count: int) -> int:
        """The index of the first of `count` steps that is taken. Raises: ConfigError for other strengths."""
        require(0 < self.strength <= 1, f"the share of steps to take is {self.strength}; use above 0 to 1 (all)")
        return first_of(count, self.strength)


def trajectory(
    sampler: Sampler, units: Sequence[Unit], guided: Guided | None, start: Start | None = None
) -> Iterator[State]:
    """Samples `units` in lock step and yields the state after every step. `guided` None is plain sampling.

    With `start` the first steps are left out; the others keep their index, so a guidance's interval means the same.

    Raises: SamplingError naming the images and the step at which numbers are no longer finite.
    """
    chain, count = sampler.chain, len(sampler.chain.timesteps)
    first = 0 if start is None else start.first(count)
    generators = [torch.Generator().manual_seed(unit.seed) for unit in units]
    shape = sampler.backbone.latent_shape
    x_t = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(sampler.backbone.device)
    if start is not None:
        x_t = chain.noised(start.x_0.to(x_t), x_t, chain.timesteps[first])
    for index, t in enumerate(chain.timesteps[first:], first):
        active = guided is not None and acts(guided.interval, index, count)
        forward = _Forward(sampler, units, x_t, t, tap=guided.tap if guided is not None and active else None)
        _check_finite(forward.eps, sampler, units, index, shifted=False)
        x_prev = chain.step(forward.eps, t, x_t, generators, forward.variance)
        if guided is not None and active:
            x_prev = x_prev + guided.shift(
                Step(index, count, t, tuple(units), x_t, x_prev, forward.features, forward.pull_back)
            )
        _check_finite(x_prev, sampler, units, index, shifted=active)
        x_t = x_prev
        yield State(index, count, x_t)


@dataclass(frozen=True, slots=True)
class _MicroBatch:
    """Rows of a step that go through one forward pass, padded: x [micro_batch, C, H, W], and what came out."""

    rows: range
    x: Tensor
    condition: Tensor
    eps: Tensor
    features: Tensor | None
    variance: Tensor | None


class _Forward:
    """One step's forward passes over all rows, in micro-batches: eps after classifier-free guidance, and features.

    Conditional rows run with a graph up to the tap; null rows run without gradient, and never for the features. A
    learned variance is that of the conditional rows, as in the original sampler.
    """

    def __init__(self, sampler: Sampler, units: Sequence[Unit], x_t: Tensor, t: int, tap: str | None) -> None:
        self._sampler, self._t, self._tap = sampler, t, tap
        size = sampler.micro_batch
        starts = range(0, len(units), size)
        self._parts = [self._part(range(i, min(i + size, len(units))), units, x_t) for i in starts]
        self.eps = torch.cat([part.eps for part in self._parts])
        learned = [part.variance for part in self._parts if part.variance is not None]
        self.variance = torch.cat(learned) if learned else None

    def _part(self, rows: range, units: Sequence[Unit], x_t: Tensor) -> _MicroBatch:
        sampler, count = self._sampler, len(rows)
        x = _padded(x_t[rows.start : rows.stop], sampler.micro_batch).detach()
        shown = [units[min(row, rows[-1])] for row in range(rows.start, rows.start + len(x))]
        classes = [sampler.classes[unit.label] for unit in shown]
        condition = sampler.backbone.condition(classes, [unit.index for unit in shown])
        x, given = self._predict(x, condition)
        features, variance = given.features, given.variance
        if features is not None and sampler.recompute:
            x, features = x.detach(), features.detach()
        eps = with_cfg(sampler, x.detach(), self._t, given.eps)[:count]
        return _MicroBatch(rows, x, condition, eps, features, None if variance is None else variance[:count])

    def _predict(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Prediction]:
        """The conditional rows' forward pass, and the leaf that its graph reaches back to."""
        if self._tap is not None:
            x.requires_grad_()
        with torch.set_grad_enabled(self._tap is not None):  # also when the caller has switched it off
            return x, self._sampler.backbone.predict(x, self._t, condition, self._tap)

    @property
    def features(self) -> Tensor | None:
        """Detached features [B, ...] in float32, without the padding rows; None when no tap was asked for."""
        found = [part.features.detach()[: len(part.rows)] for part in self._parts if part.features is not None]
        return torch.cat(found).float() if found else None

    def pull_back(self, slope: Tensor) -> Tensor:
        """dE/dfeatures [B, ...] -> dE/dx_t [B, C, H, W]: one vector-Jacobian product per micro-batch, once."""
        return torch.cat([self._gradient(part, slope[part.rows.start : part.rows.stop]) for part in self._parts])

    def _gradient(self, part: _MicroBatch, slope: Tensor) -> Tensor:
        x, features, count = part.x, part.features, len(part.rows)
        if self._sampler.recompute:
            x, given = self._predict(x.clone(), part.condition)
            features = given.features
        if features is None:
            raise AssertionError("only a step with features is pulled back")
        scale = _scale_of(slope, features.dtype)
        weights = torch.zeros_like(features)
        weights[:count] = slope * scale.view(-1, *[1] * (slope.dim() - 1))
        (gradient,) = torch.autograd.grad(features, x, weights)
        return gradient[:count].float() / scale.view(-1, *[1] * (gradient.dim() - 1))


def _scale_of(slope: Tensor, dtype: torch.dtype) -> Tensor:
    """Factors [B] that keep a gradient inside half precision: its largest entry near 1/16. 1 in full precision.

    Powers of two, so that scaling and scaling back change no other bit.
    """
    if dtype.itemsize > 2:
        return torch.ones(len(slope), device=slope.device)
    largest = slope.flatten(1).abs().amax(1).clamp_min(1e-30)
    return torch.exp2(-4 - largest.log2().floor())


def with_cfg(sampler: Sampler, x: Tensor, t: int, eps: Tensor) -> Tensor:
    """eps_null + s (eps - eps_null) on the chosen channels, eps itself on the others."""
    if sampler.cfg_scale == 1:
        return eps
    null = sampler.backbone.predict(x, t, sampler.backbone.null_condition(1)).eps
    channels = eps.shape[1] if sampler.cfg_channels == "all" else int(sampler.cfg_channels)
    mixed = null[:, :channels] + sampler.cfg_scale * (eps[:, :channels] - null[:, :channels])
    return torch.cat([mixed, eps[:, channels:]], dim=1)


def _padded(x: Tensor, rows: int) -> Tensor:
    """`x` with its last row repeated up to `rows` rows."""
    return x.clone() if len(x) == rows else torch.cat([x, x[-1:].expand(rows - len(x), *x.shape[1:])])


def _check_finite(x: Tensor, sampler: Sampler, units: Sequence[Unit], index: int, *, shifted: bool) -> None:
    """`shifted`: whether a guidance has had its say in x, else it is the model alone that went wrong."""
    good = torch.isfinite(x).flatten(1).all(1)
    if bool(good.all()):
        return
    unit, count = units[int((~good).nonzero()[0])], len(sampler.chain.timesteps)
    name = sampler.class_names[unit.label] if sampler.class_names else unit.label
    remedy = (
        "lower guidance.strength or guidance.gamma" if shifted else "check the checkpoint, or lower backbone.cfg_scale"
    )
    if sampler.dtype == "fp16":  # nothing beyond 65504
        remedy = f"use --dtype bf16, whose range is that of fp32{', or ' + remedy if shifted else ''}"
    raise SamplingError(
        f"image {name}:{unit.index} is not finite after step {index + 1} of {count} "
        f"({int((~good).sum())} of {len(x)} images); {remedy}"
    )
