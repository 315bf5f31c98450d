"""`Protocol`: one way to train and judge, as a small declarative object; `Protocol.plan` turns it into numbers.

A `Protocol` says what does not depend on the set; the plan works out what does (epochs, steps, rates) before anything
is trained, so that a protocol can be checked, printed and timed without a network.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

from dap.errors import ConfigError, unknown
from dap.evaluation.schedule import SCHEDULES, Plan
from dap.fields import digest, require

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]

IMAGENET: Normalisation = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

LABELS = ("hard", "online", "stored")
OPTIMISERS = ("sgd", "adamw")
_MAY_CHANGE = ("rate", "weight_decay", "momentum", "batch")  # with many classes


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One way to train and judge. A variant is `dataclasses.replace(PROTOCOLS["hard-small"], flip=False)`.

    summary       one line for a list
    network       what it trains when no network is named
    labels        hard; online: a teacher's, of every mixed image; stored: the same, computed once, logits in fp16
    temperature   of both softmaxes where labels are soft (KL divergence, batch mean, no factor T squared)
    optimiser     sgd or adamw (betas .9 and .999), with base `rate`, `momentum` (sgd) and `weight_decay`
    rates         (start of a network's name, base rate) rows for networks that want another
    decay_vectors whether all parameters decay; False: only weights of more than one dimension, so no biases, norms,
                  position tables or tokens
    schedule      multistep: x .2 at 2/3 and 5/6 of the epochs; cosine: to 0, step by step; cosine-by-epoch: to 0;
                  half-cosine-by-epoch: to half of the base rate
    epochs        (largest IPC, epochs) rows; empty: `full_epochs`, or where that is 0 as well the length is `steps`
                  and rows are drawn with replacement
    full_epochs   for the full data, and for an IPC beyond the last row
    two_thirds_at exactly so many classes train 2/3 of the epochs, rounded down to hundreds; 0: none do
    steps         length where there are no epochs; `full_steps` for the full data
    batch         images a step; never more than the set has; the last partial batch of an epoch is kept
    batches       (smallest IPC, batch) rows that go before `batch`; the full data take the last one
    doubles_from  the `batches` are doubled from so many classes on; 0: never
    many_classes  (field, value) rows: what changes above 100 classes
    size          side in pixels that all images are brought to; None: the set's own
    test_crop     the share of a test image's side that is kept, about the centre: .875 is 224 of 256
    shuffle       cut each image into so many columns, shuffle them, the same with rows; 0: off
    crop          smallest and largest area of the random resized crop, as shares; None: no crop
    flip          mirror each image with probability .5
    jitter        brightness, contrast and saturation by 1 +- this, in random order; 0: off
    lighting      standard deviation of AlexNet's PCA noise; 0: off
    shift         move each batch by at most so many pixels
    cutmix        mix every batch, with lambda from Beta(1, 1)
    normalise     mean and sd of the three channels, for images in [0, 1]
    evaluations   look at the test data every max(1, length // evaluations) epochs or steps, and at the end

    Raises: ConfigError for values that do not exist, are out of range or contradict one another.
    """

    name: str
    summary: str
    network: str
    labels: str = "hard"
    temperature: float = 1.0
    optimiser: str
    rate: float
    rates: tuple[tuple[str, float], ...] = ()
    weight_decay: float
    decay_vectors: bool = True
    momentum: float = 0.0
    schedule: str
    epochs: tuple[tuple[int, int], ...] = ()
    full_epochs: int = 0
    two_thirds_at: int = 0
    steps: int = 0
    full_steps: int = 0
    batch: int = 64
    batches: tuple[tuple[int, int], ...] = ()
    doubles_from: int = 0
    many_classes: tuple[tuple[str, int | float], ...] = ()
    size: int | None = None
    test_crop: float = 1.0
    shuffle: int = 0
    crop: tuple[float, float] | None = None
    flip: bool = False
    jitter: float = 0.0
    lighting: float = 0.0
    shift: int = 0
    cutmix: bool = False
    normalise: Normalisation = IMAGENET
    evaluations: int = 100

    def __post_init__(self) -> None:
        for field, value, known in (
            ("labels", self.labels, LABELS),
            ("optimiser", self.optimiser, OPTIMISERS),
            ("schedule", self.schedule, tuple(SCHEDULES)),
        ):
            if value not in known:
                raise ConfigError(unknown(f"{field} in protocol {self.name!r}:", value, known))
        self._check_ranges()
        if self.labels == "stored":
            on = [field for field in ("shuffle", "jitter", "lighting", "shift") if getattr(self, field)]
            self._require(not on, f"stores labels of crop, flip and CutMix alone; switch off {', '.join(on)}")
            self._require(bool(self.epochs or self.full_epochs), "stores labels epoch by epoch; give full_epochs")

    def plan(
        self, *, classes: int, images: int, ipc: int | None, scale: float = 1.0, network: str | None = None
    ) -> Plan:
        """What this protocol does with a set of `images` images in `classes` classes.

        ipc      images per class of the set (the smallest class); None: the full data
        scale    multiplies epochs or steps, above 0; anything but 1 is not this protocol any more, so say so
        network  whose base rate; None: the protocol's own network
        """
        rule = replace(self, **dict(self.many_classes)) if classes > 100 else self  # type: ignore[arg-type]
        batch = min(rule._batch_for(classes, ipc), images)
        epochs, steps_per_epoch = None, 1
        if rule.epochs or rule.full_epochs:
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
            rate=rule._rate_for(network or rule.network),
            weight_decay=rule.weight_decay,
            schedule=rule.schedule,
            evaluate_every=max(1, length // rule.evaluations) * steps_per_epoch,
        )

    @property
    def digest(self) -> str:
        """A short name of what it does, whatever it is called."""
        return digest({field: value for field, value in asdict(self).items() if field not in ("name", "summary")})

    def _epochs_for(self, classes: int, ipc: int | None) -> int:
        rows = [epochs for most, epochs in self.epochs if ipc is not None and ipc <= most]
        epochs = rows[0] if rows else self.full_epochs
        if classes == self.two_thirds_at and ipc is not None:
            epochs = epochs * 2 // 3 // 100 * 100
        return epochs

    def _batch_for(self, classes: int, ipc: int | None) -> int:
        rows = [batch for least, batch in self.batches if ipc is None or least <= ipc]
        if not rows:
            return int(self.batch)
        return rows[-1] * (2 if self.doubles_from and classes >= self.doubles_from else 1)

    def _rate_for(self, network: str) -> float:
        plain = network.partition(":")[2] or network  # torchvision:swin_v2_t is a swin
        rows = [(len(start), rate) for start, rate in self.rates if plain.lower().startswith(start)]
        return max(rows)[1] if rows else self.rate

    def _check_ranges(self) -> None:
        for field in ("rate", "temperature", "batch", "evaluations"):
            self._require(getattr(self, field) > 0, f"has {field} {getattr(self, field)}; use a number above 0")
        for field in ("weight_decay", "momentum", "jitter", "lighting", "shift", "shuffle", "steps", "full_steps"):
            self._require(getattr(self, field) >= 0, f"has {field} {getattr(self, field)}; use 0 or more")
        self._require(
            bool(self.full_epochs) or (self.steps > 0 and self.full_steps > 0 and not self.epochs),
            "has no length for every set: give full_epochs, or steps and full_steps",
        )
        for clash, what in (
            (self.full_epochs and self.steps, "counts both epochs and steps; set one of full_epochs and steps to 0"),
            (self.optimiser == "adamw" and self.momentum, "gives adamw a momentum; set momentum to 0"),
            (self.labels == "hard" and self.temperature != 1, "has a temperature for hard labels; set it to 1"),
        ):
            self._require(not clash, what)
        for field in ("epochs", "batches"):
            rows = getattr(self, field)
            ipcs = [ipc for ipc, _ in rows]
            rising = ipcs == sorted(set(ipcs)) and all(min(row) > 0 for row in rows)
            self._require(rising, f"has {field} {rows}; write [[IPC, number], ...] with rising IPC, all above 0")
        self._require(0 < self.test_crop <= 1, f"has test_crop {self.test_crop}; use above 0 to 1 (all)")
        self._require(self.size is None or self.size > 0, f"has size {self.size}; use a side in pixels")
        low, high = self.crop or (1, 1)
        self._require(0 < low <= high <= 1, f"has crop {self.crop}; use shares of the area, e.g. [0.5, 1.0]")
        three = all(len(row) == 3 for row in self.normalise) and min(self.normalise[1]) > 0
        self._require(three, f"has normalise {self.normalise}; give means and deviations (above 0) of 3 channels")
        for field, _ in self.many_classes:
            require(field in _MAY_CHANGE, unknown("field in many_classes:", field, _MAY_CHANGE))

    def _require(self, ok: bool, what: str) -> None:
        require(ok, f"protocol {self.name!r} {what}")
