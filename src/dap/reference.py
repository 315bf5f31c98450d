"""`Reference`: the real images' features at (class, timestep), the other half of DAP's distance.

They do not depend on the synthetic images, so they are extracted once for all images in lock step, with an early exit
at the tap, in forwards of a fixed number of rows, and may be kept on disk (`dap.bank`). Three things make them cheap,
each measured in docs/guidance.md against the mean over the noise, which is what guidance needs:

* balanced noise: images that are neighbours make a pair, one has the other's noise with its sign turned round
  (antithetic), and the pairs' noises are orthogonal to each other. 96 support points noised so come nearer to the mean
  than the whole class with independent noise; and so do clusters of whole pairs (`dap.guidance.clusters`);
* anchors (`dap.anchors`): a row keeps its noise at all steps, so its features change smoothly with t; they are computed
  at a few noise levels and in between taken on the straight line;
* half precision, kept on disk or not: a cache never changes a bit.

Memory grows with N by a class's encoded images x_0, which are the data itself; noise, x_t and features come in parts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from dap.anchors import Anchors
from dap.backbones.base import Backbone
from dap.backbones.chain import Chain
from dap.bank import Bank
from dap.data import Source
from dap.forwards import equal_forwards, recut
from dap.guidance.base import first_of, settled, share_taken, steps_inside
from dap.kept import Kept
from dap.negatives import Pool, negatives_wanted, pool_of
from dap.noise import balanced, balanced_parts
from dap.pooling import Pooling

FORMAT = 4  # of the features: to raise with every change of noise, order, anchors or precision: no cache mixes two
PART_BYTES = 10**9  # one class at one step: a larger one comes in parts, extracted again at every step
KEPT_BYTES = 4 * 10**9  # anchors, and as much again of encoded classes: both are asked for again at the next step


class Reference:
    """The real features of a dataset's classes, seen through a backbone and a reverse chain.

    source   images in the backbone's size and mode, already checked; all of a class are used
    classes  classes[label] is the backbone's index of the dataset's class
    tap, pooling  the layer, and how its output becomes rows
    interval, first  where the guidance acts, and the first step taken: anchors lie there, a step outside is for itself
    spacing  most between anchors in sqrt(t / T), 0 .. 1; 0: every step for itself
    ipc      synthetic images of a class, for a guidance that divides the real ones among them
    negative_rows  about how many real images of all other classes are wanted beside a class's own; 0: none
    seed     of the noise, not of the run: sets of several seeds share the features
    rows     most images of one forward pass; a class is cut into equal forwards
    bank     where features are kept, or None
    """

    def __init__(
        self,
        backbone: Backbone,
        source: Source,
        classes: Sequence[int],
        chain: Chain,
        *,
        tap: str,
        pooling: Pooling | None = None,
        interval: tuple[float, float] = (0.0, 2.0),
        first: int = 0,
        spacing: float = 0.0,
        ipc: int = 1,
        negative_rows: int = 0,
        seed: int = 0,
        rows: int,
        bank: Bank | None = None,
    ) -> None:
        self.backbone, self.source, self.classes, self.chain = backbone, source, tuple(classes), chain
        self.tap, self.pooling = tap, pooling or Pooling()
        self.interval, self.first, self.spacing = interval, first, spacing
        self.ipc, self.seed, self.rows, self.bank = ipc, seed, rows, bank
        self.negative_pool = pool_of(source.counts, negative_rows)
        self.on_extract: Callable[[int], None] = lambda rows: None  # told of every forward: tests and plans count rows
        self._latents, self._kept = Kept(KEPT_BYTES), Kept(KEPT_BYTES)
        self.divided: dict[int, Tensor | None] = {}  # of each class, what `guidance.clusters` found, once for all steps
        self._pool_at = -1, torch.zeros(0)

    @classmethod
    def of(
        cls,
        guidance: Any,
        backbone: Backbone,
        source: Source,
        classes: Sequence[int],
        chain: Chain,
        *,
        ipc: int = 1,
        seed: int = 0,
        rows: int,
    ) -> Reference:
        """As a guidance wants it: tap and interval; `pooling`, `reference_spacing`, `contrast` where it has these."""
        guidance = settled(guidance, backbone, ipc, len(chain.timesteps))
        return cls(
            backbone,
            source,
            classes,
            chain,
            tap=guidance.tap if guidance.tap in backbone.taps() else backbone.default_tap,
            pooling=getattr(guidance, "pooling", None),
            interval=guidance.interval,
            first=first_of(len(chain.timesteps), share_taken(guidance)),
            spacing=getattr(guidance, "reference_spacing", 0.0),
            ipc=ipc,
            negative_rows=negatives_wanted(guidance, ipc),
            seed=seed,
            rows=rows,
        )

    def members(self, label: int) -> Pool:
        """(class, its first so many images) of the rows under a label: the class; behind the last class, the pool."""
        return self.negative_pool if label == len(self.classes) else ((label, self.source.counts[label]),)

    def count(self, label: int) -> int:
        """N, the rows under a label: the real images of a class."""
        return sum(count for _, count in self.members(label))

    def negatives(self, label: int, index: int) -> Tensor | None:
        """Rows [n, F], float32, of a few images of each other class, each seen as its own class; None without any."""
        foreign = [k != label for k, count in self.negative_pool for _ in range(count)]
        if not any(foreign):
            return None
        if self._pool_at[0] != index:  # the same for all classes of a step
            self._pool_at = index, self.features(len(self.classes), index)
        return self._pool_at[1][foreign]

    def parts(self, label: int, index: int) -> Iterator[Tensor]:
        """Rows [n, F], float32, of all real images of a class at step `index` of the chain.

        In one part where they take 1 GB or less, else in several, each step for itself: features do not grow with N.
        """
        low, high, share = self.anchors(index)
        self._kept.go(index, low)
        self._latents.go(index, 0)
        here = self._anchor(label, low)
        if here is None:
            yield from (rows.float() for rows in self._extract(label, index, self._part_rows))
        elif share == 0:
            yield here.float()
        else:
            there = self._anchor(label, high)
            yield here.float() if there is None else torch.lerp(here.float(), there.float(), share)

    def features(self, label: int, index: int) -> Tensor:
        """All parts together, [N, F]."""
        return torch.cat(list(self.parts(label, index)))

    def anchors(self, index: int) -> tuple[int, int, float]:
        """The anchors between which step `index` lies, and how far from the first, 0 .. 1."""
        return self._anchors.around(index)

    @cached_property
    def anchor_steps(self) -> tuple[int, ...]:
        """The steps whose features are computed for the guidance's interval."""
        return self._anchors.steps

    @cached_property
    def _anchors(self) -> Anchors:
        chain = self.chain
        inside = steps_inside(self.interval, len(chain.timesteps), self.first)
        return Anchors.of(chain.timesteps, len(chain.alpha_bar), inside, self.spacing)

    def shapes(self) -> dict[tuple[int, int], tuple[int, int]]:
        """[N, F] of all that a bank keeps, by (label, step): classes in one part, at the anchors."""
        labels = [k for k in range(len(self.classes) + bool(self.negative_pool)) if not self.in_parts(k)]
        return {(label, step): (self.count(label), self.row_numbers) for label in labels for step in self.anchor_steps}

    def _anchor(self, label: int, index: int) -> Tensor | None:
        """A class's rows at an anchor, in half precision: from memory, from the bank, or extracted; None: too many."""
        rows = self._kept.get((label, index))
        if rows is None:
            rows = None if self.bank is None else self.bank.get(label, index)
            if rows is None:
                if self.in_parts(label):
                    return None
                (rows,) = self._extract(label, index, self.count(label))
                if self.bank is not None:
                    self.bank.put(label, index, rows)
            rows = rows.to(self.backbone.device)
            self._kept.put((label, index), rows)
        return rows

    def _noised(self, label: int, index: int) -> Iterator[Tensor]:
        """x_t in parts, as its noise comes: the whole of a class is held once, as x_0."""
        x_0, done = self.latents(label), 0
        for noise in balanced_parts(x_0, self._noise_seed(label)):
            yield self.chain.noised(x_0[done : done + len(noise)], noise, self.chain.timesteps[index])
            done += len(noise)

    @cached_property
    def row_numbers(self) -> int:
        """F, the numbers of one row: asked of the backbone once."""
        x = torch.zeros(1, *self.backbone.latent_shape, device=self.backbone.device)
        condition = self.backbone.condition([self.classes[0]])
        return self.pooling.rows(self.backbone.tap_features(x, 0, condition, self.tap)).shape[1]

    @property
    def _part_rows(self) -> int:
        return max(self.rows, PART_BYTES // (4 * self.row_numbers))

    def in_parts(self, label: int) -> bool:
        """Whether a class is too large to be kept: its features are then extracted again at every step."""
        return self.count(label) > self.rows and self.count(label) > self._part_rows

    def _extract(self, label: int, index: int, part: int) -> Iterator[Tensor]:
        """Rows [n, F] in half precision, n of them `part` or, at the end, fewer."""
        members = self.members(label)
        told = [self.classes[k] for k, count in members for _ in range(1 if len(members) == 1 else count)]
        condition, done = self.backbone.condition(told), 0  # of one class one row that all share: the class as such
        starts = range(0, self.count(label), part)
        parts = [equal_forwards(min(part, self.count(label) - start), self.rows) for start in starts]
        forwards = recut(self._noised(label, index), itertools.chain(*parts))
        for sizes in parts:
            out = []
            for x_t in itertools.islice(forwards, len(sizes)):
                self.on_extract(len(x_t))
                here = condition if len(told) == 1 else condition[done : done + len(x_t)]
                features = self.backbone.tap_features(x_t, self.chain.timesteps[index], here, self.tap)
                out.append(self.pooling.rows(features))
                done += len(x_t)
            half = (whole := torch.cat(out)).half()
            yield half if bool(half.isfinite().all()) else whole  # half precision, where they fit into it

    def latents(self, label: int) -> Tensor:
        """x_0 [N, C, H, W] of all real images of a class, encoded once and kept while its chunk is at work."""
        x_0 = self._latents.get((label, 0))
        if x_0 is None:
            places = [(k, p.tolist()) for k, n in self.members(label) for p in torch.arange(n).split(self.rows)]
            images = (self.source.images(k, part) for k, part in places)
            x_0 = torch.cat([self.backbone.encode(part.float() / 255) for part in images])
            self._latents.put((label, 0), x_0)
        return x_0

    def noise(self, label: int, x_0: Tensor) -> Tensor:
        """Balanced noise [N, C, H, W] of a class's rows, the same at every step."""
        return balanced(x_0, self._noise_seed(label))

    def _noise_seed(self, label: int) -> int:
        names = self.source.class_names
        text = f"reference/{self.seed}/{names[label]}" if label < len(names) else f"negatives/{self.seed}"
        return int.from_bytes(blake2b(text.encode(), digest_size=7).digest())
