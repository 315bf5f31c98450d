"""Augmentation: the same distributions, and the same pixels, as torchvision's one image at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import ColorJitter, InterpolationMode, RandomHorizontalFlip, RandomResizedCrop
from torchvision.transforms.functional import (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
)
from torchvision.transforms.functional import (
    resized_crop as torchvision_resized_crop,
)

from dap.evaluation import get_protocol
from dap.evaluation.augment import (
    augment,
    color_jitter,
    crop_boxes,
    cutmix,
    flip,
    lighting,
    normalise,
    resized_crop,
    shift,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, size: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, size, size, generator=seeded(seed))


def reference(work: Callable[[], tuple[int, ...]], count: int) -> np.ndarray:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return np.array([work() for _ in range(count)], dtype=float)


def assert_alike(ours: np.ndarray, theirs: np.ndarray, bins: int = 12) -> None:
    """Two samples of one distribution: chi-square of their histograms per degree of freedom near 1."""
    edges = np.histogram_bin_edges(np.concatenate([ours, theirs]), bins=bins)
    a, b = np.histogram(ours, edges)[0], np.histogram(theirs, edges)[0]
    share = len(ours) / len(theirs)
    used = a + b > 20
    a, b = a[used], b[used]
    chi = ((a - share * b) ** 2 / (a + share**2 * b)).mean()
    assert chi < 2.5
    assert ours.mean() == pytest.approx(theirs.mean(), abs=4 * theirs.std() / np.sqrt(len(theirs)))
    assert ours.var() == pytest.approx(theirs.var(), rel=0.1)


@pytest.mark.parametrize("size", [8, 32])
@pytest.mark.parametrize("area", [(0.5, 1.0), (0.08, 1.0)])
def test_crop_boxes_are_distributed_as_torchvisions(size: int, area: tuple[float, float]) -> None:
    blank = torch.zeros(3, size, size)
    theirs = reference(lambda: RandomResizedCrop.get_params(blank, list(area), [3 / 4, 4 / 3]), 4000)
    ours = crop_boxes(20_000, size, area, seeded()).numpy().astype(float)
    for measure in (
        lambda box: box[:, 2] * box[:, 3] / size**2,  # area
        lambda box: np.log(box[:, 3] / box[:, 2]),  # aspect
        lambda box: box[:, 0],
        lambda box: box[:, 1],
    ):
        assert_alike(measure(ours), measure(theirs))


def test_crop_boxes_stay_inside_and_fall_back_to_the_whole_image() -> None:
    top, left, height, width = crop_boxes(5000, 9, (0.5, 1.0), seeded()).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 9).all()
    assert (left + width <= 9).all()
    assert crop_boxes(3, 9, (4.0, 5.0), seeded()).tolist() == [[0, 0, 9, 9]] * 3  # never fits


@pytest.mark.parametrize("size", [8, 17, 32])
def test_resized_crops_have_torchvisions_pixels(size: int) -> None:
    images, boxes = pictures(40, size), crop_boxes(40, size, (0.5, 1.0), seeded(1))
    ours = resized_crop(images, boxes)
    for image, box, out in zip(images, boxes.tolist(), ours, strict=True):
        theirs = torchvision_resized_crop(image, *box, [size, size], InterpolationMode.BILINEAR, antialias=True)
        assert torch.allclose(out, theirs, atol=2e-5)


def test_color_jitter_is_torchvisions_in_every_order() -> None:
    """Every output is one of the six orders with some factors; constant colours make that solvable
    exactly.
    """
    images, amount = pictures(600, 6), 0.4
    ours = color_jitter(images, amount, seeded(3))
    generator = seeded(3)
    factors = 1 + amount * (2 * torch.rand(600, 3, generator=generator) - 1)
    picks = torch.randint(6, (600,), generator=generator)
    orders = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    work = (adjust_brightness, adjust_contrast, adjust_saturation)
    for i in range(600):
        theirs = images[i]
        for step in orders[picks[i]]:
            theirs = work[step](theirs, float(factors[i, step]))
        assert torch.allclose(ours[i], theirs, atol=1e-5)
    assert (torch.bincount(picks, minlength=6) > 70).all()


def test_color_jitter_moves_mean_and_variance_as_torchvision_does() -> None:
    image = pictures(1, 6, seed=4)
    ours = color_jitter(image.expand(6000, -1, -1, -1), 0.4, seeded())
    jitter = ColorJitter(0.4, 0.4, 0.4)
    theirs = reference(lambda: tuple(jitter(image[0]).flatten().tolist()), 2000)
    assert ours.min() >= 0
    assert ours.max() <= 1
    for statistic in (lambda x: x.mean(1), lambda x: x.std(1)):
        assert_alike(statistic(ours.flatten(1).numpy()), statistic(theirs))


def test_flip_mirrors_half_of_the_images_whole() -> None:
    images = pictures(20_000, 2)
    out = flip(images, seeded())
    mirrored = (out == images.flip(-1)).flatten(1).all(1)
    assert ((out == images).flatten(1).all(1) ^ mirrored).all()
    assert 0.49 < mirrored.float().mean() < 0.51


def test_shift_moves_the_batch_by_at_most_a_pixel_in_all_nine_ways() -> None:
    images, generator, seen = pictures(3, 6), seeded(), set()
    for _ in range(120):
        out = shift(images, 1, generator)
        assert out.shape == images.shape
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                inner = images[:, :, 1 + down : 5 + down, 1 + across : 5 + across]
                if torch.equal(out[:, :, 1:5, 1:5], inner):
                    seen.add((down, across))
    assert len(seen) == 9


def test_lighting_adds_one_colour_an_image() -> None:
    images = pictures(4000, 3)
    added = lighting(images, 0.1, seeded()) - images
    assert torch.allclose(added, added[:, :, :1, :1].expand_as(added), atol=1e-6)
    vectors = torch.tensor([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    along = added[:, :, 0, 0] @ vectors
    assert along.std(0).tolist() == pytest.approx([0.02175, 0.00188, 0.00045], rel=0.1)


def test_cutmix_ratio_is_the_share_of_pixels_kept() -> None:
    generator, ratios = seeded(), []
    images = torch.arange(1.0, 9.0).view(8, 1, 1, 1).expand(8, 3, 16, 16)
    for _ in range(300):
        mixed = cutmix(images, generator)
        own = images[:, 0]
        other = own[mixed.partner]
        kept = (mixed.images[:, 0] == own).flatten(1).float().mean(1)
        moved = mixed.partner != torch.arange(8)
        assert torch.allclose(kept[moved], torch.full_like(kept[moved], mixed.ratio))
        assert ((mixed.images[:, 0] == own) | (mixed.images[:, 0] == other)).all()
        assert sorted(mixed.partner.tolist()) == list(range(8))
        ratios.append(mixed.ratio)
    assert min(ratios) < 0.3
    assert max(ratios) > 0.95


def test_cutmix_boxes_are_distributed_as_published() -> None:
    """Yun et al.'s rule, one at a time: sides by the root of 1 - lambda, a uniform centre, clipped."""
    rng, size, theirs = np.random.default_rng(0), 32, []
    for _ in range(4000):
        side = int(size * np.sqrt(1 - rng.beta(1, 1)))
        centre = rng.integers(size, size=2)
        box = np.clip(centre + side // 2, 0, size) - np.clip(centre - side // 2, 0, size)
        theirs.append(1 - box.prod() / size**2)
    generator, images = seeded(), torch.zeros(1, 3, size, size)
    ours = np.array([cutmix(images, generator).ratio for _ in range(4000)])
    assert_alike(ours, np.array(theirs))


def test_augment_applies_what_the_protocol_names_and_no_more() -> None:
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=seeded())
    out = augment(images, get_protocol("hard-tiny"), seeded())
    assert out.dtype == torch.float32
    assert out.min() >= -1
    assert out.max() <= 1
    inner = (normalise(images.float() / 255, get_protocol("hard-tiny")))[:, :, 1:7, 1:7]
    shifts = [out[:, :, 1 - d : 7 - d, 1 - a : 7 - a] for d in (-1, 0, 1) for a in (-1, 0, 1)]
    assert any(torch.allclose(inner, moved) for moved in shifts)
    small = augment(images, get_protocol("hard-small"), seeded())
    assert torch.equal(small, augment(images, get_protocol("hard-small"), seeded()))  # the generator decides
    assert not torch.equal(small, augment(images, get_protocol("hard-small"), seeded(1)))


def test_cutmix_boxes_lie_and_stretch_as_published() -> None:
    """Where the box lies and how wide and high it is, read off the pixels, against Yun et al.'s rule one at a time."""
    rng, size, theirs = np.random.default_rng(1), 16, []
    for _ in range(4000):
        side = int(size * np.sqrt(1 - rng.beta(1, 1)))
        centre = rng.integers(size, size=2)
        start, end = np.clip(centre - side // 2, 0, size), np.clip(centre + side // 2, 0, size)
        if (end > start).all():
            theirs.append([*start, *(end - start)])
    generator, ours = seeded(2), []
    images = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 3, size, size)
    for _ in range(2500):
        mixed = cutmix(images, generator)
        moved = int((mixed.partner != torch.arange(8)).int().argmax())
        rows, columns = (mixed.images[moved, 0] != moved).nonzero().T
        if len(rows):
            top, left = int(rows.min()), int(columns.min())
            ours.append([top, left, int(rows.max()) + 1 - top, int(columns.max()) + 1 - left])
    for measure in (
        lambda b: b[:, 0],
        lambda b: b[:, 1],
        lambda b: b[:, 2] * b[:, 3] / size**2,  # area
        lambda b: np.log(b[:, 3] / b[:, 2]),  # aspect
    ):
        assert_alike(measure(np.array(ours, dtype=float)), measure(np.array(theirs, dtype=float)))


def test_a_whole_training_batch_is_alike_one_image_at_a_time() -> None:
    """All of `hard-adamw` in one go, against the field's transforms of one image after the other."""
    size, protocol = 12, get_protocol("hard-adamw")
    down, across = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    image = (255 * torch.stack([down, across, 0.3 + 0.4 * down * across])).to(torch.uint8)
    values, vectors = torch.tensor([0.2175, 0.0188, 0.0045]), torch.tensor(_VECTORS)
    steps = (
        RandomResizedCrop(size, scale=(0.5, 1.0), antialias=True),
        RandomHorizontalFlip(),
        ColorJitter(0.4, 0.4, 0.4),
        lambda x: x + (vectors @ (0.1 * torch.randn(3) * values)).view(3, 1, 1),
    )

    def one() -> tuple[float, ...]:
        x = image / 255
        for step in steps:
            x = step(x)
        return tuple(normalise(x[None], protocol).flatten().tolist())

    theirs = reference(one, 2500)  # type: ignore[arg-type]
    ours = augment(image.expand(8000, -1, -1, -1), protocol, seeded(5)).flatten(1).numpy().astype(float)
    for statistic in (
        lambda x: x.mean(1),
        lambda x: x.std(1),
        lambda x: x[:, 0],  # the upper left corner, red
        lambda x: x[:, 3 * size**2 // 2],  # green, in the middle of the left edge
        lambda x: x[:, -1],
    ):
        assert_alike(statistic(ours), statistic(theirs))
    error = theirs.std(0) / np.sqrt(len(theirs))
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < 5 * error).all()  # every pixel


_VECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
