"""Published figures: only beside what they can be compared with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dap.config import EvaluationConfig
from dap.data.imagenet import imagenet_wnids, subset_wnids
from dap.evaluation import get_protocol
from dap.evaluation.published import dataset_of, find_published
from dap.evaluation.run import _is_published


def methods(*key: object) -> dict[str, float]:
    return {row.method: row.mean for row in find_published(*key)}  # type: ignore[arg-type]


def test_figures_are_those_of_the_paper_as_fractions_with_their_source() -> None:
    rows = find_published("imagenette", "resnetap-10", 10, "hard-adamw")
    dap = next(row for row in rows if row.method == "DAP")
    assert (dap.mean, dap.sd, dap.source) == (0.678, 0.012, "DAP Table 3")
    assert dap.as_record() == {"method": "DAP", "mean": 0.678, "sd": 0.012, "source": "DAP Table 3"}
    assert methods("imagewoof", "convnet-6", None, "hard-adamw") == {"Full": 0.859}


def test_the_two_hard_label_families_never_mix() -> None:
    adamw, sgd = (methods("imagenette", "resnetap-10", 10, family) for family in ("hard-adamw", "hard-sgd"))
    assert sgd == {"MGD3": 0.664}
    assert "MGD3" not in adamw
    assert {"Random", "DiT", "Minimax", "IGD", "DAP", "Full"} <= set(adamw)
    at_hundred = [methods("imagenette", "resnetap-10", 100, f) for f in ("hard-adamw", "hard-sgd")]
    assert not any("MGD3" in found for found in at_hundred)  # its family is unknown there


@pytest.mark.parametrize(
    "key",
    [
        ("imagenette", "resnetap-10", 10, "hard-small"),
        ("imagenette", "resnetap-10", 20, "hard-adamw"),
        ("imagenette", "convnet-3", 10, "hard-adamw"),
        ("imagenet-100", "resnetap-10", 10, "hard-adamw"),
        (None, "resnetap-10", 10, "hard-adamw"),
        ("imagenet-1k", "resnet-18", 10, "soft-rded"),  # with instance norm: another network
    ],
)
def test_nothing_stands_beside_another_data_set_network_size_or_family(key: tuple[object, ...]) -> None:
    assert methods(*key) == {}


def test_soft_labels_of_imagenet_are_split_by_protocol() -> None:
    rded = methods("imagenet-1k", "torchvision:resnet18", 10, "soft-rded")
    assert (rded["DAP"], rded["RDED"]) == (0.491, 0.42)
    assert "VLCP" not in rded  # 500 epochs
    assert not {name for name in rded if "SD" in name}
    assert set(methods("imagenet-1k", "torchvision:resnet18", 50, "soft-fkd")) == {"SRe2L", "D4M"}
    rows = find_published("imagenet-1k", "torchvision:resnet18", 10, "soft-rded")
    assert {row.source for row in rows if row.method == "DAP"} == {
        "ImageNet-1K tables with a ResNet-18, protocol inferred from its baselines"
    }


def test_a_data_set_is_known_by_its_wnids_in_any_order() -> None:
    wnids = subset_wnids("imagenette")
    assert dataset_of(wnids[::-1]) == "imagenette"
    assert dataset_of(wnids[:-1]) is None
    assert dataset_of(("cat", "dog")) is None
    assert dataset_of(imagenet_wnids()) == "imagenet-1k"


def test_only_a_published_protocol_to_the_letter_on_test_data_is_comparable() -> None:
    protocol, config = get_protocol("hard-adamw"), EvaluationConfig(protocol="hard-adamw")
    assert _is_published(protocol, config)
    assert _is_published(replace(protocol, evaluations=10), config)  # the last accuracy is the same
    assert not _is_published(replace(protocol, flip=False), config)
    assert not _is_published(replace(protocol, name="mine"), config)
    assert not _is_published(protocol, replace(config, epochs_scale=0.5))
    assert not _is_published(protocol, replace(config, val_fraction=0.1))
