"""`measure`: every set against the real images, class by class; one record a set, and a map of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dap.backbones import pick_device
from dap.data import Source, open_dataset
from dap.metrics import record
from dap.metrics.features import Space, open_space
from dap.metrics.scores import Real, Scores, score
from dap.metrics.subjects import Subject, like, open_reference, open_subjects
from dap.metrics.tsne import REAL, Point, chosen, embedded, sketched
from dap.metrics_config import MetricsConfig

Progress = Callable[[int, int, str], None]


def measure(
    sets: Sequence[Source | str | Path],
    reference: Source | str | Path | None = None,
    *,
    test: Source | str | Path | None = None,
    backbone: Mapping[str, Any] | None = None,
    config: MetricsConfig | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Representativeness, diversity, coverage and near-copies of sets of images, per class and averaged.

    sets       distilled datasets, other folders of class folders, or Sources, all of the same classes
    reference  the real images they stand for; None: what the first set was distilled from
    test       held-out real images for a second map; no number depends on them
    backbone   the table `[backbone]` whose tap is used; None: the one that made the first set
    progress   called with (images done, images in all, what is being done)

    The result of each distilled dataset is also written to DIR/metrics/<features>-<digest>.json; those paths are in
    "files". The form of the result: `dap.metrics.record`.

    Raises: ConfigError for unknown features and weights that are not there, DataError for images and classes that do
    not fit, StoreError for a dataset that is damaged or cannot be written to.
    """
    config = config or MetricsConfig()
    subjects = open_subjects(sets)
    real = open_reference(reference, subjects[0])
    if config.reference_size is not None:
        real = real.select(min(config.reference_size, *real.counts), config.seed)
    held_out = None if test is None else test if isinstance(test, Source) else open_dataset(str(test))
    if held_out is not None:
        held_out = like(held_out.restrict(real.class_names), real.class_names, subjects[0].name)
    for subject in subjects:
        record.check_writable(subject.directory)
    table = _backbone_of(subjects[0], backbone)
    space = open_space(config, subjects[0].source, table, pick_device(device))
    work = _Work(subjects=subjects, real=real, test=held_out, space=space, config=config, progress=progress)
    work.run()
    return record.of(work.results(), subjects, real, held_out, space.record, config)


def _backbone_of(subject: Subject, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The settings of the backbone whose tap is meant; with the tap that guided the set, when it is the set's own."""
    recorded = dict(subject.config.get("backbone", {}))
    if given is not None and given.get("name"):
        return dict(given)
    tap = subject.config.get("guidance", {}).get("tap")
    return {**recorded, "tap": tap} if isinstance(tap, str) else recorded


@dataclass(kw_only=True)
class _Work:
    """All that is computed, class by class: features are held of one class at a time."""

    subjects: list[Subject]
    real: Source
    test: Source | None
    space: Space
    config: MetricsConfig
    progress: Progress | None
    scores: list[list[Scores]] = field(default_factory=list)
    yardsticks: list[list[Scores | None]] = field(default_factory=list)
    maps: dict[str, list[record.Place]] = field(default_factory=dict)
    _done: int = 0

    def run(self) -> None:
        sources = {k: subject.source for k, subject in enumerate(self.subjects)}
        train = chosen({REAL: self.real, **sources}, self.config.points, self.config.seed)
        wanted = set(train)
        test = [] if self.test is None else chosen({REAL: self.test}, self.config.points // 2, self.config.seed)
        self._total = sum(self.real.counts) + sum(sum(s.counts) for s in sources.values()) + len(test)
        self.scores, self.yardsticks = [[] for _ in sources], [[] for _ in sources]
        rows: dict[Point, np.ndarray[Any, Any]] = {}
        for label, name in enumerate(self.real.class_names):
            found = {REAL: self._features(self.real, label, name)}
            known = Real.of(found[REAL])
            for k, source in sources.items():
                found[k] = self._features(source, label, name)
                self.scores[k].append(score(found[k], known))
                self.yardsticks[k].append(yardstick(known, source.counts[label], self.config.seed + label))
            for k, features in found.items():
                mine = [i for i in range(len(features)) if (k, label, i) in wanted]
                if mine:
                    sketches = sketched(np.asarray(features[np.array(mine)]), self.config.seed)
                    rows.update({(k, label, i): row for i, row in zip(mine, sketches, strict=True)})
        self.maps["train"] = self._map(train, rows)
        if self.test is not None:
            rows.update(self._rows_of_test(test))
            self.maps["test"] = self._map([p for p in train if p[0] != REAL] + test, rows)

    def results(self) -> record.Results:
        """What was computed, as the record wants it."""
        return record.Results(scores=self.scores, yardsticks=self.yardsticks, maps=self.maps)

    def _features(self, source: Source, label: int, name: str) -> Any:
        return self.space.extract(source, label, lambda count: self._told(count, f"features of class {name}"))

    def _told(self, count: int, what: str) -> None:
        self._done += count
        if self.progress is not None:
            self.progress(self._done, self._total, what)

    def _rows_of_test(self, points: Sequence[Point]) -> dict[Point, Any]:
        assert self.test is not None
        source = self.test.with_format(size=self.space.size, mode=self.space.mode)
        rows = {}
        for label in sorted({p[1] for p in points}):
            mine = [p[2] for p in points if p[1] == label]
            for i in range(0, len(mine), self.space.rows):
                part = mine[i : i + self.space.rows]
                features = self.space.features(source.images(label, part)).float().cpu().numpy()
                sketches = sketched(features, self.config.seed)
                rows.update({(REAL, label, at): row for at, row in zip(part, sketches, strict=True)})
                self._told(len(part), "features of the test images")
        return rows

    def _map(self, points: Sequence[Point], rows: Mapping[Point, Any]) -> list[record.Place]:
        if not points:
            return []
        if self.progress is not None:
            self.progress(self._done, self._total, f"t-SNE of {len(points)} images")
        places = embedded(np.stack([rows[p] for p in points]), self.config.seed)
        return [record.Place(*point, *place) for point, place in zip(points, places, strict=False)]


def yardstick(known: Real, count: int, seed: int) -> Scores | None:
    """The numbers of `count` random real images against the others of their class; None when they are over half."""
    total = len(known.near)
    if count > total // 2:
        return None
    picked: Tensor = torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:count].sort().values
    return score(torch.as_tensor(known.rows[picked.numpy()]), known.without(picked))
