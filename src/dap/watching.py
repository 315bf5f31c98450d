"""What a guidance does, seen from outside: how far the images are from the real ones, without another forward pass."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from dap.metrics.distances import distances
from dap.reference import Reference
from dap.sampling import Guided
from dap.types import Step


class Watch:
    """Mean D_K (linear kernel) of a chunk's last class to its real images at the latest guided step.

    The last class, because its real features are still at hand when the guidance has finished with the step.

    distance  None until a step was guided by features, and for a class too large for its features to be kept
    """

    def __init__(self, reference: Reference | None) -> None:
        self.reference = reference
        self._latest: Tensor | None = None

    @property
    def distance(self) -> float | None:
        """The latest mean distance."""
        return None if self._latest is None else float(self._latest)

    def around(self, guided: Guided | None) -> Guided | None:
        """The same guidance, watched; None stays None."""
        if guided is None or self.reference is None or guided.tap is None:
            return guided
        shift, reference = guided.shift, self.reference

        def watched(step: Step) -> Tensor:
            moved = shift(step)
            self._latest = self._look(step, reference)
            return moved

        return replace(guided, shift=watched)

    def _look(self, step: Step, reference: Reference) -> Tensor | None:
        if step.features is None:
            return None
        label = step.units[-1].label
        if reference.in_parts(label):
            return None
        rows = [row for row, unit in enumerate(step.units) if unit.label == label]
        real = reference.features(label, step.index)
        centre = real.mean(0)
        return distances(reference.pooling.rows(step.features[rows]) - centre, real - centre).mean()
