"""Laws of the store: nothing half-written looks finished, a crash changes no byte, every change is found."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from dap.config import digest
from dap.errors import StoreError
from dap.plan import plan_chunks
from dap.store import Store, folder_names
from dap.types import Chunk

NASTY = (
    "train",
    "test set",
    "bullet train",
    "a/b",
    "ünï code",
    "..",
    "CON",
    "0",
    "1",
    "10",
    " spaced ",
    "x" * 300,
)
SPLITS = ["train", "training", "validation", "valid", "dev", "val", "test", "testing", "eval", "evaluation"]
CLASS_LISTS = {
    "nasty": NASTY,
    "digits": tuple("0123456789"),
    "twelve": tuple(map(str, range(12))),
    "splits": tuple(before + word for before in ("", "0466_", "my ", "dev ", "9") for word in SPLITS),
    "splits after": ("Test", "dev-set", "eval", "train1", "val.x"),
    "hostile": (
        "a*", "b?c", "[d]", "e::f", "#g%20", "$HOME", "~root", "__pycache__", ".hidden", "-rf", "a\x00b\n",
        "\ud800",
        "\u202egnp", "", "   ", "...", "nul.txt", "com¹", "a`<b>|", "日本語", "👩‍🔬", "é", "e\u0301",
        "&quot;", "{x}", "metadata.jsonl",
    ),
    "case": ("A", "a", "ß", "ss"),
    "long": tuple("ü" * 200 + c for c in "abc"),
}  # fmt: skip


def settings(names: tuple[str, ...] = ("cat", "dog"), ipc: int = 3, **guidance: Any) -> dict[str, Any]:
    determines = {
        "guidance": {"name": "dap", "strength": 0.3, **guidance},
        "run": {"seed": 0},
        "class_names": list(names),
    }
    return {
        "digest": digest(determines),
        "determines": determines,
        "config": {
            "data": {"source": "some|*data*\n# x"},
            "run": {"ipc": ipc, "seed": 0},
            "guidance": {"preset": "dap", "name": "m:C", "strength": 0.3},
        },
        "class_names": names,
        "versions": {"torch": "2"},
    }


def make(
    path: Path, names: tuple[str, ...] = ("cat", "dog"), ipc: int = 3, chunk: int = 2, commit: bool = True
) -> Store:
    record = settings(names, ipc)
    done = Store.check(path, record)
    chunks = plan_chunks(names, ipc, 0, chunk=chunk, whole_classes=False, done=done)
    store = Store.create(path, record, chunks, micro_batch=4)
    for c in store.missing() if commit else ():
        store.commit(c, pictures(c), {"seconds": 1.5})
    if commit:
        store.finish()
    return store


def pictures(chunk: Chunk, channels: int = 3, side: int = 8) -> np.ndarray:
    draws = [
        np.random.default_rng(u.seed).integers(0, 256, (channels, side, side), dtype=np.uint8) for u in chunk.units
    ]
    return np.stack(draws)


def contents(path: Path) -> dict[str, bytes]:
    """Every file but config.json, which states when it was made."""
    files = {p.relative_to(path).as_posix(): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}
    return {name: data for name, data in files.items() if name != "config.json"}


# ---- folder names


@pytest.mark.parametrize("which", CLASS_LISTS)
def test_folders_sort_in_label_order_and_are_safe(which: str) -> None:
    folders = folder_names(CLASS_LISTS[which])
    assert list(folders) == sorted(folders)
    assert len({f.casefold() for f in folders}) == len(CLASS_LISTS[which])
    for folder in folders:
        assert 0 < len(folder.encode()) <= 120
        assert not set(folder) & set('<>:"/\\|?*[]\0\n')
        assert folder == folder.strip(" .")
        assert not folder.startswith(("__", "."))
        assert folder.split(".")[0].lower() not in ("con", "nul", "com¹")


def test_names_that_are_safe_and_sorted_are_kept() -> None:
    assert folder_names(tuple("0123456789")) == tuple("0123456789")
    assert folder_names(("n01440764", "n02102040")) == ("n01440764", "n02102040")
    assert folder_names(("cat", "dog")) == ("cat", "dog")
    assert folder_names(("Zürich", "Ürümqi"))[1] == "Ürümqi"


def test_names_are_cleaned_and_prefixed_where_they_must_be() -> None:
    assert folder_names(tuple(map(str, range(12))))[9:] == ("09_9", "10_10", "11_11")
    assert folder_names(("dog", "cat")) == ("0_dog", "1_cat")
    assert folder_names(("a/b", "a_b")) == ("0_a_b", "1_a_b")
    assert folder_names(("bullet train", "train", "train set")) == ("bullet+train", "train+", "train+set")
    assert folder_names(("0466_bullet_train", "1test")) == ("0466_bullet+train", "1+test")
    assert folder_names(("..", "CON")) == ("0_class", "1_CON_")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    yield datasets
    datasets.enable_progress_bars()


@pytest.mark.filterwarnings("default")  # what datasets warns of is not ours
@pytest.mark.parametrize("which", CLASS_LISTS)
def test_both_libraries_read_the_labels_in_source_order(which: str, tmp_path: Path, offline: Any) -> None:
    from torchvision.datasets import ImageFolder

    names = CLASS_LISTS[which]
    store = make(tmp_path / "test" / "d", names, ipc=2, chunk=8)
    assert store.verify() == []
    folder = ImageFolder(str(store.path / "data"))
    assert folder.classes == list(store.folders)
    assert folder.targets == [label for label in range(len(names)) for _ in range(2)]
    whole = {"path": str(store.path)}, {"path": "imagefolder", "data_dir": str(store.path / "data")}
    for where in whole:  # by the card's own configuration, and as the card says
        read = offline.load_dataset(**where, cache_dir=str(tmp_path / "cache"))
        assert list(read) == ["train"]
        assert read["train"].features["label"].names == list(store.folders)
        assert read["train"]["label"][:] == folder.targets
        pixels = np.asarray(read["train"][3]["image"])
        assert np.array_equal(pixels, pictures(store.chunks[0])[3].transpose(1, 2, 0))


@pytest.mark.filterwarnings("default")
def test_a_single_class_keeps_its_label_by_the_card(tmp_path: Path, offline: Any) -> None:
    store = make(tmp_path / "d", ("cat",))
    read = offline.load_dataset(str(store.path), cache_dir=str(tmp_path / "cache"))
    assert read["train"].features["label"].names == ["cat"]


# ---- begin, resume, refuse


def test_a_dataset_opens_as_it_was_made(tmp_path: Path) -> None:
    made = make(tmp_path / "new" / "parents" / "d", NASTY)
    read = Store.open(made.path)
    assert (read.chunks, read.config, read.micro_batch) == (made.chunks, made.config, 4)
    assert read.class_names == NASTY
    assert list(json.loads((made.path / "config.json").read_text())["folders"].values()) == list(NASTY)
    assert read.images == read.planned == 36
    assert read.missing() == ()
    rows = [json.loads(line) for line in (made.path / "manifest.jsonl").read_text().splitlines()]
    assert rows == read.rows()
    assert [(r["label"], r["index"]) for r in rows] == [(label, i) for label in range(12) for i in range(3)]
    assert set(rows[0]) == {"path", "label", "class", "index", "seed", "sha256", "chunk"}


def test_running_again_changes_nothing_and_ipc_grows(tmp_path: Path) -> None:
    first = make(tmp_path / "d", ipc=2)
    config, before = (first.path / "config.json").read_bytes(), contents(first.path)
    make(first.path, ipc=2)
    assert (first.path / "config.json").read_bytes() == config
    assert contents(first.path) == before
    grown = make(first.path, ipc=5)
    assert grown.chunks[: len(first.chunks)] == first.chunks
    assert grown.verify() == []
    assert Store.open(first.path).config["config"]["run"]["ipc"] == 5
    assert grown.config["created"] == first.config["created"]
    fresh = contents(make(tmp_path / "fresh", ipc=5).path)
    assert {n: b for n, b in contents(grown.path).items() if n.startswith("data/")} == {
        n: b for n, b in fresh.items() if n.startswith("data/")
    }
    with pytest.raises(StoreError, match="holds another plan, 10 images"):
        Store.create(first.path, settings(ipc=2), first.chunks, 4)
    with pytest.raises(StoreError, match="micro-batches of 4"):
        Store.create(first.path, settings(ipc=5), grown.chunks, 5)


def test_another_configuration_is_refused_with_what_differs(tmp_path: Path) -> None:
    store = make(tmp_path / "d")
    before = contents(store.path)
    with pytest.raises(StoreError, match=r"guidance\.strength: 0\.3 there, 0\.1 asked.*choose another --out"):
        Store.check(store.path, settings(strength=0.1))
    many = settings(**{f"k{n}": n for n in range(9)})
    with pytest.raises(StoreError, match=r"k4: nothing there, 4 asked; and 4 more\)"):
        Store.create(store.path, many, store.chunks, 4)
    with pytest.raises(StoreError, match="class_names"):
        Store.create(store.path, {**settings(), "class_names": ("cat", "cow")}, store.chunks, 4)
    assert contents(store.path) == before


def test_directories_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    record, plan = settings(), plan_chunks(("cat", "dog"), 3, 0, chunk=2, whole_classes=False)
    (tmp_path / "file").write_text("x")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("x")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"digest": "x"}')
    for name, message in (
        ("file", "is a file"),
        ("photos", r"found a\.jpg"),
        ("model", "damaged, or was edited"),
    ):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(StoreError, match=message):
            Store.create(tmp_path / name, record, plan, 4)
        assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(StoreError, match="file"):
        Store.create(tmp_path / "file" / "below", record, plan, 4)
    for name, message in (
        ("photos", r"found a\.jpg"),
        ("none", "no such directory"),
        ("file", "a file"),
        ("model", "damaged"),
    ):
        with pytest.raises(StoreError, match=message):
            Store.open(tmp_path / name)
    (tmp_path / "empty").mkdir()
    assert Store.check(tmp_path / "empty", record) == ()
    Store.create(tmp_path / "empty", record, plan, 4)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC])
@pytest.mark.parametrize("call", ["open", "fsync", "replace", "mkdir"])
def test_what_the_system_refuses_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, call: str
) -> None:
    store = make(tmp_path / "d", commit=False)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    target = Path if call in ("open", "mkdir") else os
    with monkeypatch.context() as patched:
        patched.setattr(target, call, refuse)
        with pytest.raises(
            StoreError, match="free 1 MB and run" if code == errno.ENOSPC else "choose another --out"
        ) as caught:
            store.commit(store.chunks[0], pictures(store.chunks[0]))
        with pytest.raises(StoreError):
            make(tmp_path / "new")
    assert "\n" not in str(caught.value)
    assert not list(store.path.rglob(".dap-*"))
    assert store.missing() == store.chunks


def test_an_unwritable_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    if os.access(tmp_path / "locked", os.W_OK):
        pytest.skip("this user may write anywhere")
    with pytest.raises(StoreError, match="Permission denied"):
        make(tmp_path / "locked" / "d")


# ---- commit


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_pixels_and_modes_come_back(tmp_path: Path, channels: int, mode: str) -> None:
    store = make(tmp_path / "d", commit=False)
    chunk = store.chunks[0]
    images = pictures(chunk, channels)
    store.commit(chunk, torch.from_numpy(images))
    before = contents(store.path)
    store.commit(chunk, images)
    assert contents(store.path) == before
    for unit, image in zip(chunk.units, images, strict=True):
        with Image.open(store.path / store.file_of(unit)) as picture:
            assert picture.mode == mode
            assert not picture.info
            assert np.array_equal(np.asarray(picture).reshape(8, 8, channels).transpose(2, 0, 1), image)
    for wrong in (images[:1], images.astype(np.float32), images[:, :, 0], np.repeat(images, 2, axis=1)):
        with pytest.raises(ValueError, match="not uint8"):
            store.commit(chunk, wrong)


def test_a_crash_at_any_write_leaves_nothing_that_looks_done_and_resumes_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = contents(make(tmp_path / "whole").path)
    real, crashes = os.replace, 0
    for k in range(1, 100):
        calls = 0

        def replace(source: Any, target: Any, k: int = k) -> None:
            nonlocal calls
            calls += 1
            if calls == k:
                raise KeyboardInterrupt
            real(source, target)

        out = tmp_path / f"crash{k}"
        monkeypatch.setattr(os, "replace", replace)
        try:
            make(out)
            break
        except KeyboardInterrupt:
            crashes += 1
        finally:
            monkeypatch.setattr(os, "replace", real)
        if (out / "plan.json").exists():
            found = Store.open(out)
            assert [found.is_done(c) for c in found.chunks] == [found._marker(c).exists() for c in found.chunks]
            assert any("not done" in p for p in found.verify()) == bool(found.missing())
        make(out)
        assert contents(out) == whole
    assert crashes == len(whole) + 1  # each file, and config.json


KILLED = """
import os, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_store import make
real, left = os.replace, [{k}]
def replace(source, target):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), 9)
    real(source, target)
os.replace = replace
make(Path({out!r}))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("k", [1, 2, 4, 7])
def test_kill_minus_nine_then_the_same_command(tmp_path: Path, k: int) -> None:
    out = tmp_path / "d"
    code = KILLED.format(tests=str(Path(__file__).parent), k=k, out=str(out))
    ended = subprocess.run([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(list(out.rglob(".dap-*.tmp"))) == 1
    make(out)
    assert contents(out) == contents(make(tmp_path / "whole").path)


def test_two_processes_may_write_the_same_chunk_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make(tmp_path / "d", commit=False)
    chunk, real, nested = store.chunks[0], os.replace, []

    def replace(source: Any, target: Any) -> None:
        if len(nested) < 3 and len(nested) not in nested:
            nested.append(len(nested))
            Store.open(store.path).commit(chunk, pictures(chunk))  # another one, from start to end, in between
            make(store.path, commit=False)  # and a third starts, sweeping temporary files
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    store.commit(chunk, pictures(chunk))
    monkeypatch.setattr(os, "replace", real)
    assert store.is_done(chunk)
    assert not list(store.path.rglob(".dap-*"))


# ---- verify


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("finished") / "d").path


def test_a_flipped_byte_is_found_in_every_file(finished: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for file in (p for p in sorted(finished.rglob("*")) if p.is_file() and p.name != "README.md"):
        good = file.read_bytes()
        for at in {0, len(good) - 1, *rng.integers(0, len(good), 12).tolist()}:
            file.write_bytes(good[:at] + bytes([good[at] ^ (1 << int(rng.integers(8)))]) + good[at + 1 :])
            try:
                problems = Store.open(finished).verify()
            except StoreError as error:
                problems = [str(error)]
            finally:
                file.write_bytes(good)
            assert problems, (file, at)
            assert file.name in problems[0]
    assert Store.open(finished).verify() == []


def test_missing_extra_and_undone_are_found_and_mended_by_running_again(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "d"
    shutil.copytree(finished, out)
    store, whole = Store.open(out), contents(out)
    (out / "data/cat/00001.png").unlink()
    (out / "chunks/00002.json").unlink()
    (out / "data/cat/mine.png").write_bytes(b"x")
    (out / "data/elk").mkdir()
    (out / "chunks/00099.json").write_text("{}")
    (out / "data/dog" / f".dap-{'0' * 32}.tmp").write_bytes(b"x")
    problems = "\n".join(store.verify())
    for message in (
        "data/cat/00001.png is missing",
        "1 of 4 chunks are not done (2)",
        "data/cat/mine.png does not belong",
        "data/elk does not belong",
        "chunks/00099.json does not belong",
        "is left over",
    ):
        assert message in problems
    assert len(problems.splitlines()) == 6
    assert [c.id for c in store.missing()] == [0, 2]
    (out / "data/cat/mine.png").unlink()
    (out / "data/elk").rmdir()
    (out / "chunks/00099.json").unlink()
    (out / "manifest.jsonl").unlink()
    make(out)
    assert contents(out) == whole


def test_paths_in_a_marker_are_never_opened(tmp_path: Path) -> None:
    from dap.seal import sealed

    store = make(tmp_path / "d")
    marker = store.path / "chunks" / "00000.json"
    record = json.loads(marker.read_text())
    for path in ("../../secret", "/etc/passwd", "data/cat/../../config.json"):
        marker.write_bytes(sealed({**record, "files": {**record["files"], path: "0" * 64}}))
        assert any(repr(path) in p for p in store.verify())
        assert not store.is_done(store.chunks[0])
    config = json.loads((store.path / "config.json").read_text())
    (store.path / "config.json").write_bytes(sealed({**config, "folders": {"..": "cat", "dog": "dog"}}, indent=2))
    with pytest.raises(StoreError, match="outside data/"):
        Store.open(store.path)


# ---- card


def test_the_card_is_valid_whatever_the_names_are(tmp_path: Path) -> None:
    store = make(tmp_path / "d", CLASS_LISTS["hostile"], ipc=1, chunk=50)
    text = (store.path / "README.md").read_text(encoding="utf-8")
    header = yaml.safe_load(text.split("---\n")[1])
    assert header["pretty_name"] == "some|*data*\n# x, distilled to 26 images"
    assert header["configs"][0]["data_files"] == [{"split": "train", "path": "data/**"}]
    assert header["license"] == "unknown"
    assert "# some\\|\\*data\\*\ufffd\\# x, distilled" in text
    assert "| a\\`\\<b\\>\\| |" in text
    assert store.config["digest"] in text


def test_an_edited_card_stays_and_ours_is_renewed(tmp_path: Path) -> None:
    store = make(tmp_path / "d", ipc=1)
    readme = store.path / "README.md"
    assert "distilled to 2 images" in readme.read_text()
    store = make(store.path, ipc=2)
    assert "distilled to 4 images" in readme.read_text()
    readme.write_text(readme.read_text().replace("license: ", "license: mit # "))
    edited = readme.read_bytes()
    store = make(store.path, ipc=3)
    assert readme.read_bytes() == edited
    assert store.verify() == []


def test_an_unfinished_dataset_says_so(tmp_path: Path) -> None:
    store = make(tmp_path / "d", commit=False)
    store.commit(store.chunks[0], pictures(store.chunks[0]))
    store.finish()
    assert "Unfinished: 2 of 6 images" in (store.path / "README.md").read_text()
    assert len((store.path / "manifest.jsonl").read_text().splitlines()) == 2
