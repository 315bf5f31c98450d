"""Selections of real images: seeded, nested where random, by pixels where they look."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from dap.baselines import SELECTIONS, herding_rows, random_subset
from dap.data import Source, open_dataset
from dap.errors import DataError


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Source:
    root = tmp_path_factory.mktemp("real")
    generator = torch.Generator().manual_seed(0)
    for name, count in (("apple", 9), ("pear", 7)):
        (root / name).mkdir()
        for i in range(count):
            pixels = torch.randint(0, 256, (6, 6, 3), dtype=torch.uint8, generator=generator)
            Image.fromarray(pixels.numpy()).save(root / name / f"{i}.png")
    return open_dataset(root)


def test_random_subset_is_seeded_and_nested(real: Source) -> None:
    draws = [random_subset(real, 3, seed) for seed in range(6)]
    assert draws[0].keys == random_subset(real, 3, 0).keys
    assert len({draw.keys for draw in draws}) > 1
    assert all(draw.counts == (3, 3) for draw in draws)
    assert set(random_subset(real, 2, 0).keys[0]) < set(draws[0].keys[0])


@pytest.mark.parametrize("name", SELECTIONS)
def test_every_selection_keeps_real_images_and_their_classes(name: str, real: Source) -> None:
    chosen = SELECTIONS[name](real, 4, 0)
    assert chosen.class_names == real.class_names
    assert chosen.counts == (4, 4)
    for label in (0, 1):
        assert set(chosen.keys[label]) <= set(real.keys[label])
        assert list(chosen.keys[label]) == sorted(chosen.keys[label])
    assert chosen.digest == SELECTIONS[name](real, 4, 0).digest
    with pytest.raises(DataError, match="class 'pear' has 7 images, 8 were asked for; ask for 7 or fewer"):
        SELECTIONS[name](real, 8, 0)


def test_what_is_chosen_in_one_class_does_not_depend_on_the_others(real: Source) -> None:
    for name, select in SELECTIONS.items():
        turned = select(real.restrict(("pear", "apple")), 3, 1)
        assert turned.keys == select(real, 3, 1).keys[::-1], name


def test_herding_sees_pixels_in_the_size_asked(real: Source) -> None:
    small = real.with_format(size=2)
    rows = herding_rows(small.images(0).flatten(1).float(), 3)
    assert set(SELECTIONS["herding"](small, 3, 0).keys[0]) == {real.keys[0][i] for i in rows.tolist()}
