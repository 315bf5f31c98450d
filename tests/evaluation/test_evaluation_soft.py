"""Soft labels: the published loss, one-hot labels as hard ones, weight decay, batches of one, stored = used."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from soft_sets import Seer, stripes, teacher
from torch import nn

from dap.data import open_dataset
from dap.errors import StoreError
from dap.evaluation import Fit, Labelled, Protocol, build_network, fit, get_protocol
from dap.evaluation import stored as stored_module
from dap.evaluation.augment import shuffle_patches
from dap.evaluation.batches import Batch, hard_batches, loss_of, rows_of
from dap.evaluation.sets import load_test
from dap.evaluation.soft import Online
from dap.evaluation.stored import check_disk, stored_labels
from dap.evaluation.training import Training, seeded

HARD = replace(get_protocol("hard-small"), jitter=0.0, crop=(0.9, 1.0))
ONLINE = replace(HARD, name="online", labels="online", temperature=1.0)
STORED = replace(ONLINE, name="stored", labels="stored")


def run(protocol: Protocol, batches: Any, network: str = "convnet-2w64", images: int = 24, scale: float = 0.01) -> Fit:
    plan = protocol.plan(classes=3, images=images, ipc=8, scale=scale)
    make = partial(build_network, network, 3, size=8)
    sets = stripes(images), stripes(60, seed=1)
    return fit(make, *sets, classes=3, protocol=protocol, plan=plan, seed=0, batches=batches)


def one_hot_batches(*given: Any, **more: Any) -> Iterator[Batch]:
    """Hard batches with the logits that say the same: the mixture of both labels, and nothing of the third."""
    for batch in hard_batches(*given, **more):
        wanted = torch.zeros(len(batch.labels), 3)
        wanted[range(len(wanted)), batch.labels] += batch.ratio
        if batch.partner is not None:
            wanted[range(len(wanted)), batch.labels[batch.partner]] += 1 - batch.ratio
        yield replace(batch, logits=wanted.log().clamp(min=-1e4))


def weights_after(protocol: Protocol, batches: Any, steps: int = 5) -> torch.Tensor:
    train, plan = stripes(24), protocol.plan(classes=3, images=24, ipc=8)
    with seeded(0, torch.device("cpu")):
        training = Training(partial(build_network, "convnet-2w64", 3, size=8), protocol, plan, 0, torch.device("cpu"))
        for step in training.steps(train, batches):
            if step + 1 == steps:
                break
    return torch.cat([p.detach().flatten() for p in training.network.parameters()])


@pytest.mark.parametrize("cutmix", [False, True])
def test_soft_labels_that_are_one_hot_train_like_hard_labels(cutmix: bool) -> None:
    # plain SGD: AdamW's first steps are signs of gradients, which rounding turns where they are nearly zero
    hard, soft = (replace(p, cutmix=cutmix, optimiser="sgd", rate=0.01) for p in (HARD, ONLINE))
    ours, theirs = weights_after(hard, hard_batches), weights_after(soft, one_hot_batches)
    assert torch.allclose(ours, theirs, atol=2e-6)
    assert not torch.allclose(ours, weights_after(hard, hard_batches, steps=4), atol=2e-5)


def test_the_loss_is_the_batch_mean_of_the_divergence_at_the_temperature() -> None:
    ours, theirs = torch.randn(4, 3), torch.randn(4, 3)
    batch = Batch(torch.zeros(4, 3, 8, 8), torch.zeros(4, dtype=torch.long), logits=theirs)
    p, q = (theirs / 20).softmax(1), (ours / 20).softmax(1)
    by_hand = sum(p[i, k] * math.log(p[i, k] / q[i, k]) for i in range(4) for k in range(3)) / 4
    assert loss_of(batch, ours, get_protocol("soft-rded")).item() == pytest.approx(float(by_hand), rel=1e-4)


def test_on_line_the_teacher_is_asked_about_every_mixed_image() -> None:
    seer = Seer()
    got = run(ONLINE, Online(teacher(seer)), scale=0.05)
    assert seer.asked == got.steps * 24
    assert got.last > 0.9
    mixed = list(hard_batches(stripes(24), ONLINE, _plan(ONLINE), torch.Generator().manual_seed(0), pairs=False))
    assert torch.equal(seer.seen[0], mixed[0].images)


def test_a_student_follows_its_teacher_not_the_labels() -> None:
    class Contrary(Seer):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).roll(1, 1)

    assert run(ONLINE, Online(teacher(Contrary())), scale=0.05).last < 0.1


def test_decay_pulls_at_weights_of_more_than_one_dimension_alone() -> None:
    protocol = get_protocol("soft-rded")
    plan = protocol.plan(classes=3, images=24, ipc=8)
    training = Training(lambda: build_network("swin-t", 3, size=56), protocol, plan, 0, torch.device("cpu"))
    decaying, others = (group["params"] for group in training.optimiser.param_groups)
    assert [group["weight_decay"] for group in training.optimiser.param_groups] == [0.01, 0.0]
    assert min(p.ndim for p in decaying) == 2
    names = {id(p): name for name, p in training.network.named_parameters()}
    assert all(names[id(p)].endswith("weight") for p in decaying)
    assert any(names[id(p)].endswith("relative_position_bias_table") for p in others)
    hard = Training(lambda: build_network("convnet-3", 3, size=8), HARD, plan, 0, torch.device("cpu"))
    assert len(hard.optimiser.param_groups) == 1


class _Normed(nn.Sequential):
    """Batch norm of one value a channel and image: a batch of one has no variance."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))


def test_a_last_batch_of_one_image_gets_company_where_batch_norm_needs_it() -> None:
    protocol = replace(HARD, batch=4)
    plan = protocol.plan(classes=3, images=9, ipc=3, scale=0.001)
    sets = stripes(9), stripes(6, seed=1)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        _Normed()(torch.zeros(1, 3, 8, 8))
    got = fit(_Normed, *sets, classes=3, protocol=protocol, plan=plan, seed=0)
    assert got.notes == ("a batch of one image gets a second one, drawn at random: batch norm needs two",)
    assert got.steps == 3 * plan.epochs
    plain = fit(
        lambda: build_network("convnet-2w64", 3, size=8), *sets, classes=3, protocol=protocol, plan=plan, seed=0
    )
    assert plain.notes == ()
    sizes = [len(rows) for rows in rows_of(plan, torch.Generator(), pairs=True)]
    assert sizes[:3] == [4, 4, 2]
    assert all(len(set(rows.tolist())) == len(rows) for rows in rows_of(plan, torch.Generator(), pairs=True))
    assert [len(rows) for rows in rows_of(plan, torch.Generator(), pairs=False)][:3] == [4, 4, 1]


@pytest.mark.parametrize("network", ["timm:test_resnet", "timm:test_vit"])
def test_borrowed_networks_train_and_repeat(network: str) -> None:
    first, again = (run(ONLINE, Online(teacher(Seer())), network, scale=0.001) for _ in range(2))
    assert first.confusion.tolist() == again.confusion.tolist()


def _plan(protocol: Protocol) -> Any:
    return protocol.plan(classes=3, images=24, ipc=8, scale=0.01)


def _labels(folder: Path, seer: nn.Module, train: Labelled | None = None, digest: str = "seer", **changes: Any) -> Any:
    protocol = replace(STORED, **changes)
    plan = protocol.plan(classes=3, images=24, ipc=8, scale=0.002)
    return stored_labels(folder, train or stripes(24), teacher(seer, digest), protocol, plan, 3), protocol, plan


def _batches(labels: Any, protocol: Protocol, plan: Any, train: Labelled | None = None) -> list[Batch]:
    return list(labels(train or stripes(24), protocol, plan, torch.Generator(), pairs=False))


def same(a: list[Batch], b: list[Batch]) -> bool:
    return all(
        torch.equal(x.images, y.images) and torch.equal(x.logits, y.logits) and x.ratio == y.ratio  # type: ignore[arg-type]
        for x, y in zip(a, b, strict=True)
    )


def test_stored_labels_are_computed_once_and_used_as_stored(tmp_path: Path) -> None:
    seer = Seer(sharpness=3.3)
    first = _batches(*_labels(tmp_path, seer, batch=10))
    assert [len(batch.images) for batch in first[:3]] == [10, 10, 4]
    asked = seer.asked
    assert asked == 24 * 4
    again = _batches(*_labels(tmp_path, seer, batch=10))
    assert seer.asked == asked
    assert same(first, again)
    for batch in first:  # the label belongs to exactly this image
        assert batch.logits is not None
        assert batch.logits.dtype == torch.float16
        assert torch.equal(batch.logits, seer(batch.images).half())
    assert len({batch.ratio for batch in first}) > 3
    files = sorted(p.name for p in next(tmp_path.iterdir()).iterdir())
    assert files == [*(f"epoch-{e:04d}.safetensors" for e in range(4)), "labels.json"]


def test_a_training_uses_exactly_the_stored_crops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were crops drawn anew, another drawing would change the batches; it must not."""
    labels, protocol, plan = _labels(tmp_path, Seer())
    first = _batches(labels, protocol, plan)

    def never(*given: Any) -> Any:
        raise AssertionError("drawn anew")

    for name in ("crop_boxes", "flips", "cutmix_box", "rows_of"):
        monkeypatch.setattr(stored_module, name, never)
    assert same(first, _batches(labels, protocol, plan))


def test_one_hot_labels_stored_train_as_hard_as_on_line(tmp_path: Path) -> None:
    labels, protocol, plan = _labels(tmp_path, Seer(), cutmix=False, crop=None)
    for batch in _batches(labels, protocol, plan):
        assert batch.logits is not None
        assert torch.equal(batch.logits.float().softmax(1).argmax(1), batch.labels)
    plan = protocol.plan(classes=3, images=24, ipc=8, scale=0.05)
    make = partial(build_network, "convnet-2w64", 3, size=8)
    long = stored_labels(tmp_path, stripes(24), teacher(Seer()), protocol, plan, 3)
    got = fit(make, stripes(24), stripes(60, seed=1), classes=3, protocol=protocol, plan=plan, seed=0, batches=long)
    assert got.last > 0.9


def test_a_longer_run_keeps_what_a_shorter_one_stored(tmp_path: Path) -> None:
    seer = Seer()
    labels, protocol, plan = _labels(tmp_path, seer)
    short = _batches(labels, protocol, plan)
    longer = protocol.plan(classes=3, images=24, ipc=8, scale=0.004)
    before = seer.asked
    long = _batches(stored_labels(tmp_path, stripes(24), teacher(seer), protocol, longer, 3), protocol, longer)
    assert same(short, long[: len(short)])
    assert seer.asked - before == 24 * (longer.epochs - plan.epochs)


def test_interrupted_storing_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole = _batches(*_labels(tmp_path / "whole", Seer()))
    seer, given = Seer(), _labels(tmp_path / "a", Seer())
    for _ in zip(range(2), given[0](stripes(24), *given[1:], torch.Generator(), pairs=False), strict=False):
        pass
    folder = given[0].path
    (folder / f".dap-{'0' * 32}.tmp").write_bytes(b"half a file")
    assert same(whole, _batches(*_labels(tmp_path / "a", seer)))
    assert seer.asked == 24 * 2  # of four epochs
    assert not list(folder.glob(".dap-*"))


@pytest.mark.parametrize("damage", ["flip a bit", "cut it off", "of another epoch", "no file of this kind"])
def test_damaged_or_stale_labels_are_found_and_computed_again(tmp_path: Path, damage: str) -> None:
    whole = _batches(*_labels(tmp_path, Seer()))
    path = next(tmp_path.glob("*/epoch-0001.safetensors"))
    data = bytearray(path.read_bytes())
    if damage == "flip a bit":
        data[-3] ^= 1
    elif damage == "cut it off":
        data = data[: len(data) // 2]
    elif damage == "of another epoch":
        data = bytearray((path.parent / "epoch-0002.safetensors").read_bytes())
    else:
        data = bytearray(b"hello")
    path.write_bytes(data)
    labels, protocol, plan = _labels(tmp_path, Seer())
    assert same(whole, _batches(labels, protocol, plan))
    assert labels.notes == ["stored labels of epoch 1 were damaged or of something else: computed again"]
    assert same(whole, _batches(*_labels(tmp_path, Seer())))


def test_other_sets_teachers_and_protocols_have_labels_of_their_own(tmp_path: Path) -> None:
    given = [
        _labels(tmp_path, Seer())[0],
        _labels(tmp_path, Seer(), stripes(24, seed=5))[0],
        _labels(tmp_path, Seer(), digest="another")[0],
        _labels(tmp_path, Seer(), crop=(0.5, 1.0))[0],
        _labels(tmp_path, Seer(), batch=8)[0],
    ]
    assert len({labels.path for labels in given}) == len(given)
    assert _labels(tmp_path, Seer())[0].path == given[0].path
    assert _labels(tmp_path, Seer(), rate=0.5, evaluations=1, name="renamed")[0].path == given[0].path


def test_a_disk_that_is_too_small_is_found_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = get_protocol("soft-fkd").plan(classes=1000, images=10_000, ipc=10)
    big = stored_labels(tmp_path, stripes(3), teacher(Seer()), get_protocol("soft-fkd"), plan, 1000)
    assert big.missing_bytes() == pytest.approx(6e9, rel=0.02)
    usage = type("Usage", (), {"free": 2e9})
    monkeypatch.setattr(stored_module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StoreError, match=r"take 6.05 GB, the disk of .* has 2 GB free"):
        check_disk([big])
    labels, protocol, plan = _labels(tmp_path, Seer())
    before = labels.missing_bytes()
    _batches(labels, protocol, plan)
    assert (before > 0, labels.missing_bytes()) == (True, 0)
    check_disk([labels])
    assert not big.path.exists()


def test_values_beyond_half_precision_stay_finite(tmp_path: Path) -> None:
    for batch in _batches(*_labels(tmp_path, Seer(sharpness=1e8))):
        assert batch.logits is not None
        assert batch.logits.isfinite().all()


def test_shuffled_patches_are_columns_then_rows_of_each_image() -> None:
    """Every order of halves is alike likely, image by image; no pixel is lost; an odd side leaves the rest last."""
    count, side = 4000, 5
    image = torch.arange(side * side).view(1, 1, side, side).float().expand(count, 1, side, side)
    out = shuffle_patches(image, 2, torch.Generator().manual_seed(0))
    assert torch.equal(out.flatten(1).sort(1).values, image.flatten(1))
    grid = torch.arange(side)
    orders = (grid, torch.cat([grid[2:], grid[:2]]))  # widths 2 and 3, as they stand or exchanged
    expected = [image[0, 0][rows][:, columns] for rows in orders for columns in orders]
    shares = [(out[:, 0] == one).all(2).all(1).float().mean().item() for one in expected]
    assert sum(shares) == pytest.approx(1)
    assert shares == pytest.approx([0.25] * 4, abs=0.03)
    thirds = shuffle_patches(torch.rand(50, 3, 6, 6), 3, torch.Generator().manual_seed(0))
    assert len({tuple(one.flatten().tolist()) for one in thirds}) == 50


def test_test_images_are_enlarged_and_cut_about_the_centre(tmp_path: Path) -> None:
    pixels = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / name / "0.png")
    source = open_dataset(tmp_path)
    cut = load_test(source, replace(HARD, test_crop=0.875), size=28, mode="RGB")
    assert torch.equal(cut.images[0], pixels[:, 2:30, 2:30])
    assert torch.equal(load_test(source, HARD, size=32, mode="RGB").images[1], pixels)
    rded = get_protocol("soft-rded")
    assert (rded.size, round(224 / rded.test_crop)) == (224, 256)
