"""What is measured, and against what: opened, checked and matched by class name before any feature is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dap.data import Source, open_dataset
from dap.errors import ConfigError, DataError
from dap.finished import finished_at


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One set of images; `directory` and `record` (its config.json) only for a dataset that dap distilled."""

    name: str
    source: Source
    directory: Path | None = None
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """The configuration that made it, {} for an ordinary folder."""
        found = self.record.get("config", {})
        return found if isinstance(found, dict) else {}

    @property
    def ipc(self) -> int:
        """Images of the smallest class."""
        return min(self.source.counts)


def open_subjects(given: Sequence[Source | str | Path]) -> list[Subject]:
    """The sets to measure, all with the classes of the first, in its order.

    Raises: ConfigError for none, DataError for an unfinished or damaged dataset and for sets of other classes.
    """
    if not given:
        raise ConfigError("no set to measure; name at least one: dap measure DIR --reference DATA")
    subjects = [_open(one) for one in given]
    names = subjects[0].source.class_names
    return [Subject(**{**vars(s), "source": like(s.source, names, subjects[0].name)}) for s in subjects]


def _open(given: Source | str | Path) -> Subject:
    if isinstance(given, Source):
        return Subject(name=given.name, source=given)
    store = finished_at(Path(given).expanduser())
    if store is not None:
        return Subject(name=str(given), source=open_dataset(store.path), directory=store.path, record=store.config)
    return Subject(name=str(given), source=open_dataset(str(given)))


def open_reference(given: Source | str | Path | None, subject: Subject) -> Source:
    """The real images, those of the subject's classes; None: what the distilled set was made from.

    Raises: DataError where nothing is recorded, and for a class of the subject that the reference lacks.
    """
    if isinstance(given, Source):
        source = given
    elif given is not None:
        source = open_dataset(str(given))
    else:
        data = subject.config.get("data", {})
        if not data.get("source"):
            raise DataError(f"{subject.name!r} does not record the real data it stands for; add --reference DATA")
        skip = "skip" if data.get("on_bad_image") == "skip" else None
        source = open_dataset(data["source"], split=data.get("split"), subset=data.get("subset"), on_bad_image=skip)
    return source.restrict(subject.source.class_names)


def like(source: Source, names: Sequence[str], first: str) -> Source:
    """The source with its classes in the order of `names`. Raises: DataError when they are others."""
    if set(source.class_names) != set(names):
        odd = sorted(set(source.class_names) ^ set(names))
        raise DataError(
            f"{source.name!r} and {first!r} are not of the same classes ({len(odd)} differ, first {odd[0]!r});"
            " measure them one by one, each with its own --reference"
        )
    return source.restrict(tuple(names))
