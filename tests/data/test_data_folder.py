"""Folders of class folders, splits, and the datasets that dap itself writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_images import Writer, encoded

from dap.data import open_dataset
from dap.errors import DataError


def test_classes_and_images_are_sorted_and_nested_ones_count(write_classes: Writer) -> None:
    root = write_classes("set", zebra=2, ape=1)
    (root / "ape" / "more" / "deep").mkdir(parents=True)
    (root / "ape" / "more" / "deep" / "x.PNG").write_bytes(encoded(9))
    (root / "ape" / "more" / "a.jpeg").write_bytes(encoded(9, form="JPEG"))
    made = open_dataset(root)
    assert made.class_names == ("ape", "zebra")
    assert made.keys == (("00.png", "more/a.jpeg", "more/deep/x.PNG"), ("00.png", "01.png"))
    assert (made.name, made.mode) == (str(root), "RGB")


def test_folders_named_by_number_are_in_the_order_of_numbers(write_classes: Writer) -> None:
    made = open_dataset(write_classes("set", {str(n): 1 for n in range(12)}))
    assert made.class_names == tuple(str(n) for n in range(12))


def test_other_and_hidden_files_are_left_alone(write_classes: Writer) -> None:
    root = write_classes("set", cat=1, dog=1)
    (root / ".cache").mkdir()
    (root / "readme.txt").write_text("x")
    (root / "cat" / "notes.txt").write_text("x")
    (root / "cat" / "._00.png").write_text("x")
    (root / "cat" / ".thumbs").mkdir()
    (root / "cat" / ".thumbs" / "t.png").write_bytes(encoded(1))
    assert open_dataset(root).counts == (1, 1)


def test_strange_class_names_are_kept(write_classes: Writer) -> None:
    names = {"bullet train": 1, "Füchse & Bären": 1, "train": 1, "a:b": 1}
    assert set(open_dataset(write_classes("set", names)).class_names) == set(names)


def test_a_link_to_a_folder_is_followed_and_a_loop_ends(write_classes: Writer) -> None:
    root = write_classes("set", cat=1, dog=1)
    (write_classes("else", fox=2) / "fox").rename(root.parent / "foxes")
    (root / "fox").symlink_to(root.parent / "foxes")
    (root / "cat" / "again").symlink_to(root / "cat")
    (root / "dog" / "up").symlink_to(root / "dog" / "..")
    made = open_dataset(root)
    assert made.counts[made.class_names.index("fox")] == 2
    assert made.keys[0] == ("00.png",)


def test_a_split_without_class_folders_is_named_as_it_is(write_classes: Writer) -> None:
    for other in ({}, {"test/cat": 1, "test/dog": 1}):
        root = write_classes(f"set{len(other)}", other)
        (root / "train").mkdir(parents=True)
        with pytest.raises(DataError, match=r"set\d/train' holds no class folders with images; put one folder"):
            open_dataset(f"{root}:train")
        (root / "train" / "cat").mkdir()
        (root / "train" / "00.png").write_bytes(encoded(1))
        with pytest.raises(DataError, match=r"set\d/train' holds images beside its class folders; move them"):
            open_dataset(f"{root}:train")


def test_digits_that_are_nearly_named_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits-1").mkdir()
    for typed, meant in (("digit:train", "digits:train"), ("digit", "digits:train"), ("diggits:test", "digits:test")):
        with pytest.raises(DataError, match=f"did you mean '{meant}'"):
            open_dataset(typed)
    with pytest.raises(DataError, match=r"did you mean 'digits-1:train'"):
        open_dataset("digits-2:train")


def test_a_split_is_picked_by_colon_or_option(write_classes: Writer) -> None:
    root = write_classes("set", {"train/cat": 3, "train/dog": 3, "val/cat": 1, "val/dog": 1})
    assert open_dataset(f"{root}:train").counts == (3, 3)
    assert open_dataset(root, split="val").counts == (1, 1)
    assert open_dataset(f"{root}:validation").counts == (1, 1)
    assert open_dataset(f"{root}:train", split="train").name == f"{root}:train"
    assert open_dataset(root / "train").counts == (3, 3)


@pytest.mark.parametrize(
    ("more", "words"),
    [("", "has the splits train, val.*: type .*:train or .*:val$"), (":test", "no split 'test'; it has train, val")],
)
def test_splits_are_never_mixed_or_invented(write_classes: Writer, more: str, words: str) -> None:
    root = write_classes("set", {"train/cat": 1, "train/dog": 1, "val/cat": 1, "val/dog": 1})
    with pytest.raises(DataError, match=words):
        open_dataset(f"{root}{more}")


def test_split_errors_say_what_to_type(write_classes: Writer) -> None:
    with pytest.raises(DataError, match=r"holds only the split train.*: type .*:train$"):
        open_dataset(write_classes("one", {"train/cat": 1, "train/dog": 1}))
    plain = write_classes("plain", cat=1, dog=1)
    with pytest.raises(DataError, match=r"has no splits, so no 'train'; it holds cat, dog"):
        open_dataset(f"{plain}:train")
    with pytest.raises(DataError, match="name two splits"):
        open_dataset(f"{plain}:train", split="test")


def test_an_existing_path_with_a_colon_wins(write_classes: Writer) -> None:
    write_classes("set", cat=1, dog=1)
    assert open_dataset(write_classes("set:train", a=1, b=1)).class_names == ("a", "b")


def test_missing_paths_name_what_is_near(write_classes: Writer) -> None:
    root = write_classes("flowers", rose=1, lily=1)
    with pytest.raises(DataError, match=r"there is no '.*flowrs'; did you mean '.*flowers'"):
        open_dataset(root.parent / "flowrs")
    with pytest.raises(DataError, match=r"no '.*flowrs'; did you mean '.*flowers:train'"):
        open_dataset(f"{root.parent / 'flowrs'}:train")
    with pytest.raises(DataError, match=rf"only '{root.parent}' exists"):
        open_dataset(root.parent / "nowhere" / "at" / "all")
    with pytest.raises(DataError, match="there is no"):
        open_dataset("x" * 5000)
    with pytest.raises(DataError, match="no data was named"):
        open_dataset("")


def test_what_is_no_folder_of_classes_says_so(write_classes: Writer, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(DataError, match=r"file.txt' is a file; give a folder"):
        open_dataset(tmp_path / "file.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images; give a folder"):
        open_dataset(tmp_path / "empty")
    with pytest.raises(DataError, match=r"images but no class folders; move '00.png'"):
        open_dataset(write_classes("set", cat=1, dog=1) / "cat")
    with pytest.raises(DataError, match=r"has 1 class \(cat\); at least two"):
        open_dataset(write_classes("one", cat=1))


def test_images_beside_class_folders_are_refused(write_classes: Writer) -> None:
    root = write_classes("set", cat=1, dog=1)
    (root / "loose.jpg").write_bytes(encoded(1))
    with pytest.raises(DataError, match=r"1 images beside its class folders, first 'loose.jpg'"):
        open_dataset(root)


def test_an_empty_class_is_named_with_what_it_holds(write_classes: Writer) -> None:
    root = write_classes("set", cat=1, dog=0)
    with pytest.raises(DataError, match=r"class 'dog' .*holds no images"):
        open_dataset(root)
    (root / "dog" / "a.gif").write_text("x")
    with pytest.raises(DataError, match=r"class 'dog' .*only other files \(1 .gif\)"):
        open_dataset(root)


def test_subset_of_a_folder_lists_only_its_wnids(write_classes: Writer) -> None:
    from dap.data.imagenet import subset_wnids

    wnids = subset_wnids("imagenette")
    root = write_classes("set", {**dict.fromkeys(reversed(wnids), 1), "n09999999": 0, "other": 1})
    assert open_dataset(root, subset="ImageNette").class_names == wnids
    for name in wnids[:2]:
        (root / name / "00.png").unlink()
        (root / name).rmdir()
    with pytest.raises(DataError, match=rf"lacks 2 of the 10 classes asked for \({wnids[0]}, {wnids[1]}\)"):
        open_dataset(root, subset="imagenette")


@pytest.fixture
def distilled(write_classes: Writer) -> Path:
    root = write_classes("out/data", {"0_zebra": 1, "1_bullet+train": 1, "2_10": 1}).parent
    folders = {"0_zebra": "zebra", "1_bullet+train": "bullet/train", "2_10": "10"}
    record = {"folders": folders, "class_names": ["zebra", "bullet/train", "10"], "digest": "x"}
    (root / "config.json").write_text(json.dumps(record))
    return root


@pytest.mark.parametrize("below", [".", "data"])
def test_a_distilled_dataset_gets_its_names_and_order_back(distilled: Path, below: str) -> None:
    made = open_dataset(distilled / below)
    assert made.class_names == ("zebra", "bullet/train", "10")
    assert made.images(1)[0, 0, 0, 0] == 40


def test_a_distilled_dataset_that_is_not_as_recorded_is_refused(distilled: Path) -> None:
    with pytest.raises(DataError, match="has no splits; leave 'train' out"):
        open_dataset(f"{distilled}:train")
    (distilled / "data" / "stray").mkdir()
    with pytest.raises(DataError, match=r"'stray' .*not in its config.json"):
        open_dataset(distilled)
    (distilled / "data" / "stray").rename(distilled / "aside")
    (distilled / "data" / "2_10").rename(distilled / "2_10")
    with pytest.raises(DataError, match=r"lacks 1 of 3 class folders, first '2_10'.*same dap distill"):
        open_dataset(distilled)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read as JSON"),
        ('{"folders": {"../x": "a"}, "class_names": ["b"]}', "do not name the same classes"),
        ('{"folders": {"../..": "a"}, "class_names": ["a"]}', "lacks 1 of 1 class folders"),
        ('{"folders": ["a"], "class_names": ["a"]}', "do not name the same classes"),
        ('{"folders": {"x": 1}, "class_names": [1]}', "do not name the same classes"),
    ],
)
def test_a_broken_record_is_refused_and_never_followed(distilled: Path, text: str, words: str) -> None:
    (distilled / "config.json").write_text(text)
    with pytest.raises(DataError, match=words):
        open_dataset(distilled)


def test_a_config_of_another_program_does_not_matter(distilled: Path) -> None:
    (distilled / "config.json").write_text('{"lr": 1}')
    assert open_dataset(distilled / "data").class_names == ("0_zebra", "1_bullet+train", "2_10")
