"""What a chain keeps for its next step: nothing that is needed goes, and there is never more than was agreed."""

import pytest
import torch

from dap.kept import Kept

LABELS, STEPS, EVERY = 10, 32, 4  # classes of a chunk, steps of a chain, steps from anchor to anchor


def made(room: int, chains: list[range]) -> list[int]:
    """How many anchors each chain of a chunk's classes has to make when there is room for `room`."""
    kept, counts = Kept(room * 4), []
    for labels in chains:
        counts.append(0)
        for step in range(STEPS):
            low = step - step % EVERY
            for label in labels:
                kept.go(step, low)
                for anchor in (low, low + EVERY):
                    if kept.get((label, anchor)) is None:
                        counts[-1] += 1
                        kept.put((label, anchor), torch.zeros(1))
                    assert kept.nbytes <= 4 * (room + 2)  # the two of the class at work
    return counts


def test_with_room_for_two_anchors_a_class_each_is_made_once() -> None:
    assert made(2 * LABELS, [range(LABELS)]) == [LABELS * (STEPS // EVERY + 1)]


@pytest.mark.parametrize("short", [1, 3, 10, 20])
def test_what_does_not_fit_is_made_again_and_nothing_besides(short: int) -> None:
    (count,) = made(2 * LABELS - short, [range(LABELS)])
    assert count <= LABELS * (STEPS // EVERY + 1) + short * STEPS


def test_the_next_chunk_has_the_room_of_the_last() -> None:
    once = LABELS * (STEPS // EVERY + 1)
    assert made(2 * LABELS, [range(LABELS), range(LABELS, 2 * LABELS), range(2 * LABELS, 3 * LABELS)]) == [once] * 3


def test_with_room_for_all_a_chain_that_begins_again_makes_nothing() -> None:
    once = LABELS * (STEPS // EVERY + 1)
    assert made(once, [range(LABELS), range(LABELS)]) == [once, 0]


def test_what_is_never_passed_stays_as_long_as_its_chunk_is_at_work() -> None:
    kept, encoded = Kept(4 * 9), []
    for chunk in (range(10), range(10, 20)):
        for step in range(0, 40, 10):
            for label in chunk:
                kept.go(step, 0)
                if kept.get((label, 0)) is None:
                    encoded.append(label)
                    kept.put((label, 0), torch.zeros(1))
    assert len(encoded) <= 2 * 10 + 2 * 3  # room for nine of ten: the tenth again each time
