"""The bank on disk: what is put comes back, and nothing damaged, foreign or unfinished ever does."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from dap.bank import ABANDONED, Bank
from dap.errors import DapWarning, StoreError

IDENTITY = {"tap": "block.1", "timesteps": [999, 0]}
CLASSES = [{"name": "ant", "images": "a1"}, {"name": "bee", "images": "b2"}]


def bank(path: Path, classes: list[dict[str, str]] = CLASSES, **changes: object) -> Bank:
    made = Bank(path, IDENTITY | changes, classes)
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
    assert bank(tmp_path, [{"name": "ant", "images": "a9"}]).get(0, 0) is None


def test_a_class_is_found_whatever_other_classes_there_are(tmp_path: Path) -> None:
    bank(tmp_path).put(1, 0, rows())
    more = bank(tmp_path, [{"name": "ape", "images": "c3"}, *CLASSES])
    found = more.get(2, 0)
    assert found is not None
    assert torch.equal(found, rows())
    assert more.get(0, 0) is None
    assert more.get(1, 0) is None


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    one = bank(tmp_path)
    one.put(0, 0, rows())
    path = one.entry(0, 0)
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
    one.entry(0, 0).rename(one.entry(0, 1))
    assert one.get(0, 1) is None


@pytest.mark.parametrize("other", ["I16", "U16", "BF16"])
def test_bytes_read_as_another_type_are_not_the_features(other: str, tmp_path: Path) -> None:
    one = bank(tmp_path)
    one.put(0, 0, rows())
    whole = one.entry(0, 0).read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    header["features"]["dtype"] = other
    text = json.dumps(header, separators=(",", ":")).encode().ljust(length + 8)
    one.entry(0, 0).write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])
    assert one.get(0, 0) is None


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


WRITER = """
import os, sys
from pathlib import Path
import torch
from dap.bank import Bank
inner = os.fsync
def killed(handle):
    inner(handle)
    os.kill(os.getpid(), 9)
one = Bank(Path(sys.argv[1]), {}, [{}])
one.prepare()
os.fsync = killed
one.put(0, 0, torch.zeros(4, 4))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_what_a_killed_writer_leaves_is_no_entry_and_goes_when_nobody_can_be_writing_it(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", WRITER, str(tmp_path)])
    assert ended.returncode == -signal.SIGKILL
    one = Bank(tmp_path, {}, [{}])
    one.prepare()
    (left,) = one.path.glob(".dap-*.tmp")  # young: another process may be at it
    assert one.get(0, 0) is None
    assert one.missing_bytes({(0, 0): (4, 4)}) == 32
    old = time.time() - ABANDONED - 60
    os.utime(left, (old, old))
    (mine := one.path / "mine.tmp").write_text("")
    os.utime(mine, (old, old))
    one.prepare()
    assert sorted(p.name for p in one.path.iterdir()) == ["bank.json", "mine.tmp"]
    one.put(0, 0, torch.zeros(4, 4))
    assert torch.equal(one.get(0, 0), torch.zeros(4, 4))  # type: ignore[arg-type]


@pytest.mark.parametrize(("code", "said"), [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "Permission denied")])
def test_what_the_disk_refuses_meanwhile_is_said_once_and_ends_nothing(
    code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, tried = bank(tmp_path), []
    one.put(0, 0, rows())

    def refused(path: Path, data: bytes) -> None:
        tried.append(path)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("dap.bank.write_whole", refused)
    with pytest.warns(DapWarning, match=rf"reference cache .*{one.path.name} cannot be written \({said}\)") as caught:
        one.put(0, 1, rows())
    one.put(0, 2, rows())
    assert len(caught) == len(tried) == 1
    assert torch.equal(one.get(0, 0), rows())  # type: ignore[arg-type]


def test_what_is_there_counts_by_name_and_shape(tmp_path: Path) -> None:
    one = bank(tmp_path)
    one.put(0, 0, rows())
    one.put(0, 7, rows())  # of a step that is not wanted
    one.put(1, 0, rows())
    wanted = {(label, step): (6, 10) for label in range(2) for step in range(2)}
    assert one.missing_bytes(wanted) == 2 * 120
    one.entry(1, 0).write_bytes(one.entry(1, 0).read_bytes()[:-1])
    assert one.missing_bytes(wanted) == 3 * 120
    assert one.missing_bytes({(0, 0): (5, 10)}) == 100
    assert Bank(tmp_path / "nowhere", IDENTITY, CLASSES).missing_bytes(wanted) == 4 * 120
    one.check_room(wanted)


def test_too_large_is_refused_with_the_size_and_what_each_way_out_costs(tmp_path: Path) -> None:
    said = (
        r"needs 2000000000\.0 GB .*another --reference-cache, or none; .*cost.*guidance\.projection=4096: the gradient"
    )
    with pytest.raises(StoreError, match=said):
        Bank(tmp_path / "deep" / "er", IDENTITY, CLASSES).check_room({(0, 0): (10**9, 10**9)})


def test_where_nothing_can_be_written_is_told_early_and_what_is_all_there_may_be_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = bank(tmp_path)
    one.put(0, 0, rows())
    monkeypatch.setattr("os.access", lambda path, mode: False)
    one.check_room({(0, 0): (6, 10)})
    with pytest.raises(StoreError, match=r"cannot use .* choose another --reference-cache"):
        one.check_room({(0, 1): (6, 10)})


def test_a_directory_that_cannot_be_made_is_one_line_with_the_option_to_change(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot use .* choose another --reference-cache"):
        bank(tmp_path / "file")
