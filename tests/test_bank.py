"""The bank on disk: what is put comes back, and nothing damaged, foreign or unfinished ever does."""

import multiprocessing
from pathlib import Path

import pytest
import torch

from dap.bank import Bank
from dap.errors import StoreError

IDENTITY = {"tap": "block.1", "timesteps": [999, 0]}


def bank(path: Path, **changes: object) -> Bank:
    made = Bank(path, IDENTITY | changes)
    made.prepare()
    return made


def rows(seed: int = 0) -> torch.Tensor:
    return torch.randn(6, 10, generator=torch.Generator().manual_seed(seed)).half()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_what_is_put_comes_back_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    one = bank(tmp_path)
    assert one.get(0, 3) is None
    one.put(0, 3, rows().to(dtype))
    again = bank(tmp_path).get(0, 3)
    assert again is not None
    assert again.dtype == dtype
    assert torch.equal(again, rows().to(dtype))
    assert one.get(1, 3) is None
    assert one.get(0, 4) is None


def test_another_identity_sees_nothing_of_it(tmp_path: Path) -> None:
    bank(tmp_path).put(0, 0, rows())
    assert bank(tmp_path, tap="block.2").get(0, 0) is None


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    one = bank(tmp_path)
    one.put(0, 0, rows())
    path = one.path / "0-0.safetensors"
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        found = one.get(0, 0)
        assert found is None or torch.equal(found, rows()), at  # padding in the header may change unseen
    path.write_bytes(whole[: len(whole) // 2])
    assert one.get(0, 0) is None


def test_an_entry_under_another_name_is_not_taken_for_it(tmp_path: Path) -> None:
    one = bank(tmp_path)
    one.put(0, 0, rows())
    (one.path / "0-0.safetensors").rename(one.path / "0-1.safetensors")
    assert one.get(0, 1) is None


def _write(path: Path) -> None:
    for _ in range(20):
        bank(path).put(0, 0, rows())


def test_several_processes_may_write_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write, args=(tmp_path,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        found = bank(tmp_path).get(0, 0)
        assert found is None or torch.equal(found, rows())
    assert all(worker.exitcode == 0 for worker in workers)
    assert torch.equal(bank(tmp_path).get(0, 0), rows())  # type: ignore[arg-type]


def test_too_large_is_refused_with_the_size_and_what_is_there_counts(tmp_path: Path) -> None:
    one = bank(tmp_path)
    one.put(0, 0, rows())
    assert one.missing_bytes(3, 100) == 200
    one.check_room(10, 100)
    with pytest.raises(StoreError, match=r"needs 1000000000\.0 GB .*guidance\.projection=4096"):
        Bank(tmp_path / "deep" / "er", IDENTITY).check_room(10**9, 10**9)


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot use"):
        bank(tmp_path / "file")
