"""Classes are matched by name or wnid, never by position."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from dap.data import match_classes
from dap.data.classes import match_names
from dap.data.imagenet import imagenet_wnids, subset_wnids, synset
from dap.errors import DataError

FRUIT = ("apple", "pear", "plum", "fig", "lemon", "lime", "peach", "cherry", "date", "kiwi")


@pytest.fixture(scope="module")
def synsets() -> list[str]:
    return [synset(wnid) for wnid in imagenet_wnids()]


@pytest.fixture
def class_map(tmp_path: Path) -> Path:
    path = tmp_path / "map.csv"
    path.write_text("dataset_class,backbone_class\nmy apple, apple\n")
    return path


def test_the_same_ten_classes_in_another_order_come_out_right() -> None:
    shuffled = random.Random(0).sample(FRUIT, 10)
    indexes = match_classes(shuffled, FRUIT)
    assert [FRUIT[i] for i in indexes] == shuffled
    assert list(indexes) != list(range(10))


def test_unknown_classes_are_listed_with_the_nearest() -> None:
    with pytest.raises(
        DataError, match=r"2 of 3 classes are unknown.*'aple' \(nearest: 'apple'.*'xyzzy';.*--class-map"
    ):
        match_classes(["aple", "plum", "xyzzy"], FRUIT)
    with pytest.raises(DataError, match=r"7 of 7 .*'c4', ...;"):
        match_classes([f"c{i}" for i in range(7)], FRUIT)


def test_ten_wnids_against_ten_plain_names_are_not_matched_by_position() -> None:
    with pytest.raises(DataError, match="10 of 10 classes are unknown"):
        match_classes(subset_wnids("imagenette"), FRUIT)


@pytest.mark.parametrize("carried_as", ["synsets", "wnids", "shuffled wnids", "shuffled synsets", "almost"])
def test_wnids_find_imagenet_s_indexes_however_the_backbone_names_them(carried_as: str, synsets: list[str]) -> None:
    names = list(imagenet_wnids()) if "wnids" in carried_as else list(synsets)
    order = random.Random(1).sample(range(1000), 1000) if "shuffled" in carried_as else list(range(1000))
    backbone = [names[i] for i in order]
    if carried_as == "almost":
        backbone[0] = "Tinca tinca"  # other lists of ImageNet's names differ in some words
    indexes = match_classes(subset_wnids("imagenette"), backbone)
    assert [order[i] for i in indexes] == [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]


def test_a_thousand_names_that_are_not_imagenet_s_are_not_taken_for_it() -> None:
    with pytest.raises(DataError, match="10 of 10 classes are unknown"):
        match_classes(subset_wnids("imagenette"), [f"class {i}" for i in range(1000)])


def test_synset_strings_and_single_words_find_their_class(synsets: list[str]) -> None:
    assert match_classes(["Tinca tinca", "goldfish, Carassius auratus", "chain saw"], synsets) == (0, 1, 491)
    assert match_classes(["tench, Tinca tinca", "chain saw"], imagenet_wnids()) == (0, 491)


@pytest.mark.parametrize("word", ["crane", "missile", "maillot", "panther", "horn", "tub", "cardigan", "Cardigan"])
@pytest.mark.parametrize("wnids", [True, False])
def test_a_word_of_two_classes_is_refused(word: str, wnids: bool, synsets: list[str]) -> None:
    with pytest.raises(DataError, match=rf"class '{word}' fits 2 classes.*n\d{{8}}.*--class-map"):
        match_classes([word, "tench"], imagenet_wnids() if wnids else synsets)


def test_full_synset_strings_are_plain_where_the_dataset_has_both(synsets: list[str]) -> None:
    names = ["missile", "projectile, missile"]
    assert [synsets[i] for i in match_classes(names, synsets)] == names
    assert match_classes(names, imagenet_wnids()) == match_classes(names, synsets)


def test_all_thousand_match_themselves(synsets: list[str]) -> None:
    assert match_classes(imagenet_wnids(), synsets) == tuple(range(1000))


def test_a_class_map_names_what_differs(class_map: Path, tmp_path: Path, synsets: list[str]) -> None:
    assert match_classes(["plum", "my apple"], FRUIT, class_map) == (2, 0)
    (tmp_path / "crane.csv").write_text("dataset_class,backbone_class\ncrane,n02012849\n")
    assert match_classes(["crane", "tench"], synsets, tmp_path / "crane.csv") == (134, 0)


def test_lines_of_other_classes_are_left_alone(class_map: Path) -> None:
    class_map.write_text("dataset_class,backbone_class\nmy apple,apple\nelsewhere,durian\n")
    assert match_classes(["plum", "my apple"], FRUIT, class_map) == (2, 0)
    assert match_classes(["plum", "my apple"], FRUIT, class_map) == (2, 0)
    with pytest.raises(DataError, match="unknown dataset class 'my apple'"):  # none of its lines is of use
        match_classes(["plum"], FRUIT, class_map)


def test_two_classes_on_one_are_refused(class_map: Path) -> None:
    with pytest.raises(DataError, match="'apple' and 'my apple' are both the backbone's 'apple'"):
        match_classes(["apple", "my apple"], FRUIT, class_map)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must begin with the line dataset_class,backbone_class"),
        ("a,b\nmy apple,apple\n", "must begin with the line"),
        ("dataset_class,backbone_class\nmy apple\n", "has the line 'my apple'"),
        ("dataset_class,backbone_class\nmy aple,apple\n", "unknown dataset class 'my aple'; did you mean 'my apple'"),
        ("dataset_class,backbone_class\nmy apple,apple\nmy apple,fig\n", "names 'my apple' twice"),
        ("dataset_class,backbone_class\nmy apple,appel\n", r"'appel' \(nearest: 'apple'\)"),
    ],
)
def test_a_wrong_class_map_says_what_is_wrong(class_map: Path, text: str, words: str) -> None:
    class_map.write_text(text)
    with pytest.raises(DataError, match=words):
        match_classes(["plum", "my apple"], FRUIT, class_map)


def test_a_missing_class_map_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the class map .*No such file"):
        match_classes(["plum"], FRUIT, tmp_path / "none.csv")


def test_evaluation_gets_a_permutation_or_the_difference() -> None:
    distilled, test = ["b", "c", "a"], ["a", "b", "c"]
    order = match_names(distilled, test)
    assert [distilled[i] for i in order] == test
    with pytest.raises(DataError, match="only in the test set: 'd'; only in the distilled set: 'a'"):
        match_names(["a", "b"], ["b", "d"])
    with pytest.raises(DataError, match=r"did you mean one class by 'Tench' and 'tench'\? Name it alike in both"):
        match_names(["cock", "tench"], ["cock", "Tench"])
    with pytest.raises(DataError, match="only in the distilled set: 'c'"):
        match_names(["a", "b", "c"], ["b", "a"])
