"""`fit`: repeatable, without a trace in the global generator, as many steps as planned, and able to learn."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from dap.errors import ConfigError, DataError
from dap.evaluation import Fit, Labelled, Plan, Protocol, build_network, fit, get_protocol, training
from dap.evaluation.training import evaluate_network

TINY = get_protocol("hard-tiny")


def stripes(count: int, classes: int = 3, size: int = 8, seed: int = 0) -> Labelled:
    """Class 0 lies, 1 stands, 2 is a checkerboard, under noise: easy, but not at once; shifts change nothing."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    across, down = torch.meshgrid(torch.arange(size) % 2, torch.arange(size) % 2, indexing="ij")
    patterns = torch.stack([across, down, across ^ down]).float()[labels, None]
    noise = torch.rand(count, 3, size, size, generator=generator)
    return Labelled((255 * (0.4 * patterns + 0.6 * noise)).to(torch.uint8), labels)


def run(protocol: Protocol = TINY, scale: float = 0.1, seed: int = 0, train: Labelled | None = None, **extra) -> Fit:  # type: ignore[no-untyped-def]
    train = train or stripes(24)
    plan = protocol.plan(classes=3, images=len(train.labels), ipc=8, scale=scale)
    make = partial(build_network, "convnet-2w64", 3, size=8)
    return fit(make, train, stripes(60, seed=1), classes=3, protocol=protocol, plan=plan, seed=seed, **extra)


def same(a: Fit, b: Fit) -> bool:
    return (a.last, a.best) == (b.last, b.best) and torch.equal(a.confusion, b.confusion)


@pytest.mark.parametrize("name", ["hard-tiny", "hard-small", "hard-sgd"])
def test_the_same_seed_gives_the_same_numbers(name: str) -> None:
    protocol = get_protocol(name)
    plan = replace(protocol.plan(classes=3, images=24, ipc=8), steps=3, epochs=3, steps_per_epoch=1)
    networks: list[nn.Module] = []

    def make() -> nn.Module:
        networks.append(build_network("convnet-2w64", 3, size=8))
        return networks[-1]

    for seed in (0, 0, 1):
        fit(make, stripes(24), stripes(9, seed=1), classes=3, protocol=protocol, plan=plan, seed=seed)
    first, again, other = (torch.cat([p.flatten() for p in n.parameters()]) for n in networks)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_global_generator_is_neither_used_nor_changed() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = run()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    assert same(run(), first)


def test_a_small_network_takes_one_thread_so_that_the_number_of_cores_does_not_matter() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = run()
        assert (two.threads, torch.get_num_threads()) == (1, 2)
        torch.set_num_threads(1)
        assert same(run(), two)
    finally:
        torch.set_num_threads(before)


def test_it_learns_what_can_be_learnt() -> None:
    got = run(scale=0.3)
    assert got.last > 0.9
    assert run(scale=0.001).last < 0.9  # a single step does not


def test_what_the_machine_cannot_compute_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(network: nn.Module) -> None:
        raise RuntimeError("no C++ compiler\nand much more")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(ConfigError, match=r"^--compile cannot work on cpu here \(no C\+\+ compiler\); leave it out$"):
        run(compiled=True)


def test_best_is_at_least_last_and_evaluations_are_counted() -> None:
    got = run(scale=0.1)
    assert got.best >= got.last
    assert (got.steps, got.evaluations) == (30, 10)
    assert got.confusion.sum().item() == 60
    assert got.confusion.sum(1).tolist() == [20, 20, 20]
    assert got.last == got.confusion.trace().item() / 60
    assert got.parameters == 41_546 - 7 * 257
    assert got.seconds > 0


class _Counting(nn.Module):
    """Remembers the sizes of its training batches; dropout, so that the global generator is used in
    training.
    """

    def __init__(self, seen: list[int]) -> None:
        super().__init__()
        self.seen = seen
        self.layers = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(192, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen.append(len(x))
        out: torch.Tensor = self.layers(x)
        return out


def _sizes(protocol: Protocol, images: int, scale: float) -> tuple[list[int], Plan]:
    seen: list[int] = []
    plan = protocol.plan(classes=3, images=images, ipc=images // 3, scale=scale)
    train, test = stripes(images), stripes(6, seed=1)
    fit(lambda: _Counting(seen), train, test, classes=3, protocol=protocol, plan=plan, seed=0)
    return seen, plan


def test_epochs_keep_their_last_partial_batch() -> None:
    sizes, plan = _sizes(get_protocol("hard-small"), 150, 0.002)
    assert plan.epochs == 3
    assert sizes == [64, 64, 22] * 3


def test_draws_with_replacement_fill_the_batch_up_to_the_set() -> None:
    assert _sizes(TINY, 150, 0.02)[0] == [64] * 6
    assert _sizes(TINY, 30, 0.02)[0] == [30] * 6


def test_progress_counts_every_step() -> None:
    calls: list[tuple[int, int]] = []
    run(scale=0.02, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(step, 6) for step in range(1, 7)]


def test_cutmix_trains_on_both_labels() -> None:
    """With lambda drawn small the partner's label must win: train on pure partners and the network
    follows.
    """
    protocol = replace(get_protocol("hard-small"), crop=None, jitter=0.0, flip=False)
    assert run(protocol, scale=0.05).last > 0.9


def test_evaluation_looks_at_every_image_once_and_leaves_the_mode() -> None:
    class Brightness(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([-x.mean((1, 2, 3)), x.mean((1, 2, 3))], 1)

    levels = torch.arange(0, 256).repeat(5)
    images = levels.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    network = Brightness().train()
    got = evaluate_network(network, Labelled(images, (levels > 100).long()), 2, TINY)
    assert network.training
    assert got.tolist() == [[5 * 101, 0], [5 * 27, 5 * 128]]  # said bright from 128 on


def test_bad_tensors_are_named() -> None:
    good = stripes(6)
    with pytest.raises(DataError, match=r"torch.float32 \[6, 3, 8, 8\]; give uint8"):
        Labelled(good.images.float(), good.labels)
    with pytest.raises(DataError, match="6 images and 5 labels"):
        Labelled(good.images, good.labels[:5])
    with pytest.raises(DataError, match="square"):
        Labelled(good.images[:, :, :4], good.labels)
    with pytest.raises(DataError, match="8 px and test images 16 px"):
        fit(nn.Identity, good, stripes(6, size=16), classes=3, protocol=TINY, plan=_plan(), seed=0)
    with pytest.raises(DataError, match=r"labels run from 0 to 2; they must lie in 0 \.\. 1"):
        fit(nn.Identity, good, good, classes=2, protocol=TINY, plan=_plan(), seed=0)


def _plan() -> Plan:
    return TINY.plan(classes=3, images=6, ipc=2)


def test_bf16_and_compilation_reach_every_forward_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a compiler that only watches."""
    monkeypatch.setattr(training, "check_computing", lambda *given, **how: None)
    seen: list[tuple[bool, torch.dtype]] = []

    def watching(network: nn.Module) -> Any:
        def forward(x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = network(x)
            seen.append((network.training, out.dtype))
            return out

        return forward

    monkeypatch.setattr(torch, "compile", watching)
    losses: list[torch.dtype] = []
    loss_of = training.loss_of
    monkeypatch.setattr(training, "loss_of", lambda *of: losses.append(of[1].dtype) or loss_of(*of))
    got = run(scale=0.3, bf16=True, compiled=True)
    assert got.last > 0.9
    assert seen.count((True, torch.bfloat16)) == len(losses) == got.steps == 90
    assert seen.count((False, torch.bfloat16)) == got.evaluations
    assert len(seen) == got.steps + got.evaluations
    assert set(losses) == {torch.float32}
    seen.clear()
    assert same(run(compiled=True), run())
    assert {dtype for _, dtype in seen} == {torch.float32}


def test_what_bf16_and_compilation_leave_to_resume_from_are_plain_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "check_computing", lambda *given, **how: None)
    monkeypatch.setattr(torch, "compile", lambda network: nn.Sequential(network))
    make = partial(build_network, "convnet-2w64", 3, size=8)
    one = training.Training(make, TINY, _plan(), 0, torch.device("cpu"), bf16=True, compiled=True)
    state = one.state()["network"]
    assert state.keys() == make().state_dict().keys()
    assert {value.dtype for value in state.values()} == {torch.float32}
