"""`Candidate`: a training set that is to be judged, and what tells it from others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dap.config import digest
from dap.evaluation.batches import Labelled


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A training set that is to be judged.

    name       as in the result: what the user wrote, or the baseline's name
    ipc        images per class (the smallest class); None: the full data
    counts     images of each class, in the test data's label order
    size       side of its images in pixels, and mode ("L" when every pixel is grey): the test data are
               brought to both
    draw       repeat -> images and labels in the test data's label order, and a digest of their content
    chosen     repeat -> what decides which images those are: as good as their digest, but known before they are read
    directory  the distilled dataset that the result is written into, if it is one
    record     its config.json, {} where there is none
    origin     the name of the real data that a baseline was drawn from
    stored     short side in pixels of its images as they are stored
    real       images of each class of the real data that it was made or drawn from; None: unknown
    """

    name: str
    ipc: int | None
    counts: tuple[int, ...]
    size: int
    mode: str
    draw: Callable[[int], tuple[Labelled, str]]
    chosen: Callable[[int], dict[str, Any]]
    directory: Path | None = None
    record: dict[str, Any]
    origin: str | None = None
    stored: int
    real: tuple[int, ...] | None = None

    @property
    def made_from(self) -> str | None:
        """The name of the real data that `dap distill` was given, with their split; None if it made no such set."""
        data = (self.record.get("config") or {}).get("data") or {}
        return f"{data['source']}:{data['split']}" if data.get("split") else data.get("source")

    @property
    def family(self) -> str | None:
        """Equal for sets that only the generation seed tells apart; None if `dap distill` did not make it."""
        recipe = self.recipe
        return None if recipe is None else digest([recipe, self.counts])

    @property
    def recipe(self) -> str | None:
        """Equal for sets made in one way, whatever their images per class and seed; None as for `family`.

        The micro-batch follows from the images per class, and so may the real images that were looked at.
        """
        made, config = self.record.get("determines"), self.record.get("config")
        if not (isinstance(made, dict) and isinstance(config, dict)):
            return None
        how = {key: value for key, value in made.items() if key not in ("data", "run")}
        return digest([how, config.get("data"), self.record.get("class_names")])

    @property
    def method(self) -> str | None:
        """How a distilled dataset was guided, or "unguided"; the baseline's name; None for other folders."""
        if self.origin is not None:
            return self.name
        config = self.record.get("config")
        guidance = config.get("guidance") if isinstance(config, dict) else None
        name = guidance.get("preset") or guidance.get("name") if isinstance(guidance, dict) else None
        return "unguided" if name == "none" else name

    def serves(self, other: Candidate) -> bool:
        """Whether this is a baseline that `other` is to be compared with."""
        alike = (self.size, self.mode) == (other.size, other.mode) and self.ipc in (None, other.ipc)
        return self.origin is not None and alike
