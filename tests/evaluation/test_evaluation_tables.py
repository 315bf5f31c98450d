"""The port is right: steps, batches and rates of every protocol, against a transcription that shares no code."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from dap.evaluation import PROTOCOLS

CASES = [(ipc, classes) for ipc in (1, 10, 50, 100) for classes in (10, 100, 1000)]
HARD_EPOCHS = {  # (IPC, classes): the published code's lengths
    (1, 10): 3000, (10, 10): 2000, (50, 10): 1500, (100, 10): 1000,
    (1, 100): 2000, (10, 100): 1300, (50, 100): 1000, (100, 100): 600,
    (1, 1000): 3000, (10, 1000): 2000, (50, 1000): 1500, (100, 1000): 1000,
}  # fmt: skip
RDED_BATCH = {  # 10, 50 and 100 for ten classes, twice that for 100 and 1000; never more than there are images
    (1, 10): 10, (10, 10): 50, (50, 10): 100, (100, 10): 100,
    (1, 100): 20, (10, 100): 100, (50, 100): 200, (100, 100): 200,
    (1, 1000): 20, (10, 1000): 100, (50, 1000): 200, (100, 1000): 200,
}  # fmt: skip


def multistep(rate: float) -> Callable[[int, int], float]:
    return lambda epoch, epochs: rate * (1 if epoch < epochs * 2 // 3 else 0.2 if epoch < epochs * 5 // 6 else 0.04)


def expected(name: str, ipc: int, classes: int) -> tuple[int, int, Callable[[int, int], float]]:
    """(epochs, batch, rate at an epoch)."""
    many = classes > 100
    if name in ("hard-sgd", "hard-adamw", "hard-small"):
        rate = (0.1 if many else 0.01) if name == "hard-sgd" else 1e-3
        return HARD_EPOCHS[ipc, classes], min(128 if many else 64, ipc * classes), multistep(rate)
    if name == "soft-rded":
        return 300, RDED_BATCH[ipc, classes], lambda e, n: 1e-3 * 0.5 * (1 + math.cos(math.pi * e / n / 2))
    return 300, min(1024, ipc * classes), lambda e, n: 1e-3 * 0.5 * (1 + math.cos(math.pi * e / n))


@pytest.mark.parametrize("name", ["hard-sgd", "hard-adamw", "hard-small", "soft-rded", "soft-fkd"])
@pytest.mark.parametrize(("ipc", "classes"), CASES)
def test_steps_batches_and_rates_are_the_published_ones(name: str, ipc: int, classes: int) -> None:
    plan = PROTOCOLS[name].plan(classes=classes, images=ipc * classes, ipc=ipc)
    epochs, batch, rate = expected(name, ipc, classes)
    per_epoch = math.ceil(ipc * classes / batch)
    assert (plan.epochs, plan.batch, plan.steps_per_epoch, plan.steps) == (epochs, batch, per_epoch, epochs * per_epoch)
    # every step of the first epoch, and the first and last step of all others: between them nothing changes
    steps = {
        *range(per_epoch),
        *(e * per_epoch for e in range(epochs)),
        *((e + 1) * per_epoch - 1 for e in range(epochs)),
    }
    assert all(plan.rate_at(s) == pytest.approx(rate(s // per_epoch, epochs), rel=1e-12) for s in steps)


def test_a_small_set_is_followed_step_by_step() -> None:
    plan = PROTOCOLS["soft-rded"].plan(classes=10, images=100, ipc=10)
    rates = [plan.rate_at(step) for step in range(plan.steps)]
    assert len(rates) == 600
    assert rates[0] == rates[1] == 1e-3
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(5e-4, rel=0.01)  # a half cosine ends at half of the base rate
    full = PROTOCOLS["soft-fkd"].plan(classes=10, images=100, ipc=10)
    assert full.rate_at(full.steps - 1) < 1e-7


@pytest.mark.parametrize(
    ("network", "rate"),
    [
        ("torchvision:resnet18", 1e-3),
        ("resnet-18", 1e-3),
        ("resnet-101", 1e-3),
        ("convnet-4", 1e-3),
        ("efficientnet-b0", 2e-3),
        ("torchvision:efficientnet_b0", 2e-3),
        ("mobilenet-v2", 2.5e-3),
        ("swin-v2-t", 1e-4),
        ("swin-t", 1e-4),
        ("timm:vit_tiny_patch16_224", 1e-4),
    ],
)
def test_the_base_rate_of_soft_rded_follows_the_family(network: str, rate: float) -> None:
    plan = PROTOCOLS["soft-rded"].plan(classes=10, images=100, ipc=10, network=network)
    assert plan.rate_at(0) == rate
    assert PROTOCOLS["hard-adamw"].plan(classes=10, images=100, ipc=10, network=network).rate_at(0) == 1e-3


def test_what_the_published_batches_leave_open_takes_the_next_smaller_row() -> None:
    batches = {ipc: PROTOCOLS["soft-rded"].plan(classes=10, images=10 * ipc, ipc=ipc).batch for ipc in (2, 9, 20, 49)}
    assert batches == {2: 10, 9: 10, 20: 50, 49: 50}
    assert PROTOCOLS["soft-rded"].plan(classes=10, images=9469, ipc=None).batch == 100
    assert PROTOCOLS["soft-rded"].plan(classes=2, images=2, ipc=1).batch == 2  # at most the set
