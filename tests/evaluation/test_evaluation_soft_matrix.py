"""Soft labels in the matrix: whose labels, which cells, what is refused first, and what the scores need of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_sets import NAMES, distilled, folder
from soft_sets import Seer, teacher

from dap.config import EvaluationConfig
from dap.data import open_dataset
from dap.errors import ConfigError, DataError, StoreError
from dap.evaluation import evaluate, get_protocol, matrix, soft
from dap.evaluation import stored as stored_module
from dap.evaluation.matrix import open_ground, with_hard_labels, without_augmentation
from dap.evaluation.ranking import needed_protocols
from dap.evaluation.scores import augmentation_robust_score, label_robust_score
from dap.evaluation.sets import load, load_test, open_candidate
from dap.evaluation.teachers.training import train_teacher

OWN = """
base = "soft-rded"
network = "convnet-2w64"
labels = "{labels}"
full_epochs = 2
size = 8
temperature = 2
crop = false
shuffle = {shuffle}
rate = 0.01
rates = {{ "convnet-3" = 0.002 }}
test_crop = 0.8
evaluations = 1
"""


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Labels and seed of every training that really runs."""
    done: list[tuple[str, int]] = []
    fit = matrix.fit

    def counted(*args: Any, **options: Any) -> Any:
        done.append((options["protocol"].labels, options["seed"]))
        return fit(*args, **options)

    monkeypatch.setattr(matrix, "fit", counted)
    return done


@pytest.fixture
def seer(monkeypatch: pytest.MonkeyPatch) -> Seer:
    """The teacher of every call, whatever is named."""
    network = Seer()
    monkeypatch.setattr(soft, "open_teacher", lambda *given, **how: teacher(network))
    return network


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., EvaluationConfig]:
    def config(labels: str = "online", **more: Any) -> EvaluationConfig:
        path = tmp_path / f"{labels}.toml"
        path.write_text(OWN.format(labels=labels, shuffle=2 if labels == "online" else 0))
        return EvaluationConfig(protocol=str(path), **{"repeats": 2, "teacher": "seer", **more})

    return config


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return folder(tmp_path / "plain", dict.fromkeys(NAMES, 2))


def run(*sets: Any, test: Any, config: EvaluationConfig, **options: Any) -> dict[str, Any]:
    return evaluate(sets, test, config=config, device="cpu", **options)


def last(result: dict[str, Any]) -> list[Any]:
    return [(row["set"], row["network"], row["last"], row["confusion"]) for row in result["results"]]


def test_cells_belong_to_a_teachers_weights_and_not_to_its_path(
    tmp_path: Path, real: Path, held_out: Path, plain: Path, own: Any, trained: list[Any]
) -> None:
    def teach(seed: int) -> Path:
        out = tmp_path / "T"
        shutil.rmtree(out, ignore_errors=True)
        hard, data = get_protocol("hard-tiny"), open_dataset(real)
        train_teacher(data, out, network="convnet-2w64", protocol=hard, seed=seed, scale=0.3, device="cpu")
        return out

    sets = distilled(tmp_path / "d", real), plain
    config = own(teacher=str(teach(0)))
    path = Path(config.protocol)
    path.write_text(path.read_text().replace("test_crop = 0.8", "test_crop = 1"))
    first = run(*sets, test=held_out, config=config)
    assert len(trained) == 4
    moved = shutil.copytree(tmp_path / "T", tmp_path / "elsewhere")
    again = run(*sets, test=held_out, config=replace(config, teacher=str(moved)))
    assert (len(trained), last(again)) == (4, last(first))
    teach(1)
    other = run(*sets, test=held_out, config=config)
    assert len(trained) == 8
    assert other["teacher"]["digest"] != first["teacher"]["digest"]
    assert other["files"] != first["files"], "the result with the earlier teacher is still there"
    assert all(Path(path).exists() for path in first["files"])


def test_hard_labels_know_no_teacher(plain: Path, held_out: Path, own: Any, trained: list[Any], seer: Seer) -> None:
    """The runs with hard labels that the scores need are those of the same protocol written with hard labels."""
    protocol = with_hard_labels(get_protocol(own().protocol))
    assert (protocol.labels, protocol.temperature) == ("hard", 1)
    assert needed_protocols(_opened(plain, held_out), get_protocol("hard-small")) == [
        get_protocol("hard-small"),
        without_augmentation(get_protocol("hard-small")),
    ]
    run(plain, test=held_out, config=own(), scores=True, real=held_out)
    path = Path(own().protocol)
    path.write_text(path.read_text().replace('"online"', '"hard"').replace("temperature = 2", "temperature = 1"))
    trained.clear()
    run(plain, test=held_out, config=EvaluationConfig(protocol=str(path), repeats=2))
    assert trained == []


def _opened(given: Path, test: Path) -> Any:
    return open_candidate(given, open_dataset(test), get_protocol("hard-tiny"))


@pytest.mark.parametrize("labels", ["online", "stored"])
def test_scores_under_soft_labels_take_hard_ones_where_the_formula_does(
    labels: str, plain: Path, real: Path, held_out: Path, own: Any, trained: list[Any], seer: Seer
) -> None:
    result = run(plain, test=held_out, config=own(labels), scores=True, real=real)
    mine, random = result["results"]
    hard = {row["set"]: row for row in result["hard_labels"]}
    bare = {row["set"]: row for row in result["without_augmentation"]}
    assert [random["set"], *hard, *bare] == ["random", str(plain), "full", str(plain), "random"]
    assert sorted(trained) == sorted(
        [(labels, seed) for seed in (0, 1) for _ in range(4)] + [("hard", 0), ("hard", 1)] * 2
    )
    (scores,) = result["scores"]
    assert (scores["missing"], scores["remedy"]) == ([], None)
    for repeat in (0, 1):
        syn, rand = (row["last"]["values"][repeat] for row in (mine, random))
        syn_hard, whole = (hard[name]["last"]["values"][repeat] for name in (str(plain), "full"))
        twins = (bare[name]["last"]["values"][repeat] for name in (str(plain), "random"))
        assert scores["lrs"]["values"][repeat] == pytest.approx(label_robust_score(syn, rand, whole, syn_hard))
        assert scores["ars"]["values"][repeat] == pytest.approx(augmentation_robust_score(syn, rand, *twins))
    without = run(plain, test=held_out, config=own(labels), baselines=["random"], real=real)["scores"][0]
    assert without["missing"] == ["accuracies under hard labels", "runs without augmentation"]
    assert without["lrs"] is without["ars"] is None


def test_without_augmentation_soft_labels_stay_and_patches_do_too() -> None:
    for name in ("soft-rded", "soft-fkd"):
        protocol = get_protocol(name)
        bare = without_augmentation(protocol)
        assert (bare.shuffle, bare.crop, bare.flip, bare.cutmix) == (0, None, False, False)
        assert replace(protocol, shuffle=0, crop=None, flip=False, cutmix=False) == bare


def test_twins_with_stored_labels_have_labels_of_their_own(plain: Path, held_out: Path, own: Any, seer: Seer) -> None:
    result = run(plain, test=held_out, config=own("stored"), scores=True, real=held_out)
    keys = list((Path(result["cache"]) / "labels").iterdir())
    assert len(keys) == 2 * (1 + 2)  # the set's and two random draws', with augmentation and without
    assert seer.asked == 18 + 6 * 2 * 6  # test images; keys, epochs, images


def test_each_network_trains_at_the_rate_of_its_family(plain: Path, held_out: Path, own: Any, seer: Seer) -> None:
    result = run(plain, test=held_out, config=own(networks=("convnet-2w64", "convnet-3"), repeats=1))
    assert [(row["network"], row["optimiser"]["rate"]) for row in result["results"]] == [
        ("convnet-2w64", 0.01),
        ("convnet-3", 0.002),
    ]


def test_a_network_is_one_row_however_it_is_spelt(plain: Path, held_out: Path, own: Any, seer: Seer) -> None:
    result = run(plain, test=held_out, config=own(networks=("ConvNet-2w64", "convnet2w64"), repeats=1))
    assert [row["network"] for row in result["results"]] == ["convnet-2w64"]
    assert result["settings"]["evaluation"]["networks"] == ["convnet-2w64"]


def test_students_and_teacher_see_the_same_part_of_test_images(
    plain: Path, held_out: Path, own: Any, seer: Seer
) -> None:
    protocol, test = get_protocol(own().protocol), open_dataset(held_out)
    one = open_candidate(plain, test, protocol)
    ground = open_ground(test, [one], protocol, own(), "cpu", None)
    images = ground.held_out(8, "L").images
    assert ground.held_out(8, "L").images is images
    assert torch.equal(images, load_test(test, protocol, size=8, mode="L").images)
    assert not torch.equal(images, load(test, range(3), size=8, mode="L").images)
    mean, sd = (torch.tensor(values).view(1, 3, 1, 1) for values in protocol.normalise)
    assert torch.allclose(torch.cat(seer.seen), (images.float() / 255 - mean) / sd, atol=1e-6)


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        ({"networks": ("convnet-2w64", "timm:no_such_net")}, ConfigError, "no_such_net"),
        ({"dtype": "bf16"}, ConfigError, "--dtype bf16 needs a CUDA GPU, this is cpu; leave it out"),
        ({"teacher": None}, ConfigError, "needs a teacher"),
        ({"teacher": "nowhere"}, DataError, "there is no teacher 'nowhere'"),
        ({"protocol": "hard-tiny"}, ConfigError, "has hard labels"),
        ({"protocol": "hard-tiny", "teacher": None, "compile": True}, ConfigError, "--compile needs a CUDA GPU"),
    ],
)
def test_all_that_can_be_refused_is_refused_before_any_training(
    changed: dict[str, Any],
    error: type[Exception],
    says: str,
    plain: Path,
    held_out: Path,
    own: Any,
    trained: list[Any],
) -> None:
    with pytest.raises(error, match=says):
        run(plain, test=held_out, config=replace(own(), **changed))
    assert trained == []


def test_a_disk_too_small_for_labels_is_refused_first_and_only_for_what_is_missing(
    plain: Path, held_out: Path, own: Any, trained: list[Any], seer: Seer, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"test": held_out, "config": own("stored"), "baselines": ["random"], "real": held_out}
    with monkeypatch.context() as patch:
        patch.setattr(stored_module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1e3}))
        with pytest.raises(StoreError, match="stored soft labels take"):
            run(plain, **options)
        assert trained == []
    first = run(plain, **options)
    monkeypatch.setattr(stored_module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 0}))
    assert last(run(plain, **options)) == last(first)


def test_stored_labels_go_beside_distilled_sets_and_into_the_cache_for_others(
    tmp_path: Path, real: Path, held_out: Path, plain: Path, own: Any, seer: Seer, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, before = distilled(tmp_path / "d", real), sorted(plain.rglob("*"))
    result = run(out, plain, test=held_out, config=own("stored"), cache=tmp_path / "mine")
    assert result["cache"] == str(tmp_path / "mine")
    assert len(list((out / "labels").iterdir())) == len(list((tmp_path / "mine" / "labels").iterdir())) == 1
    assert sorted(plain.rglob("*")) == before
    run(plain, test=held_out, config=own("stored"))
    assert len(list(matrix_cache().iterdir())) == 3  # two cells and labels/
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DAP_CACHE", str(tmp_path / "file" / "cells"))
    with pytest.raises(StoreError, match="add --cache DIR"):
        run(plain, test=held_out, config=own("stored"))
    assert len(run(plain, test=held_out, config=own("online"))["results"]) == 1


def matrix_cache() -> Path:
    from dap.evaluation.cells import default_cache

    found = default_cache()
    assert found is not None
    return found


def test_interrupted_between_networks_and_baselines_it_goes_on_with_the_same_labels(
    tmp_path: Path, real: Path, held_out: Path, own: Any, trained: list[Any], seer: Seer
) -> None:
    networks = ("convnet-2w64", "convnet-3")
    options = {"test": held_out, "config": own("stored", networks=networks), "baselines": ["random", "kmeans"]}
    whole = run(distilled(tmp_path / "whole", real), cache=tmp_path / "c1", **options)
    asked, seer.asked, calls = seer.asked, 0, []

    def stop(done: int, total: int, what: str) -> None:
        calls.append(done)
        if done == 9:  # 2 steps a training: in the middle of the fifth, the first of a baseline
            raise KeyboardInterrupt

    cut = distilled(tmp_path / "cut", real)
    with pytest.raises(KeyboardInterrupt):
        run(cut, cache=tmp_path / "c2", progress=stop, **options)
    trained.clear()
    result = run(cut, cache=tmp_path / "c2", **options)
    assert (result["kept"], result["measured"], len(trained)) == (4, 8, 8)
    assert seer.asked == asked + 18, "no label twice; the test images once more"
    assert [row[1:] for row in last(result)] == [row[1:] for row in last(whole)]


def test_what_happened_in_a_training_is_still_said_when_it_is_kept(
    tmp_path: Path, held_out: Path, plain: Path, own: Any, trained: list[Any], seer: Seer
) -> None:
    run(plain, test=held_out, config=own("stored", repeats=1))
    (epoch, *_) = sorted((matrix_cache() / "labels").rglob("epoch-*"))
    epoch.write_bytes(epoch.read_bytes()[:-1])
    note = "stored labels of epoch 0 were damaged or of something else: computed again"
    for kept in (1, 2):  # the second repeat finds the damage
        result = run(plain, test=held_out, config=own("stored", repeats=2))
        assert (result["kept"], result["results"][0]["notes"]) == (kept, [note])


def test_a_teacher_may_have_seen_the_validation_part(
    tmp_path: Path, real: Path, own: Any, plain: Path, seer: Seer
) -> None:
    result = run(plain, test=None, real=real, config=own(val_fraction=0.25), baselines=["random"])
    told = "judged on a part of the training data, which the teacher may have been trained on"
    assert all(told in row["notes"] for row in result["results"])


def test_published_figures_stand_beside_their_own_teacher_alone() -> None:
    from dap.evaluation.run import _is_published

    config = EvaluationConfig(protocol="soft-rded", teacher="torchvision:resnet18")
    assert _is_published(get_protocol("soft-rded"), config)
    assert not _is_published(get_protocol("soft-rded"), replace(config, teacher="T"))
    assert _is_published(get_protocol("hard-sgd"), EvaluationConfig(protocol="hard-sgd"))
