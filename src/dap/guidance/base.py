"""What a guidance is: options, and a shift of x_{t-1}. A new method is one file with one frozen dataclass.

    @dataclass(frozen=True, kw_only=True)
    class Pull:
        scale: float = 0.1                     # options are fields: --set guidance.scale=0.2
        interval: tuple[float, float] = (0, 1)
        tap = None                             # no features wanted
        couples = False
        def resolved(self, backbone): return self
        def prepare(self, backbone, reference): return lambda step: -self.scale * step.x_prev

Use it by its import path, `--guidance package.module:Pull`; nothing needs to be registered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from dap.backbones.base import Backbone
from dap.types import Step

if TYPE_CHECKING:
    from dap.reference import Reference

Shift = Callable[[Step], Tensor]


class Guidance(Protocol):
    """A method that shifts the reverse trajectory.

    tap       the layer whose features `shift` wants, or None
    interval  half-open share of the trajectory in which it acts: 0 is pure noise, 1 the last step, so that (0, 1)
              leaves out the last step alone; outside nothing is called and no graph is built
    couples   True when images of one class influence each other: they then share a chunk

    These are optional: `off`, True at scale zero (the unguided path is then taken, bit for bit); `reference_size`, how
    many real images of a class stand for it (None: all), and beside it `reference_herded`, how many of a large class;
    `pooling` and `reference_spacing`, as in `dap.reference`; `contrast`, above 0 where `reference.negatives` are
    wanted; `decided(reference)`, itself with what it leaves to the real images; and, together, `start`, the last share
    of the steps that is taken (1: all of them, begun at noise), and `starts(reference, units)`, the x_0 [B, C, H, W] at
    which the images of these units begin, noised to that step. A `start` in a word, as "auto", is asked of
    `start_of(ipc, backbone, steps)`.
    """

    @property
    def tap(self) -> str | None: ...

    @property
    def interval(self) -> tuple[float, float]: ...

    @property
    def couples(self) -> bool: ...

    def resolved(self, backbone: Backbone) -> Any:
        """The same guidance with every open option decided for this backbone; raises when one does not fit it."""
        ...

    def prepare(self, backbone: Backbone, reference: Reference) -> Shift:
        """The function that maps a Step to the shift [B, C, H, W] that is added to x~_{t-1}."""
        ...


def acts(interval: tuple[float, float], index: int, count: int) -> bool:
    """Whether step `index` of `count` lies in the half-open interval; 0 is the first step, 1 the last."""
    fraction = index / (count - 1) if count > 1 else 1.0
    return interval[0] <= fraction < interval[1]


def steps_inside(interval: tuple[float, float], count: int, first: int = 0) -> list[int]:
    """The steps of a chain, from `first` on, that are guided."""
    return [i for i in range(first, count) if acts(interval, i, count)]


def share_taken(guidance: Any) -> float:
    """The last share of the steps that a set takes: `start` of a guidance, where it has one; else 1."""
    share = getattr(guidance, "start", None)
    return 1.0 if share is None else float(share)


def settled(guidance: Any, backbone: Backbone, ipc: int, steps: int) -> Any:
    """The guidance with its `start` as a number, where it leaves that open in a word."""
    if not isinstance(getattr(guidance, "start", None), str):
        return guidance
    return replace(guidance, start=guidance.start_of(ipc, backbone, steps))


def first_of(count: int, share: float) -> int:
    """The index of the first step, when the last `share` of `count` steps is taken: at least the last one."""
    return count - max(1, ceil(round(count * share, 6)))


def rows_of_classes(step: Step) -> list[tuple[int, list[int]]]:
    """(label, its rows) for every class of the step's chunk, in order of appearance."""
    rows: dict[int, list[int]] = {}
    for row, unit in enumerate(step.units):
        rows.setdefault(unit.label, []).append(row)
    return list(rows.items())
