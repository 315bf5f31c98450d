"""The digits that ship with scikit-learn, and ImageNet's tables of names."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from dap.data import open_dataset
from dap.data.imagenet import imagenet_index, imagenet_wnids, subset_names, subset_wnids, synset
from dap.errors import DataError


def test_digits_are_split_once_and_for_all() -> None:
    train, test = open_dataset("digits:train"), open_dataset("digits", split="test")
    assert (sum(train.counts), sum(test.counts)) == (1437, 360)
    assert train.class_names == test.class_names == tuple("0123456789")
    for label in range(10):
        assert not set(train.keys[label]) & set(test.keys[label])
        assert list(train.keys[label]) == sorted(train.keys[label])
    assert train.keys[0][:3] == ("0000", "0010", "0020")
    assert train.digest == "ba3ef7c54cd3948fec336c39f174b7fd"


def test_digits_are_grey_with_their_full_range() -> None:
    test = open_dataset("digits:test")
    assert test.mode == "L"
    images = test.images(3)
    assert images.shape == (test.counts[3], 1, 8, 8)
    raw = load_digits().images[int(test.keys[3][0])]
    assert np.array_equal(images[0, 0].numpy(), np.rint(raw * 255 / 16))
    assert int(images.max()) == 255
    assert test.read_bytes(3, test.keys[3][0]).startswith(b"\x89PNG")
    assert open_dataset("digits:test", mode="RGB", size=16).images(0, [0]).shape == (1, 3, 16, 16)


@pytest.mark.parametrize("spec", ["digits", "digits:", "digits:val"])
def test_digits_need_their_split(spec: str) -> None:
    with pytest.raises(DataError, match="type digits:train or digits:test"):
        open_dataset(spec)


def test_subsets_are_sorted_wnids_in_any_case() -> None:
    wnids = subset_wnids("ImageWoof")
    assert list(wnids) == sorted(wnids)
    assert wnids[0] == "n02086240"  # the table's own position 0 is n02096294
    assert {name: len(subset_wnids(name)) for name in subset_names()} == {
        "imagenette": 10, "imagewoof": 10, "imageidc": 10, "imagenet-100": 100,
        "imagenet-a": 10, "imagenet-b": 10, "imagenet-c": 10, "imagenet-d": 10, "imagenet-e": 10,
    }  # fmt: skip
    with pytest.raises(DataError, match="unknown subset 'imagenete'; did you mean 'imagenette'"):
        subset_wnids("imagenete")


def test_imagenet_index_is_the_rank_of_the_wnid() -> None:
    assert len(imagenet_wnids()) == 1000
    known = {"n01440764": 0, "n02102040": 217, "n03888257": 701, "n02096294": 193, "n13037406": 993}
    assert {wnid: imagenet_index(wnid) for wnid in known} == known
    assert synset("n01440764") == "tench, Tinca tinca"
    with pytest.raises(DataError, match="'n00000001' is not one of the 1,000"):
        imagenet_index("n00000001")


def test_the_packaged_indexes_agree_with_timm() -> None:
    import csv
    from importlib.resources import files

    with (files("dap.data") / "imagenet_subsets.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            assert imagenet_index(row["wnid"]) == int(row["index"])


def test_importing_the_room_loads_no_heavy_library() -> None:
    heavy = "timm", "datasets", "sklearn", "pyarrow"
    code = f"import sys, dap.data; print([m for m in {heavy!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
