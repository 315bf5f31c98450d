"""Memory: the micro-batch that fits, what happens when it runs out, and what is written down."""

import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dap import memory, resolution
from dap.commands.dry_run import dry
from dap.config import load_config
from dap.distillation import Job, open_job
from dap.errors import SamplingError, StoreError, out_of_memory
from dap.guidance import Representativeness
from dap.memory import Thrift, choose_micro_batch, enough_memory
from dap.plan import plan_chunks
from dap.resolution import resolved
from dap.sampling import Start, trajectory
from dap.store import Store
from dap.testing import tiny_dit
from dap.types import Chunk, Prediction

SET = Representativeness(strength=0.3, repulsion=1.0)
OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
    MemoryError("Unable to allocate 7.28 PiB"),
]


class Small:
    """A backbone on a device whose memory holds `rows` rows of a forward pass and the graphs of `graphs` rows."""

    def __init__(self, backbone: Any, rows: int, graphs: int = 10**9, error: Exception | None = None) -> None:
        self._inner, self.rows, self.graphs, self.refused = backbone, rows, graphs, []
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore")
        self.held: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _check(self, rows: int) -> None:
        if rows > self.rows:
            self.refused.append(rows)
            raise self.error

    def predict(self, x: Tensor, t: int, condition: Tensor, tap: str | None = None) -> Prediction:
        self._check(len(x))
        given = self._inner.predict(x, t, condition, tap)
        if given.features is not None:
            alive = [ref for ref in self.held if ref() is not None]
            if (len(alive) + 1) * len(x) > self.graphs:
                self.held = []
                raise torch.OutOfMemoryError("graphs")
            self.held = [*alive, weakref.ref(given.features)]
        return given

    def tap_features(self, x: Tensor, t: int, condition: Tensor, tap: str) -> Tensor:
        self._check(len(x) // 2)
        return self._inner.tap_features(x, t, condition, tap)


def last(thrift: Thrift, chunk: Chunk) -> Tensor:
    return list(thrift.sample(chunk))[-1].x


# --- running out ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_every_device_has_its_own_way_to_say_it(error: Exception, bench: Any, units: Any) -> None:
    assert out_of_memory(error)
    b = bench(Small(tiny_dit(), rows=2, error=error), micro_batch=4)
    thrift = Thrift(b.sampler, None, None)
    last(thrift, Chunk(0, tuple(units([0], 2))))
    assert thrift.sampler.micro_batch == 2
    with pytest.raises(SamplingError, match="not enough memory for thinking"), enough_memory("thinking"):
        raise error


def test_other_errors_are_not_taken_for_it() -> None:
    for error in (RuntimeError("shape '[2]' is invalid"), ValueError("out of memory"), KeyError("DefaultCPUAllocator")):
        assert not out_of_memory(error)
    with pytest.raises(RuntimeError, match="shape"), enough_memory("thinking"):
        raise RuntimeError("shape '[2]' is invalid")


def test_encoding_the_images_to_start_from_is_tried_again_with_less(bench: Any, units: Any) -> None:
    b = bench(tiny_dit(), micro_batch=4)
    thrift, sizes = Thrift(b.sampler, None, None), []

    def start() -> Start:
        sizes.append(thrift.sampler.micro_batch)
        if sizes[-1] > 1:
            raise torch.OutOfMemoryError("no room to encode")
        return Start(x_0=torch.zeros(2, 1, 8, 8), strength=0.5)

    states = list(thrift.sample(Chunk(0, tuple(units([0], 2))), start))
    assert sizes == [4, 2, 1]
    assert [state.index for state in states] == [2, 3]


@pytest.mark.parametrize("guidance", [None, SET])
def test_out_of_memory_halves_the_micro_batch_until_it_fits(guidance: Any, bench: Any, units: Any) -> None:
    b = bench(Small(tiny_dit(), rows=3), cfg_scale=2.0, micro_batch=10)
    reference = b.reference(rows=15)
    thrift = Thrift(b.sampler, None if guidance is None else b.guided(guidance, reference), reference)
    chunk = Chunk(0, tuple(units([0, 1], 4)))
    x = last(thrift, chunk)
    tried = [10, 5] if guidance is None else [10, 5, 5]  # the second time without keeping graphs together
    assert b.sampler.backbone.refused == tried
    assert thrift.sampler.micro_batch == 2
    assert reference.rows == 3
    assert [note for note in thrift.notes if "micro-batch;" not in note] == [
        "out of memory: micro-batch 5 instead of 10; last bits may differ",
        "out of memory: micro-batch 2 instead of 5; last bits may differ",
    ]
    plain = bench(tiny_dit(), cfg_scale=2.0, micro_batch=2)
    assert torch.equal(
        x, plain.sample(chunk.units, None if guidance is None else plain.guided(guidance, plain.reference(rows=3)))
    )
    assert torch.equal(x, last(thrift, chunk))  # and it stays there
    assert b.sampler.backbone.refused == tried


def test_first_the_graphs_are_let_go_which_changes_no_bit(bench: Any, units: Any) -> None:
    b = bench(Small(tiny_dit(), rows=2, graphs=4), micro_batch=2)
    chunk = Chunk(0, tuple(units([0, 1], 4)))
    thrift = Thrift(b.sampler, b.guided(SET), None)
    x = last(thrift, chunk)
    assert thrift.notes == ["out of memory: graphs built again for each micro-batch; the bits are the same"]
    assert thrift.sampler.micro_batch == 2
    roomy = bench(tiny_dit(), micro_batch=2)
    assert torch.equal(x, roomy.sample(chunk.units, SET))


def test_it_starts_again_from_the_same_images(bench: Any, units: Any) -> None:
    chosen = units([0, 1], 2)
    start = Start(x_0=torch.full((4, 1, 8, 8), 0.5), strength=0.5)
    b = bench(Small(tiny_dit(), rows=2), micro_batch=4)
    *_, state = Thrift(b.sampler, None, None).sample(Chunk(0, tuple(chosen)), lambda: start)
    *_, roomy = trajectory(bench(tiny_dit(), micro_batch=2).sampler, chosen, None, start)
    assert torch.equal(state.x, roomy.x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_recomputing_the_graphs_gives_the_same_bits(dtype: Any, bench: Any, units: Any) -> None:
    backbone = tiny_dit()
    backbone.transformer.to(dtype)
    b = bench(backbone, cfg_scale=2.0, micro_batch=3)
    chosen = units([0, 2], 4)
    assert torch.equal(b.sample(chosen, SET), b.sample(chosen, SET, recompute=True))
    with torch.no_grad():
        assert torch.equal(b.sample(chosen, SET), b.sample(chosen, SET, recompute=True))


def test_when_not_even_one_row_fits_it_says_so(bench: Any, units: Any) -> None:
    b = bench(Small(tiny_dit(), rows=0), micro_batch=4)
    with pytest.raises(
        SamplingError, match=r"one row of one forward pass \(CUDA out of memory.*--dtype bf16"
    ) as caught:
        last(Thrift(b.sampler, None, None), Chunk(0, tuple(units([0], 2))))
    assert "\n" not in str(caught.value)


def test_other_errors_are_not_swallowed(bench: Any, units: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(memory, "trajectory", broken)
    b = bench()
    with pytest.raises(RuntimeError, match="a bug"):
        last(Thrift(b.sampler, None, None), Chunk(0, tuple(units([0], 1))))


# --- written down -----------------------------------------------------------------------------------------------------


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    """job(out, rows, **run) on a device that holds `rows` rows of a forward pass."""

    def make(out: Path, rows: int, **run: Any) -> Job:
        opened = resolution.open_backbone
        monkeypatch.setattr(resolution, "open_backbone", lambda *a, **k: Small(opened(*a, **k), rows))
        config = load_config(
            data={"source": "digits:train"},
            sampling={"steps": 2},
            guidance={"name": "none"},
            run={"ipc": 1, "chunk": 5, **run},
        )
        made = open_job(config, out)
        monkeypatch.setattr(resolution, "open_backbone", opened)
        return made

    return make


def markers(out: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((out / "chunks").glob("*.json"))]


def test_the_marker_says_so_the_plan_stays_and_the_user_is_told(job: Any, tmp_path: Path) -> None:
    events = list(job(tmp_path / "d", rows=2, micro_batch=4).render())
    notes = "out of memory: micro-batch 2 instead of 4; last bits may differ"
    assert [event.note for event in events if event.note] == [notes]  # once
    assert [marker["notes"] for marker in markers(tmp_path / "d")] == [[notes], [notes]]
    store = Store.open(tmp_path / "d")
    assert store.micro_batch == 4
    assert store.verify() == []
    assert store.images == 10
    list(job(tmp_path / "roomy", rows=50, micro_batch=4).render())
    assert "notes" not in markers(tmp_path / "roomy")[0]
    same = [Store.open(tmp_path / name).rows() for name in ("d", "roomy")]
    assert [row["seed"] for row in same[0]] == [row["seed"] for row in same[1]]


def test_a_dry_run_counts_with_the_rows_that_fit(job: Any, tmp_path: Path) -> None:
    made = job(tmp_path / "d", rows=2, micro_batch=4)
    record, text = dry(made, made.chunks)
    assert record["notes"] == ["out of memory: micro-batch 2 instead of 4; last bits may differ"]
    assert record["forwarded_rows"] == 2 * 2 * 3 * 2  # steps x chunks x passes of 5 images x rows
    assert "2 rows a pass" in text
    assert record["notes"][0] in text
    roomy = job(tmp_path / "d", rows=50, micro_batch=4)
    assert "notes" not in dry(roomy, roomy.chunks)[0]


def test_running_out_while_decoding_is_one_line(job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = job(tmp_path / "d", rows=50)

    def decode(latents: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("no room")

    made.backbone.decode = decode
    with pytest.raises(SamplingError, match=r"not enough memory for decoding the images \(no room\)"):
        list(made.render())


def test_a_micro_batch_from_free_memory_is_chosen_once(
    job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run sees room for 25 rows, the second for 5: it goes on with 25, as the plan says."""
    chosen = iter([25, 5])
    monkeypatch.setattr("dap.resolution.choose_micro_batch", lambda backbone, chunks: next(chosen))
    first = job(tmp_path / "d", rows=50)
    assert first.sampler.micro_batch == 25
    next(first.render())  # the plan is written before the first step is done
    again = job(tmp_path / "d", rows=50)
    assert again.sampler.micro_batch == 25
    assert again.record["digest"] == first.record["digest"]
    list(again.render())
    assert Store.open(tmp_path / "d").micro_batch == 25
    assert job(tmp_path / "other", rows=50).sampler.micro_batch == 5
    with pytest.raises(StoreError, match=r"run.micro_batch: 25 there, 10 asked"):
        job(tmp_path / "d", rows=50, micro_batch=10)


# --- choosing ---------------------------------------------------------------------------------------------------------


class OnCuda:
    """A backbone that says it is on a GPU."""

    device, row_cost = torch.device("cuda"), 2**20


@pytest.mark.parametrize(
    ("free", "expected"),
    [(10**12, 50), ((50 * 8e8 + 16e8) / 0.8 + 1, 50), (40e9, 25), (20e9, 17), (4.1e9, 2), (1e9, 1), (0, 1)],
)
def test_the_micro_batch_is_what_fits_into_free_memory(
    free: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 GB of weights at work, 0.8 GB a row with its graph, 0.1 GB a real image without, 16 at a time."""
    workspace = iter([4 * 10**9])  # what the very first pass leaves behind belongs to no row

    def peak(backbone: Any, rows: int, graph: bool) -> int:
        return int(next(workspace, 0) + 1e9 + rows * (8e8 if graph else 1e8))

    monkeypatch.setattr(memory, "_free", lambda device: int(free))
    monkeypatch.setattr(memory, "_peak", peak)
    assert choose_micro_batch(OnCuda(), [50] * 20) == expected


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_without_room_to_try_it_is_one_and_off_the_gpu_it_is_the_models(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> int:
        raise error

    monkeypatch.setattr(memory, "_peak", full)
    assert choose_micro_batch(OnCuda(), [50]) == 1
    assert choose_micro_batch(tiny_dit(), [50]) == 50


@pytest.mark.parametrize("couples", [True, False])
@pytest.mark.parametrize("ipc", [1, 7, 10, 20, 30, 47, 50, 51, 99, 100])
def test_few_rows_are_padding_whatever_the_images_per_class(ipc: int, couples: bool, tmp_path: Path) -> None:
    """Ten classes, chunks of 50, room for 50 rows: at a fixed 50, IPC 1 would forward 5 rows an image."""
    names = [f"c{k}" for k in range(10)]
    config = resolved(load_config(run={"ipc": ipc}), tiny_dit(), tmp_path, names, couples)
    size = config.run.micro_batch or 0
    plan = plan_chunks(names, ipc, 0, chunk=config.run.chunk or 0, whole_classes=couples)
    passes = [-(-len(chunk.units) // size) for chunk in plan]
    assert sum(passes) * size <= 1.1 * 10 * ipc
    assert size >= 10 or ipc < 10
    named = load_config(run={"ipc": ipc, "micro_batch": 50})
    assert resolved(named, tiny_dit(), tmp_path, names, couples).run.micro_batch == 50


def test_the_loop_itself_lets_it_through(bench: Any, units: Any) -> None:
    b = bench(Small(tiny_dit(), rows=1))
    with pytest.raises(torch.OutOfMemoryError):
        list(trajectory(b.sampler, units([0], 2), None))
