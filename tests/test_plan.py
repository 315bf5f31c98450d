"""Laws of the plan: disjoint, complete, independent of workers; a seed depends on its own image only."""

import json
import random

import pytest

from dap.errors import ConfigError, StoreError
from dap.plan import from_record, only, plan_chunks, seed_of, to_record
from dap.types import Chunk, Unit

CASES = range(150)


def drawn(case: int) -> tuple[list[str], int, int, int, bool]:
    rng = random.Random(case)
    names = [f"class {n}" for n in range(rng.randint(1, 12))]
    return names, rng.randint(1, 15), rng.randint(0, 99), rng.randint(1, 40), rng.random() < 0.5


def test_a_seed_is_63_bits_stable_and_the_encoding_is_unambiguous() -> None:
    triples = [(r, n, i) for r in (0, 1, 11) for n in ("", "a", "a1", "1", 'a", 1', "ü", "\ud800") for i in (0, 1, 11)]
    seeds = {seed_of(*t) for t in triples}
    assert len(seeds) == len(triples)
    assert all(0 <= s < 2**63 for s in seeds)
    assert seed_of(0, "cat", 0) == 8831512583015396690  # must never change: it would change every dataset


@pytest.mark.parametrize("case", CASES)
def test_plans_are_disjoint_complete_and_keep_classes_whole(case: int) -> None:
    names, ipc, seed, chunk, whole = drawn(case)
    plan = plan_chunks(names, ipc, seed, chunk=chunk, whole_classes=whole)
    units = [u for c in plan for u in c.units]
    expected = [Unit(label, i, seed_of(seed, n, i)) for label, n in enumerate(names) for i in range(ipc)]
    assert units == expected
    assert [c.id for c in plan] == list(range(len(plan)))
    holders = [{c.id for c in plan if any(u.label == label for u in c.units)} for label in range(len(names))]
    if whole or ipc <= chunk:
        assert all(len(h) == 1 for h in holders)
    for c in plan:
        labels = {u.label for u in c.units}
        assert len(c.units) <= chunk or (whole and len(labels) == 1)
        assert len(labels) == 1 or all(len([u for u in c.units if u.label == label]) == ipc for label in labels)
    assert plan == plan_chunks(tuple(names), ipc, seed, chunk=chunk, whole_classes=whole)


@pytest.mark.parametrize("case", CASES)
def test_ipc_grows_in_place(case: int) -> None:
    names, ipc, seed, chunk, _ = drawn(case)
    small = plan_chunks(names, ipc, seed, chunk=chunk, whole_classes=False)
    large = plan_chunks(names, ipc + 1 + case % 7, seed, chunk=chunk + case % 3, whole_classes=False, done=small)
    fresh = plan_chunks(names, ipc + 1 + case % 7, seed, chunk=chunk, whole_classes=False)
    assert large[: len(small)] == small
    units = [u for c in large for u in c.units]
    assert len(units) == len(set(units))
    assert set(units) == {u for c in fresh for u in c.units}
    assert [c.id for c in large] == list(range(len(large)))
    assert plan_chunks(names, ipc, seed, chunk=99, whole_classes=False, done=small) == small
    with pytest.raises(ConfigError, match="use --ipc"):
        plan_chunks(names, ipc, seed, chunk=chunk, whole_classes=False, done=large)


def test_coupled_classes_do_not_grow() -> None:
    done = plan_chunks(["a", "b"], 2, 0, chunk=4, whole_classes=True)
    assert plan_chunks(["a", "b"], 2, 0, chunk=4, whole_classes=True, done=done) == done
    with pytest.raises(ConfigError, match="depend on each other"):
        plan_chunks(["a", "b"], 3, 0, chunk=4, whole_classes=True, done=done)


def test_an_image_does_not_depend_on_the_other_classes() -> None:
    both = plan_chunks(["a", "b"], 3, 5, chunk=2, whole_classes=False)
    alone = plan_chunks(["b"], 1, 5, chunk=9, whole_classes=True)
    assert alone[0].units[0].seed == next(u.seed for c in both for u in c.units if (u.label, u.index) == (1, 0))


def test_a_class_too_large_for_a_chunk_is_cut_evenly() -> None:
    for ipc, chunk, sizes in ((51, 50, [26, 25]), (100, 50, [50, 50]), (7, 3, [3, 3, 1]), (5, 4, [3, 2])):
        plan = plan_chunks(["a", "b"], ipc, 0, chunk=chunk, whole_classes=False)
        assert [len(c.units) for c in plan] == sizes * 2


def test_only_finds_the_chunks_of_a_class_and_of_an_image() -> None:
    plan = plan_chunks(["a", "b", "c"], 5, 0, chunk=2, whole_classes=False)
    assert [c.id for c in only(plan, 1)] == [3, 4, 5]
    assert [c.id for c in only(plan, 1, 2)] == [4]
    for label, index in ((3, None), (1, 5), (-1, None)):
        with pytest.raises(ConfigError, match="not in the plan"):
            only(plan, label, index)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ipc": 0}, "ipc is 0"),
        ({"chunk": 0}, "chunk is 0"),
        ({"class_names": []}, "no classes"),
        ({"class_names": ["a", "a"]}, "twice"),
    ],
)
def test_bad_numbers_are_refused(changed: dict[str, object], message: str) -> None:
    arguments = {"class_names": ["a"], "ipc": 1, "run_seed": 0, "chunk": 1, "whole_classes": False, **changed}
    with pytest.raises(ConfigError, match=message):
        plan_chunks(**arguments)


def test_an_earlier_plan_of_another_run_is_refused() -> None:
    done = plan_chunks(["a", "b"], 2, 0, chunk=2, whole_classes=False)
    for names, seed in ((["a", "b"], 1), (["a", "c"], 0), (["a"], 0)):
        with pytest.raises(ConfigError, match="other classes or another seed"):
            plan_chunks(names, 3, seed, chunk=2, whole_classes=False, done=done)
    with pytest.raises(ConfigError, match="stands at position"):
        plan_chunks(["a", "b"], 3, 0, chunk=2, whole_classes=False, done=done[1:])


@pytest.mark.parametrize("case", range(20))
def test_records_round_trip_through_json(case: int) -> None:
    names, ipc, seed, chunk, whole = drawn(case)
    plan = plan_chunks(names, ipc, seed, chunk=chunk, whole_classes=whole)
    assert from_record(json.loads(json.dumps(to_record(plan)))) == plan
    assert from_record([[[0, 1, 2]]]) == (Chunk(0, (Unit(0, 1, 2),)),)


@pytest.mark.parametrize(
    "record",
    [None, {}, "x", [1], [[]], [[1]], [[[1, 2]]], [[[0, 0, -1]]], [[[0, 0, 2**63]]], [[[True, 0, 0]]],
     [[[0, 0.0, 0]]], [[["0", 0, 0]]], [[[0, 0, 1], [0, 0, 1]]], [[[0, 0, 1]], [[0, 0, 2]]]],
)  # fmt: skip
def test_malformed_records_are_refused_in_one_line(record: object) -> None:
    with pytest.raises(StoreError, match=r"delete plan\.json") as caught:
        from_record(record)
    assert "\n" not in str(caught.value)
