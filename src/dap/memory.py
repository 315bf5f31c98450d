"""How many rows go through one forward pass: chosen once from memory and plan, and fewer when it runs out all the same.

The micro-batch determines the last bits of every image, so it is recorded with the plan and used again on resume. When
memory runs out all the same, the chunk starts again from its seeds with less, and its marker says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from dap.backbones.base import MICRO_BATCH, Backbone, default_micro_batch
from dap.errors import SamplingError, out_of_memory
from dap.reference import Reference
from dap.sampling import Guided, Sampler, Start, State, trajectory
from dap.types import Chunk

SHARE = 0.8  # of the free memory; the rest is for what fragments
PASS_ROWS = 4  # what a forward pass costs besides its rows, in rows


def reference_rows(backbone: Backbone) -> int:
    """Real images of one forward pass: by the model alone, so that sets of any IPC share their features' last bits.

    Without gradient more fit into a GPU; a CPU is fastest in its cache.
    """
    rows = default_micro_batch(backbone)
    return max(1, rows * 3 // 2) if backbone.device.type == "cpu" else max(16, 4 * rows)


def choose_micro_batch(backbone: Backbone, chunks: Sequence[int]) -> int:
    """Rows of one forward pass when the user names none: of the numbers that fit, the one cheapest for this plan.

    chunks  images of each chunk
    Every pass runs at the same number of rows, short ones padded, so what does not divide the chunks is paid for.
    """
    fits = _fitting(backbone) if backbone.device.type == "cuda" else default_micro_batch(backbone)
    cost = {}
    for size in range(1, fits + 1):
        passes = sum(-(-images // size) for images in chunks)
        cost[size] = passes * (size + PASS_ROWS)
    return min(cost, key=lambda size: (cost[size], -size))


def _fitting(backbone: Backbone) -> int:
    """The most rows that fit into the free memory of a CUDA GPU, 1 to MICRO_BATCH.

    One row and two are tried with a graph to the default tap, as guidance needs it.
    """
    try:
        _peak(backbone, 1, graph=True)  # the first pass allocates what all share, e.g. the workspace of cuBLAS
        one, two = (_peak(backbone, rows, graph=True) for rows in (1, 2))
        plain = _peak(backbone, 2, graph=False) - _peak(backbone, 1, graph=False)
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error):
            return 1
        raise
    room = int(SHARE * _free(backbone.device)) - reference_rows(backbone) * max(0, plain)
    return max(1, min(MICRO_BATCH, room // max(1, two - one)))


def _peak(backbone: Backbone, rows: int, *, graph: bool) -> int:
    """Bytes beyond what is held already, at the highest point of a forward pass and its gradient."""
    device = backbone.device
    x = torch.zeros(rows, *backbone.latent_shape, device=device, requires_grad=graph)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    condition = backbone.condition([0] * rows)
    with torch.set_grad_enabled(graph):
        given = backbone.predict(x, 500, condition, backbone.default_tap if graph else None)
        if graph and given.features is not None:
            torch.autograd.grad(given.features.float().sum(), x)
    return torch.cuda.max_memory_allocated(device) - before


def _free(device: torch.device) -> int:
    """Bytes that a CUDA device can still give, those that torch keeps in reserve included."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


class Thrift:
    """Samples chunks; when memory runs out, begins the chunk again with less, and stays there.

    First the graphs of the rows are no longer kept together (the same bits), then the micro-batch is halved.

    sampler  what is used now          notes  what was changed, in words, for the markers of the chunks since
    """

    def __init__(self, sampler: Sampler, guided: Guided | None, reference: Reference | None) -> None:
        self.sampler, self.guided, self.reference = sampler, guided, reference
        self.notes: list[str] = []

    def sample(self, chunk: Chunk, start: Callable[[], Start | None] = lambda: None) -> Iterator[State]:
        """The trajectory of a chunk, from its beginning again after each time that memory ran out.

        start   gives the images to start from, if any: to encode them takes memory too

        Raises: SamplingError when not even one row fits.
        """
        while True:
            try:
                yield from trajectory(self.sampler, chunk.units, self.guided, start())
                return
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                reason = _first_line(error)
            self._less(len(chunk.units), reason)  # here, where the traceback no longer holds the tensors

    def _less(self, rows: int, reason: str) -> None:
        size, tapped = self.sampler.micro_batch, self.guided is not None and self.guided.tap is not None
        if tapped and not self.sampler.recompute and rows > size:
            self.sampler = replace(self.sampler, recompute=True)
            self.notes.append("out of memory: graphs built again for each micro-batch; the bits are the same")
        elif size > 1:
            self.sampler = replace(self.sampler, micro_batch=size // 2)
            self.notes.append(f"out of memory: micro-batch {size // 2} instead of {size}; last bits may differ")
            if self.reference is not None:
                self.reference.rows = max(1, min(self.reference.rows // 2, size // 2 * 3 // 2))
                self.reference.bank = None  # what it keeps was computed with more rows, and their last bits
        else:
            raise SamplingError(_said("one row of one forward pass", reason))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@contextmanager
def enough_memory(what: str) -> Iterator[None]:
    """Turns running out of memory while `what` into one line, where there is nothing left to halve."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise SamplingError(_said(what, _first_line(error))) from None


def _said(what: str, reason: str) -> str:
    return (
        f"not enough memory for {what} ({reason}); use --dtype bf16, a smaller --set run.micro_batch or "
        "guidance.reference_herded (in small classes reference_size), or another --device"
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__
