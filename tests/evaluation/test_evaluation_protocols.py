"""Protocols: the lengths, rates and batches that protocols.md implies, without any training."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, asdict, replace

import pytest
import torch
from torch import nn

from dap.errors import ConfigError
from dap.evaluation import PROTOCOLS, Labelled, Plan, Protocol, get_protocol, network_size
from dap.evaluation.batches import hard_batches
from dap.evaluation.training import Training

EPOCHS = {1: 3000, 2: 2000, 10: 2000, 11: 1500, 50: 1500, 51: 1000, 100: 1000, 200: 1000, 201: 500, 501: 300}
EPOCHS_100_CLASSES = {1: 2000, 10: 1300, 20: 1000, 50: 1000, 100: 600}
FAMILY = ("hard-sgd", "hard-adamw", "hard-small")


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("classes", [2, 10, 99, 101, 1000])
@pytest.mark.parametrize(("ipc", "epochs"), EPOCHS.items())
def test_epochs_follow_images_per_class(name: str, classes: int, ipc: int, epochs: int) -> None:
    plan = PROTOCOLS[name].plan(classes=classes, images=classes * ipc, ipc=ipc)
    batch = min(64 if classes <= 100 else 128, classes * ipc)
    assert plan.epochs == epochs
    assert plan.batch == batch
    assert plan.steps == epochs * math.ceil(classes * ipc / batch)


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize(("ipc", "epochs"), EPOCHS_100_CLASSES.items())
def test_hundred_classes_train_two_thirds_as_long(name: str, ipc: int, epochs: int) -> None:
    assert PROTOCOLS[name].plan(classes=100, images=100 * ipc, ipc=ipc).epochs == epochs


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("classes", [10, 100, 1000])
def test_full_data_train_300_epochs(name: str, classes: int) -> None:
    plan = PROTOCOLS[name].plan(classes=classes, images=12_811, ipc=None)
    assert plan.epochs == 300
    assert plan.steps == 300 * math.ceil(12_811 / plan.batch)


def test_above_hundred_classes_only_sgd_changes_its_rate() -> None:
    def optimiser(name: str, classes: int) -> tuple[float, float]:
        plan = PROTOCOLS[name].plan(classes=classes, images=classes, ipc=1)
        return plan.rate, plan.weight_decay

    assert optimiser("hard-sgd", 100) == (0.01, 5e-4)
    assert optimiser("hard-sgd", 101) == (0.1, 1e-4)
    assert optimiser("hard-adamw", 101) == optimiser("hard-adamw", 10) == (1e-3, 0.01)


def test_multistep_falls_to_a_fifth_at_two_thirds_and_five_sixths() -> None:
    plan = get_protocol("hard-sgd").plan(classes=10, images=100, ipc=10)
    assert plan.steps_per_epoch == 2  # 64 and the last 36
    rates = [plan.rate_at(step) for step in range(plan.steps)]
    falls = [step for step in range(1, plan.steps) if rates[step] != rates[step - 1]]
    assert falls == [2 * 1333, 2 * 1666]
    assert [rates[0], rates[falls[0]], rates[falls[1]]] == pytest.approx([0.01, 0.002, 0.0004])


def test_hard_tiny_is_the_prototypes_recipe() -> None:
    protocol = get_protocol("hard-tiny")
    assert (protocol.optimiser, protocol.momentum, protocol.network) == ("sgd", 0.9, "convnet-2w64")
    assert (protocol.cutmix, protocol.flip, protocol.shift, protocol.crop) == (False, False, 1, None)
    plan = protocol.plan(classes=10, images=10, ipc=1)
    assert (plan.steps, plan.batch, plan.epochs, plan.weight_decay) == (300, 10, None, 5e-4)
    assert protocol.plan(classes=10, images=1437, ipc=None).steps == 1500
    assert protocol.plan(classes=10, images=1437, ipc=None).batch == 64
    assert plan.rate_at(0) == 0.05
    assert plan.rate_at(150) == pytest.approx(0.025)
    assert plan.rate_at(299) < 1e-5


def test_hard_small_is_hard_adamw_at_the_images_own_size() -> None:
    small, large = get_protocol("hard-small"), get_protocol("hard-adamw")
    same = replace(small, name="", summary="", network="", size=224, lighting=0.1)
    assert same == replace(large, name="", summary="", network="")
    assert (small.size, small.lighting, small.network) == (None, 0.0, "convnet-3")


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
@pytest.mark.parametrize(("images", "ipc"), [(10, 1), (100, 10), (1000, 100), (1437, None)])
@pytest.mark.parametrize("scale", [1.0, 0.2, 0.0777, 0.0001])  # 233 epochs: no whole number of looks
def test_evaluations_are_spread_and_end_with_the_last_step(protocol, images, ipc, scale) -> None:  # type: ignore[no-untyped-def]
    plan = protocol.plan(classes=10, images=images, ipc=ipc, scale=scale)
    after = [step for step in range(plan.steps) if plan.evaluates_after(step)]
    assert after[-1] == plan.steps - 1
    assert len(after) == plan.evaluations
    assert plan.evaluate_every % plan.steps_per_epoch == 0  # whole epochs
    length = plan.epochs or plan.steps
    assert plan.evaluate_every == max(1, length // protocol.evaluations) * plan.steps_per_epoch


def test_scaling_changes_the_length_and_the_milestones_with_it() -> None:
    plan = get_protocol("hard-small").plan(classes=10, images=10, ipc=1, scale=0.01)
    assert (plan.epochs, plan.steps) == (30, 30)
    assert plan.rate_at(19) == pytest.approx(1e-3)
    assert plan.rate_at(20) == pytest.approx(2e-4)
    assert get_protocol("hard-tiny").plan(classes=10, images=10, ipc=1, scale=0.2).steps == 60


def test_flip_can_be_set_and_is_the_protocols_otherwise() -> None:
    assert get_protocol("hard-small").flip
    assert not get_protocol("hard-small", flip=False).flip
    assert get_protocol("hard-tiny", flip=True).flip


def test_protocols_are_frozen_printable_and_name_real_networks() -> None:
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert network_size(protocol.network, 224) == 224
        assert json.loads(json.dumps(asdict(protocol)))["optimiser"] in ("sgd", "adamw")
        with pytest.raises(FrozenInstanceError):
            protocol.rate = 1.0  # type: ignore[misc]


def test_an_unknown_protocol_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="unknown protocol 'hard-smal'; did you mean 'hard-small'"):
        get_protocol("hard-smal")


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# size, test crop, shuffle, crop, flip, jitter, lighting, shift, CutMix: all that happens to images, as published
IMAGES = {
    "hard-sgd": (224, 1.0, 0, (0.5, 1.0), True, 0.4, 0.1, 0, True),
    "hard-adamw": (224, 1.0, 0, (0.5, 1.0), True, 0.4, 0.1, 0, True),
    "hard-small": (None, 1.0, 0, (0.5, 1.0), True, 0.4, 0.0, 0, True),
    "soft-rded": (224, 0.875, 2, (0.5, 1.0), True, 0.0, 0.0, 0, True),
    "soft-fkd": (224, 0.875, 0, (0.08, 1.0), True, 0.0, 0.0, 0, True),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_are_treated_as_published(name: str) -> None:
    p = get_protocol(name)
    found = (p.size, p.test_crop, p.shuffle, p.crop, p.flip, p.jitter, p.lighting, p.shift, p.cutmix)
    assert found == IMAGES[name]
    assert p.normalise == IMAGENET
    assert p.temperature == (20 if name.startswith("soft") else 1)
    assert p.labels == {"soft-rded": "online", "soft-fkd": "stored"}.get(name, "hard")


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("hard-sgd", torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False}),
        ("hard-tiny", torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False}),
        ("hard-adamw", torch.optim.AdamW, {"lr": 1e-3, "betas": (0.9, 0.999), "weight_decay": 0.01, "eps": 1e-8}),
        ("hard-small", torch.optim.AdamW, {"lr": 1e-3, "betas": (0.9, 0.999), "weight_decay": 0.01, "eps": 1e-8}),
        ("soft-rded", torch.optim.AdamW, {"lr": 1e-3, "betas": (0.9, 0.999), "weight_decay": 0.01, "eps": 1e-8}),
    ],
)
def test_the_optimiser_is_the_published_one(name: str, kind: type, expected: dict[str, object]) -> None:
    protocol = get_protocol(name)
    training = _training(protocol, protocol.plan(classes=10, images=100, ipc=10))
    first, *others = training.optimiser.param_groups
    assert type(training.optimiser) is kind
    assert {key: first[key] for key in expected} == expected
    assert [group["weight_decay"] for group in others] == ([0.0] if name.startswith("soft") else [])


@pytest.mark.parametrize("name", ["hard-sgd", "hard-adamw", "soft-rded", "hard-tiny"])
def test_every_step_is_taken_at_its_own_rate(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortened to a handful of epochs on a linear network, so that all falls of the rate are seen."""
    protocol = replace(get_protocol(name), size=8)
    plan = protocol.plan(classes=2, images=130, ipc=65, scale={"soft-rded": 0.02, "hard-tiny": 0.05}.get(name, 0.006))
    training, taken = _training(protocol, plan), []
    step = training.optimiser.step

    def watched() -> None:
        taken.append([group["lr"] for group in training.optimiser.param_groups])
        step()

    monkeypatch.setattr(training.optimiser, "step", watched)
    images = torch.zeros(130, 3, 8, 8, dtype=torch.uint8)
    plain = replace(protocol, crop=None, jitter=0.0, shuffle=0, labels="hard", temperature=1.0)
    training.protocol = plain
    done = list(training.steps(Labelled(images, torch.arange(130) % 2), hard_batches))
    assert done == list(range(plan.steps))
    assert [rates[0] for rates in taken] == [plan.rate_at(at) for at in range(plan.steps)]
    assert all(len(set(rates)) == 1 for rates in taken)
    assert len({rates[0] for rates in taken}) >= 3


def _training(protocol: Protocol, plan: Plan) -> Training:
    def make() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 2))

    return Training(make, protocol, plan, 0, torch.device("cpu"))
