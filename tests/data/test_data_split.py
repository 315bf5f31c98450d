"""The validation part: stratified, seeded, and no image on both sides."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from dap.data import Source, open_dataset, split_validation
from dap.errors import ConfigError, DataError


def written(root: Path, colours: dict[str, list[int]]) -> Source:
    """One-coloured images; equal numbers are equal files."""
    for name, greys in colours.items():
        (root / name).mkdir(parents=True)
        for i, grey in enumerate(greys):
            Image.new("L", (4, 4), grey).save(root / name / f"{i:03d}.png")
    return open_dataset(root)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return written(tmp_path / "d", {"apple": list(range(20)), "pear": list(range(50, 80)), "plum": [90, 91]})


def test_each_class_gives_its_share_and_every_image_lies_in_one_part(source: Source) -> None:
    train, validation = split_validation(source, 0.2, seed=3)
    assert validation.counts == (4, 6, 1)  # a class gives at least one
    assert train.counts == (16, 24, 1)
    for label, keys in enumerate(source.keys):
        assert set(train.keys[label]).isdisjoint(validation.keys[label])
        assert set(train.keys[label]) | set(validation.keys[label]) == set(keys)
        assert list(validation.keys[label]) == sorted(validation.keys[label])
    assert train.class_names == validation.class_names == source.class_names


def test_the_seed_decides_and_a_smaller_part_lies_within_a_larger(source: Source) -> None:
    parts = [split_validation(source, 0.2, seed)[1] for seed in (0, 0, 1)]
    assert parts[0].keys == parts[1].keys != parts[2].keys
    larger = split_validation(source, 0.5, 0)[1]
    assert all(set(a) <= set(b) for a, b in zip(parts[0].keys, larger.keys, strict=True))
    turned = split_validation(source.restrict(("plum", "pear", "apple")), 0.2, 0)[1]
    assert turned.keys == parts[0].keys[::-1]


def test_equal_files_never_lie_on_both_sides(tmp_path: Path) -> None:
    twins = written(tmp_path / "d", {"apple": [*range(10)] * 3, "pear": [*range(5), *range(100, 120)]})
    for seed in range(5):
        train, validation = split_validation(twins, 0.2, seed)
        seen = [
            {part.read_bytes(label, key) for label in (0, 1) for key in part.keys[label]}
            for part in (train, validation)
        ]
        assert seen[0].isdisjoint(seen[1])
        assert validation.counts == (6, 5)


def test_what_cannot_be_split_is_refused(tmp_path: Path, source: Source) -> None:
    for fraction in (0.0, 1.0, -0.1, 1.5):
        with pytest.raises(ConfigError, match=f"validation fraction is {fraction}; use a number between 0 and 1"):
            split_validation(source, fraction)
    alone = written(tmp_path / "one", {"apple": [1], "pear": [2, 3]})
    with pytest.raises(DataError, match=r"class 'apple' .* has no image left to train on"):
        split_validation(alone, 0.5)
    same = written(tmp_path / "same", {"apple": [1, 1, 1, 1], "pear": [2, 3]})
    with pytest.raises(DataError, match="more \\(different\\) images"):
        split_validation(same, 0.5)
