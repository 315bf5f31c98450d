"""`Reference`: the real images' features at (class, timestep), the other half of DAP's distance.

They do not depend on the synthetic images, so they are extracted once per class and step for all images in lock step,
with an early exit at the tap, in forwards of a fixed number of rows. Real images are noised to the step's level; image
j's noise at step i is row j of a generator seeded by (run seed, class name, step).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import blake2b

import torch
from torch import Tensor

from dap.backbones.base import Backbone
from dap.backbones.chain import Chain
from dap.data import Source
from dap.errors import ConfigError

FEATURE_BYTES = 8 * 10**9  # of one class at one step, all of which the energy needs at once
KEPT_BYTES = 2 * 10**9  # of encoded classes: a chunk's own are asked for again at every step


class Reference:
    """The real features of a dataset's classes, seen through a backbone and a reverse chain.

    source   images in the backbone's size and mode, already checked; all of a class are used
    classes  classes[label] is the backbone's index of the dataset's class
    rows     most images of one forward pass; a class is cut into equal parts
    bank     features kept in memory for the next set of the same seed, up to `bank_bytes`; empty and off by default
    """

    def __init__(
        self,
        backbone: Backbone,
        source: Source,
        classes: Sequence[int],
        chain: Chain,
        *,
        seed: int,
        rows: int,
    ) -> None:
        self.backbone, self.source, self.classes, self.chain = backbone, source, tuple(classes), chain
        self.seed, self.rows = seed, rows
        self.on_extract: Callable[[int], None] = lambda rows: None  # told of every forward: tests and plans count rows
        self.bank: dict[tuple[int, int, str], Tensor] = {}
        self.bank_bytes = 0
        self._latents: OrderedDict[int, Tensor] = OrderedDict()
        self._last: tuple[tuple[int, int, str], Tensor] | None = None

    def count(self, label: int) -> int:
        """N, the real images of a class."""
        return self.source.counts[label]

    def features(self, label: int, index: int, t: int, tap: str) -> Tensor:
        """Features [N, tokens, width] of all real images of a class, noised to t, at step `index` of the chain."""
        key = (label, index, tap)
        if key in self.bank:
            return self.bank[key]
        if self._last is None or self._last[0] != key:
            self._last = (key, self._extract(label, index, t, tap))
            if sum(f.nbytes for f in self.bank.values()) + self._last[1].nbytes <= self.bank_bytes:
                self.bank[key] = self._last[1]
        return self._last[1]

    def _extract(self, label: int, index: int, t: int, tap: str) -> Tensor:
        x_0 = self.latents(label)
        noise = torch.randn(x_0.shape, generator=self._generator(label, index)).to(x_0.device)
        x_t = self.chain.noised(x_0, noise, t)
        condition = self.backbone.condition([self.classes[label]])  # one row that all share: the class as such
        parts: list[Tensor] = []
        for rows in x_t.tensor_split(-(-len(x_t) // self.rows)):
            self.on_extract(len(rows))
            parts.append(self.backbone.tap_features(rows, t, condition, tap))
            needed = parts[0][0].nbytes * len(x_0)
            if needed > FEATURE_BYTES:
                raise ConfigError(
                    f"the features of {len(x_0)} real images at {tap} take {needed / 1e9:.0f} GB for each step; "
                    f"use fewer: --set guidance.reference_size={int(len(x_0) * FEATURE_BYTES / needed)}"
                )
        return torch.cat(parts)

    def latents(self, label: int) -> Tensor:
        """x_0 [N, C, H, W] of all real images of a class, encoded once and kept while its chunk is at work."""
        if label not in self._latents:
            images = self.source.images(label)
            parts = [self.backbone.encode(part.float() / 255) for part in images.split(self.rows)]
            self._latents[label] = torch.cat(parts)
            while len(self._latents) > 1 and sum(x.nbytes for x in self._latents.values()) > KEPT_BYTES:
                self._latents.popitem(last=False)
        self._latents.move_to_end(label)
        return self._latents[label]

    def _generator(self, label: int, index: int) -> torch.Generator:
        text = f"reference/{self.seed}/{index}/{self.source.class_names[label]}"
        return torch.Generator().manual_seed(int.from_bytes(blake2b(text.encode(), digest_size=7).digest()))
