"""The laws of a `Source`: what it shows, what it chooses, what it finds damaged."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_images import Writer, encoded

from dap.data import Source, open_dataset
from dap.errors import DataError


def source(**counts: int) -> Source:
    """Flat images of 4 x 4; the grey value is 40 * label + position."""
    keys = tuple(tuple(f"{i:02d}" for i in range(n)) for n in counts.values())
    return Source("made", tuple(counts), keys, lambda label, key: encoded(40 * label + int(key)), mode="L")


def test_images_are_uint8_in_the_order_of_keys() -> None:
    images = source(a=3, b=2).images(0)
    assert images.dtype == torch.uint8
    assert images.shape == (3, 1, 4, 4)
    assert images[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_positions_choose_and_order() -> None:
    assert source(a=3, b=3).images(1, [2, 0])[:, 0, 0, 0].tolist() == [42, 40]
    assert source(a=3, b=3).with_format(size=8).images(1, []).shape == (0, 1, 8, 8)


def test_many_images_decoded_by_threads_keep_their_order() -> None:
    assert source(a=200, b=1).images(0)[:, 0, 0, 0].tolist() == list(range(200))


def test_format_sets_channels_and_size() -> None:
    other = source(a=2, b=2).with_format(size=2, mode="RGB")
    assert other.images(0).shape == (2, 3, 2, 2)
    assert (other.images(1)[1] == 41).all()


def test_a_size_that_fits_does_not_resample() -> None:
    made = source(a=2, b=2)
    assert torch.equal(made.images(0), made.with_format(size=4).images(0))


def test_different_sizes_name_two_files_and_what_to_give() -> None:
    odd = replace(source(a=2, b=2), read_bytes=lambda _, key: encoded(1, (4, 4) if key == "00" else (6, 5)))
    with pytest.raises(DataError, match=r"'a/00' is 4 x 4, 'a/01' is 6 x 5.*size=4"):
        odd.images(0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mode": "CMYK"}, "mode is 'CMYK'"),
        ({"size": 0}, "size is 0"),
        ({"class_names": ("a", "a")}, "2 classes named 'a'"),
    ],
)
def test_impossible_sources_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        replace(source(a=1, b=1), **change)


def test_selection_is_seeded_sorted_exact_and_nested() -> None:
    made = source(a=30, b=40)
    chosen = made.select(10, seed=3)
    assert chosen.counts == (10, 10)
    assert chosen.keys == made.select(10, seed=3).keys
    assert chosen.keys != made.select(10, seed=4).keys
    assert all(list(keys) == sorted(keys) for keys in chosen.keys)
    assert chosen.keys[0] != made.keys[0][:10]  # not simply the first by name
    assert set(made.select(4, seed=3).keys[0]) < set(chosen.keys[0])


def test_selection_of_a_class_does_not_depend_on_the_others() -> None:
    assert source(a=30, b=40).select(5, 0).keys[1] == source(b=40, c=9).select(5, 0).keys[0]


def test_every_image_is_equally_likely() -> None:
    made = source(a=10, b=10)
    counts = torch.zeros(10)
    for seed in range(400):
        for key in made.select(3, seed).keys[0]:
            counts[int(key)] += 1
    assert (counts - 120).abs().max() < 45  # 120 expected, sd 9


def test_too_few_images_are_named() -> None:
    with pytest.raises(DataError, match="class 'a' has 7 images, 10 were asked for"):
        source(a=7, b=10).select(10, 0)
    with pytest.raises(DataError, match="0 images per class"):
        source(a=7, b=10).select(0, 0)


def test_restrict_relabels_and_still_reads_the_right_files() -> None:
    part = source(a=2, b=2, c=2).restrict(["c", "a"])
    assert part.class_names == ("c", "a")
    assert part.images(0)[:, 0, 0, 0].tolist() == [80, 81]
    assert part.restrict(["a", "c"]).images(0)[:, 0, 0, 0].tolist() == [0, 1]
    with pytest.raises(DataError, match=r"lacks 1 of the 2 classes.*'bat'; did you mean"):
        source(bar=1, cow=1).restrict(["bat", "cow"])


def test_digest_is_of_names_keys_and_bytes() -> None:
    made = source(a=2, b=2)
    assert made.digest == source(a=2, b=2).digest == made.checked().digest
    assert made.with_format(size=2, mode="RGB").digest == made.digest
    others = [
        source(a=2, c=2),
        source(a=2, b=3),
        made.select(1, 0),
        made.restrict(["b", "a"]),
        replace(made, read_bytes=lambda label, key: encoded(9)),
    ]
    assert len({made.digest, *(other.digest for other in others)}) == 6
    assert replace(made.checked(), keys=(("00",), ("00",))).digest != made.digest


def damaged(write_classes: Writer, **counts: int) -> Path:
    root = write_classes("set", **counts)
    good = (root / "cat" / "00.png").read_bytes()
    (root / "cat" / "01.png").write_bytes(good[: len(good) // 2])
    return root


def test_a_damaged_file_is_named_by_fail(write_classes: Writer) -> None:
    root = damaged(write_classes, cat=3, dog=2)
    with pytest.raises(DataError, match=r"1 of 5 images .*'cat/01.png' \(.*--on-bad-image skip"):
        open_dataset(root, on_bad_image="fail")
    with pytest.raises(DataError, match=r"'cat/01.png' .*cannot be read"):
        open_dataset(root).images(0)


def test_a_damaged_file_is_left_out_and_listed_by_skip(write_classes: Writer) -> None:
    seen: list[tuple[int, int]] = []
    kept = open_dataset(damaged(write_classes, cat=3, dog=2)).checked("skip", lambda *done: seen.append(done))
    assert kept.counts == (2, 2)
    assert [title for title, _ in kept.skipped] == ["cat/01.png"]
    assert kept.skipped[0][1]
    assert len(kept.images(0)) == 2
    assert seen == [(3, 5), (5, 5)]


def test_skipping_a_whole_class_is_fatal(write_classes: Writer) -> None:
    root = damaged(write_classes, cat=2, dog=2)
    (root / "cat" / "00.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"class 'cat' .*no readable image: all 2"):
        open_dataset(root, on_bad_image="skip")


def test_on_bad_image_knows_two_words() -> None:
    with pytest.raises(DataError, match="use 'fail' or 'skip'"):
        source(a=1, b=1).checked("ignore")


def test_a_vanished_file_is_a_data_error(write_classes: Writer) -> None:
    made = open_dataset(write_classes("set", cat=2, dog=2))
    (Path(made.name) / "dog" / "01.png").unlink()
    for act in (lambda: made.images(1), lambda: made.digest, made.checked):
        with pytest.raises(DataError, match=r"'dog/01.png'"):
            act()


def test_sources_travel_between_processes(write_classes: Writer) -> None:
    made = open_dataset(write_classes("set", cat=2, dog=2)).restrict(["dog", "cat"])
    assert torch.equal(pickle.loads(pickle.dumps(made)).images(0), made.images(0))
