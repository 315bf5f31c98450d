"""Parquet files and hub datasets in the Hugging Face Image convention."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_images import Writer, encoded

from dap.data import Source, open_dataset
from dap.data.rows import HubReader, ParquetReader
from dap.errors import DataError

LABELS = [1, 0, 1, 0, 0, 1, 1]


def grey(source: Source, label: int) -> list[int]:
    """The grey value of each image: in these tests the number of its row."""
    return source.images(label)[:, 0, 0, 0].tolist()


def test_rows_are_grouped_by_label_in_the_table_s_order(write_parquet: Writer) -> None:
    made = open_dataset(write_parquet("x.parquet", LABELS, names=["zebra", "ape"]))
    assert made.class_names == ("zebra", "ape")
    assert made.keys == (("1", "3", "4"), ("0", "2", "5", "6"))
    assert grey(made, 0) == [1, 3, 4]
    assert grey(made, 1) == [0, 2, 5, 6]


def test_a_file_written_by_datasets_opens(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["no", "yes"]))
    rows = {"image": [{"bytes": encoded(i), "path": None} for i in range(4)], "label": [1, 0, 1, 0]}
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "test.parquet")
    made = open_dataset(tmp_path)
    assert made.class_names == ("no", "yes")
    assert [grey(made, 0), grey(made, 1)] == [[1, 3], [0, 2]]


def test_class_names_may_lie_beside_the_file(write_parquet: Writer) -> None:
    path = write_parquet("d/x.parquet", LABELS)
    with pytest.raises(DataError, match=r"no class names in its schema; write them to '.*classes.txt'"):
        open_dataset(path)
    (path.parent / "classes.txt").write_text("zebra\nape\n")
    assert open_dataset(path).class_names == ("zebra", "ape")
    (path.parent / "classes.txt").write_text("zebra\n\nape\n")
    with pytest.raises(DataError, match=r"line 2 of .* is empty"):
        open_dataset(path)


def test_splits_of_a_folder_are_chosen_and_never_mixed(write_parquet: Writer) -> None:
    names = ["a", "b"]
    root = write_parquet("d/train.parquet", LABELS, names=names).parent
    assert open_dataset(root).counts == (3, 4)  # the only one
    write_parquet("d/validation.parquet", [0, 1], names=names)
    assert open_dataset(f"{root}:train").counts == (3, 4)
    assert open_dataset(root, split="val").counts == (1, 1)
    with pytest.raises(DataError, match=r"has the splits train, validation; .*: type .*:train or .*:validation$"):
        open_dataset(root)
    with pytest.raises(DataError, match=r"no split 'tran'; it has train, validation: type .*:train"):
        open_dataset(f"{root}:tran")
    with pytest.raises(DataError, match="no split 'test'"):
        open_dataset(f"{root / 'train.parquet'}:test")


def test_shards_are_joined_in_order_and_a_missing_one_is_named(write_parquet: Writer) -> None:
    names = ["a", "b"]
    write_parquet("d/data/train-00001-of-00002-ab.parquet", [1, 0], names=names)
    root = write_parquet("d/data/test-00000-of-00001.parquet", [0, 1], names=names).parent.parent
    with pytest.raises(DataError, match="lacks shard 0 of 2"):
        open_dataset(f"{root}:train")
    write_parquet("d/data/train-00000-of-00002-cd.parquet", LABELS, names=names)
    made = open_dataset(f"{root}:train")
    assert made.keys == (("1", "3", "4", "8"), ("0", "2", "5", "6", "7"))
    assert grey(made, 0) == [1, 3, 4, 1]
    write_parquet("d/data/train-00001-of-00002-ab.parquet", [1, 0], names=["b", "a"])
    with pytest.raises(DataError, match="other columns or class names"):
        open_dataset(f"{root}:train")


def test_numbered_files_are_one_split(write_parquet: Writer) -> None:
    root = write_parquet("train/0000.parquet", [0, 1], names=["a", "b"]).parent
    write_parquet("train/0001.parquet", [0, 1], names=["a", "b"])
    assert open_dataset(root).counts == (2, 2)


def test_only_the_row_groups_that_are_needed_are_read(write_parquet: Writer) -> None:
    made = open_dataset(write_parquet("x.parquet", [0, 1] * 8, names=["a", "b"], group=4))
    reader = made.read_bytes
    assert isinstance(reader, ParquetReader)
    assert not reader._cache
    made.images(0, [3])
    assert len(reader._cache) == 1
    reader.cache_bytes = 1
    assert grey(made, 1) == list(range(1, 16, 2))
    assert len(reader._cache) == 1
    assert pickle.loads(pickle.dumps(reader))(0, "05") == encoded(5)


@pytest.mark.parametrize(("columns", "fine"), [(("img", "fine_label"), True), (("picture", "label"), False)])
def test_columns_are_known_by_name_or_listed(write_parquet: Writer, columns: tuple[str, str], fine: bool) -> None:
    path = write_parquet("x.parquet", LABELS, names=["a", "b"], columns=columns)
    if fine:
        assert open_dataset(path).counts == (3, 4)
    else:
        with pytest.raises(DataError, match=r"one column 'image'.*it has picture \(image\), label \(integer\)"):
            open_dataset(path)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["a", "b"], r"label \(string\)"),
        ([0, None, 1], "1 rows without a label"),
        ([0, -1, 1], "row 1 .* has label -1"),
        ([0, 1, 2], r"row 2 .* label 2, but there are 2 class names \(0 to 1\)"),
        ([0, 0], "no images of 1 of its 2 classes: b"),
    ],
)
def test_bad_labels_are_refused(write_parquet: Writer, labels: list[object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        open_dataset(write_parquet("x.parquet", labels, names=["a", "b"]))


def test_a_file_that_is_no_parquet_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("hello")
    with pytest.raises(DataError, match=r"x.parquet' cannot be read as parquet"):
        open_dataset(tmp_path / "x.parquet")


def test_a_row_with_a_path_only_or_a_damaged_image_is_a_bad_image(write_parquet: Writer) -> None:
    path = write_parquet("x.parquet", LABELS, names=["a", "b"], blobs={3: None, 0: encoded(0)[:40]})
    with pytest.raises(DataError, match=r"2 of 7 images .*'a/3' \(the row holds no image bytes"):
        open_dataset(path, on_bad_image="fail")
    kept = open_dataset(path, on_bad_image="skip")
    assert kept.counts == (2, 3)
    assert [title for title, _ in kept.skipped] == ["a/3", "b/0"]


def test_subset_of_a_parquet_is_in_wnid_order(write_parquet: Writer) -> None:
    from dap.data.imagenet import subset_wnids

    names = [*reversed(subset_wnids("imagewoof")), "n00000000"]
    made = open_dataset(write_parquet("x.parquet", list(range(10)), names=names), subset="imagewoof")
    assert made.class_names == subset_wnids("imagewoof")
    assert grey(made, 0) == [9]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """`datasets` with one dataset of two splits instead of a network; gives the splits that were loaded."""
    import datasets

    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=["no", "yes"]), id=datasets.Value("int64")
    )
    rows = {"image": [{"bytes": encoded(i), "path": None} for i in range(4)], "label": [1, 0, 1, 0], "id": [0] * 4}
    loaded: list[str] = []

    def load(repo: str, *, split: str) -> Any:
        loaded.append(f"{repo}:{split}")
        return datasets.Dataset.from_dict(rows, features=features)

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda repo: ["train", "test"])
    return loaded


def test_a_hub_dataset_gives_the_same_source(hub: list[str]) -> None:
    made = open_dataset("hf:me/mine:train")
    assert (made.name, made.class_names, made.keys) == ("hf:me/mine:train", ("no", "yes"), (("1", "3"), ("0", "2")))
    assert grey(made, 1) == [0, 2]
    assert torch.equal(open_dataset("hf:me/mine", split="train").images(0), made.images(0))
    assert hub == ["me/mine:train"] * 2


def test_a_hub_dataset_needs_its_split_before_anything_is_loaded(hub: list[str]) -> None:
    with pytest.raises(DataError, match=r"hf:me/mine' has the splits test, train; .*hf:me/mine:train"):
        open_dataset("hf:me/mine")
    with pytest.raises(DataError, match="name two splits"):
        open_dataset("hf:me/mine:train", split="test")
    with pytest.raises(DataError, match="not a hub dataset; write hf:owner/name:split"):
        open_dataset("hf:../../etc/passwd")
    assert hub == []


def test_a_hub_row_cannot_make_us_read_a_file_outside_the_cache(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(encoded(1))
    rows = [{"image": {"bytes": None, "path": str(tmp_path / "x.png")}}, {"image": None}]
    with pytest.raises(DataError, match="outside the cache"):
        HubReader(rows, "image")(0, "0")
    with pytest.raises(DataError, match="holds no image"):
        HubReader(rows, "image")(0, "1")


def test_without_a_network_a_hub_dataset_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def offline(repo: str) -> Any:
        raise ConnectionError("Couldn't reach the Hub\nand more")

    monkeypatch.setattr(datasets, "get_dataset_split_names", offline)
    with pytest.raises(
        DataError, match="'hf:me/mine' cannot be loaded: ConnectionError: Couldn't reach the Hub; check"
    ) as caught:
        open_dataset("hf:me/mine:train")
    assert "\n" not in str(caught.value)
