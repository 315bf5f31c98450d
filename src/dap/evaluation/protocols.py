"""Protocols: how a network is trained on a distilled set. Small declarative objects, all in one table.

A `Protocol` says what does not depend on the set; `Protocol.plan` works out what does (epochs, steps, rates)
before anything is trained, so that a protocol can be checked, printed and timed without a network.

The hard-label families come from the evaluation code that the field's papers share: `hard-sgd` that of
Minimax, MGD3 and VLCP, `hard-adamw` that of IGD, whose plain-diffusion baselines the DAP paper quotes. Their
cells do not mix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from dap.errors import ConfigError, unknown

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

# (largest IPC, epochs); above the last row `full_epochs`
EPOCHS_BY_IPC = ((1, 3000), (10, 2000), (50, 1500), (200, 1000), (500, 500))


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One way to train and judge. A variant is `dataclasses.replace(PROTOCOLS["hard-small"], flip=False)`.

    summary       one line for a list
    network       what it trains when no network is named
    optimiser     sgd or adamw (betas .9 and .999), with peak `rate`, `momentum` (sgd) and `weight_decay`
    schedule      multistep: x .2 at 2/3 and 5/6 of the epochs; cosine: to 0, step by step
    epochs        (largest IPC, epochs) rows; empty: the length is `steps` and rows are drawn with replacement
    full_epochs   for the full data, and for an IPC beyond the last row
    steps         length where `epochs` is empty; `full_steps` for the full data
    batch         images a step; never more than the set has; the last partial batch of an epoch is kept
    many_classes  the fields that change above 100 classes
    size          side in pixels that all images are brought to; None: the set's own
    crop          smallest and largest area of the random resized crop, as shares; None: no crop
    flip          mirror each image with probability .5
    jitter        brightness, contrast and saturation by 1 +- this, in random order; 0: off
    lighting      standard deviation of AlexNet's PCA noise; 0: off
    shift         move each batch by at most so many pixels
    cutmix        mix every batch, with lambda from Beta(1, 1)
    normalise     mean and sd of the three channels, for images in [0, 1]
    evaluations   look at the test data every max(1, length // evaluations) epochs or steps, and at the end
    """

    name: str
    summary: str
    network: str
    optimiser: str
    rate: float
    weight_decay: float
    schedule: str
    batch: int = 64
    momentum: float = 0.0
    epochs: tuple[tuple[int, int], ...] = ()
    full_epochs: int = 0
    steps: int = 0
    full_steps: int = 0
    many_classes: tuple[tuple[str, float], ...] = ()
    size: int | None = None
    crop: tuple[float, float] | None = None
    flip: bool = False
    jitter: float = 0.0
    lighting: float = 0.0
    shift: int = 0
    cutmix: bool = False
    normalise: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET
    evaluations: int = 100

    def plan(self, *, classes: int, images: int, ipc: int | None, scale: float = 1.0) -> Plan:
        """What this protocol does with a set of `images` images in `classes` classes.

        ipc    images per class of the set (the smallest class); None: the full data
        scale  multiplies epochs or steps, above 0; anything but 1 is not this protocol any more, so say so
        """
        rule = replace(self, **dict(self.many_classes)) if classes > 100 else self  # type: ignore[arg-type]
        batch = min(int(rule.batch), images)
        epochs, steps_per_epoch = None, 1
        if rule.epochs:
            epochs = length = max(1, round(scale * rule._epochs_for(classes, ipc)))
            steps_per_epoch = math.ceil(images / batch)
        else:
            length = max(1, round(scale * (rule.full_steps if ipc is None else rule.steps)))
        return Plan(
            epochs=epochs,
            steps=length * steps_per_epoch,
            steps_per_epoch=steps_per_epoch,
            batch=batch,
            images=images,
            rate=rule.rate,
            weight_decay=rule.weight_decay,
            schedule=rule.schedule,
            evaluate_every=max(1, length // rule.evaluations) * steps_per_epoch,
        )

    def _epochs_for(self, classes: int, ipc: int | None) -> int:
        rows = [epochs for most, epochs in self.epochs if ipc is not None and ipc <= most]
        epochs = rows[0] if rows else self.full_epochs
        if classes == 100 and ipc is not None:  # exactly 100: the published code scales this one case
            epochs = epochs * 2 // 3 // 100 * 100
        return epochs


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One training run in numbers. Steps count from 0; `epochs` is None where rows are drawn with
    replacement.
    """

    epochs: int | None
    steps: int
    steps_per_epoch: int
    batch: int
    images: int
    rate: float
    weight_decay: float
    schedule: str
    evaluate_every: int

    def rate_at(self, step: int) -> float:
        """The learning rate of step 0 .. steps - 1."""
        if self.schedule == "cosine":
            return self.rate * 0.5 * (1 + math.cos(math.pi * step / self.steps))
        done, epochs = step // self.steps_per_epoch, self.steps // self.steps_per_epoch
        return self.rate * 0.2 ** ((done >= 2 * epochs // 3) + (done >= 5 * epochs // 6))

    def evaluates_after(self, step: int) -> bool:
        """Whether the test data are looked at after this step: regularly, and always at the end."""
        return (step + 1) % self.evaluate_every == 0 or step + 1 == self.steps

    @property
    def evaluations(self) -> int:
        """How many times that is in one run."""
        return math.ceil(self.steps / self.evaluate_every)


_HARD_ADAMW = Protocol(
    name="hard-adamw",
    summary="hard labels at 224 px, AdamW, CutMix: IGD, and the baselines in DAP's Table 3",
    network="resnetap-10",
    optimiser="adamw",
    rate=1e-3,
    weight_decay=0.01,
    schedule="multistep",
    epochs=EPOCHS_BY_IPC,
    full_epochs=300,
    many_classes=(("batch", 128),),
    size=224,
    crop=(0.5, 1.0),
    flip=True,
    jitter=0.4,
    lighting=0.1,
    cutmix=True,
)
_HARD_SGD = replace(
    _HARD_ADAMW,
    name="hard-sgd",
    summary="hard labels at 224 px, SGD, CutMix: Minimax, MGD3, VLCP, ManifoldGD",
    optimiser="sgd",
    rate=0.01,
    momentum=0.9,
    weight_decay=5e-4,
    many_classes=(("batch", 128), ("rate", 0.1), ("weight_decay", 1e-4)),
)
_HARD_SMALL = replace(
    _HARD_ADAMW,
    name="hard-small",
    summary="hard-adamw at the images' own size (64 px and below), without lighting",
    network="convnet-3",
    size=None,
    lighting=0.0,
)
_HARD_TINY = Protocol(
    name="hard-tiny",
    summary="a quick look, and images of 16 px and below: 300 steps of SGD, no CutMix",
    network="convnet-2w64",
    optimiser="sgd",
    rate=0.05,
    momentum=0.9,
    weight_decay=5e-4,
    schedule="cosine",
    steps=300,
    full_steps=1500,
    shift=1,
    normalise=HALF,
    evaluations=10,
)

PROTOCOLS: dict[str, Protocol] = {p.name: p for p in (_HARD_TINY, _HARD_SMALL, _HARD_ADAMW, _HARD_SGD)}


def get_protocol(name: str, flip: bool | None = None) -> Protocol:
    """The protocol of that name; `flip` switches its mirroring on or off (None: as the protocol says).

    Raises: ConfigError for an unknown name, with the nearest.
    """
    if name not in PROTOCOLS:
        raise ConfigError(unknown("protocol", name, PROTOCOLS))
    protocol = PROTOCOLS[name]
    return protocol if flip is None else replace(protocol, flip=flip)
