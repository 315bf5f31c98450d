"""The commands, as a user types them: exit codes, output, what lies on disk; killed and interrupted for real."""

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from dap.testing import save_tiny_dit, tiny_dit
from typed import Done, dap

DIGITS = tuple("0123456789")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny random DiT that knows the ten digits by name."""
    where = tmp_path_factory.mktemp("model") / "dit"
    return str(save_tiny_dit(where, tiny_dit(classes=10, class_names=DIGITS)))


def start(*words: object) -> subprocess.Popen[str]:
    """The command in a process of its own, to be killed."""
    command = [sys.executable, "-m", "dap.cli", *map(str, words)]
    alike = {**os.environ, "OMP_NUM_THREADS": "1"}  # as in this process: a backward pass's last bits depend on threads
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=alike)


def wait_for(ready: Callable[[], bool]) -> None:
    until = time.monotonic() + 200
    while not ready():
        assert time.monotonic() < until, "it never came so far"
        time.sleep(0.01)


def distil(model: str, out: Path, *more: object) -> Done:
    fast = ["--set", "sampling.steps=3", "--set", "guidance.reference_size=4", "--ipc", 2]
    return dap("distill", "digits:train", "--backbone", model, "--out", out, *fast, *more)


def files_of(directory: Path) -> dict[str, bytes]:
    """All that determines a set: its images, markers aside from their seconds."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted((directory / "data").rglob("*.png"))}


def test_distill_verify_evaluate(model: str, tmp_path: Path) -> None:
    out = tmp_path / "d"
    made = distil(model, out, "--json")
    assert made.returncode == 0, made.stderr
    record = json.loads(made.stdout)
    assert record["images"] == 20
    assert set(record) == {"out", "images", "digest", "seconds"}
    assert (
        made.stderr.strip()
        .splitlines()[-1]
        .startswith(f"next: dap evaluate {out} --test digits:test --baseline random")
    )

    checked = dap("verify", out, "--json")
    assert checked.returncode == 0
    assert json.loads(checked.stdout) == {"ok": True, "images": 20, "problems": []}

    judged = dap(
        "evaluate", out, "--test", "digits:test", "--protocol", "hard-tiny", "--repeats", 2, "--json",
        "--baseline", "random", "--set", "evaluation.epochs_scale=0.05",
    )  # fmt: skip
    assert judged.returncode == 0, judged.stderr
    result = json.loads(judged.stdout)
    assert result["protocol"] == "hard-tiny"
    assert result["scaled"] is True
    assert [row["set"] for row in result["results"]] == [str(out), "random"]
    for row in result["results"]:
        assert 0 <= row["last"]["mean"] <= row["best"]["mean"] <= 1
        assert row["last"]["sd"] is not None

    (out / "data" / "3" / "00001.png").write_bytes(b"not what was written")
    broken = dap("verify", out, "--json")
    assert broken.returncode == 1
    assert "data/3/00001.png" in json.loads(broken.stdout)["problems"][0]


def test_the_same_command_again_changes_nothing_and_other_settings_are_refused(model: str, tmp_path: Path) -> None:
    out = tmp_path / "d"
    assert distil(model, out).returncode == 0
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in out.rglob("*.png")}
    assert distil(model, out).returncode == 0
    assert before == {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in out.rglob("*.png")}
    again = distil(model, out).stdout
    assert again.startswith(f"{out}: complete already, 20 images, digest ")
    assert distil(model, out, "--only", "7").stdout.startswith(f"{out}: nothing was missing, 20 images, digest ")
    dry = distil(model, out, "--dry-run").stdout
    assert dry == f"{out}: 20 images are planned and nothing is missing; nothing was written\n"
    other = distil(model, out, "--set", "guidance.strength=0.1", "-q")
    assert other.returncode == 1
    assert 'guidance.strength: "auto" there, 0.1 asked' in other.stderr
    assert len(other.stderr.strip().splitlines()) == 1
    its_own = other.stderr.partition("or the same settings, which are dap ")[2]
    assert dap(*shlex.split(its_own)).stdout.startswith(f"{out}: complete already, 20 images, digest ")
    on_cpu = dap("distill", "digits:train", "--out", out, "--ipc", 2, "--device", "cpu", "--reference-cache", "c d")
    assert on_cpu.stderr.endswith(f" --out {out} --device cpu --reference-cache 'c d'\n")
    unguided = dap("distill", "digits:train", "--backbone", model, "--out", out, "--ipc", 2, "--guidance", "none")
    assert "(--guidance dap there, none asked)" in unguided.stderr


def test_killed_at_any_moment_the_same_command_ends_with_the_same_bytes(model: str, tmp_path: Path) -> None:
    slow = ["--set", "sampling.steps=40", "--set", "run.chunk=2", "--set", "run.micro_batch=2"]
    words = ["distill", "digits:train", "--backbone", model, "--ipc", "2", "--set", "guidance.reference_size=3", *slow]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert dap(*words, "--out", whole).returncode == 0
    for chunks in (3,):  # tests/test_store.py cuts at every single write; here the real command is killed
        with start(*words, "--out", cut) as running:
            wait_for(lambda made=chunks: len(list((cut / "chunks").glob("*.json"))) >= made)
            running.kill()
        assert running.returncode == -signal.SIGKILL
        assert dap("verify", cut).returncode == 1
    kept = 2 * len(list((cut / "chunks").glob("*.json")))
    again = dap(*words, "--out", cut)
    assert f"going on: {kept} of 20 images of {cut} are there\n" in again.stderr
    assert dap("verify", cut).returncode == 0
    assert "going on" not in dap(*words, "--out", cut).stderr  # nothing is left to do
    assert files_of(cut) == files_of(whole)
    assert (cut / "manifest.jsonl").read_bytes() == (whole / "manifest.jsonl").read_bytes()


def test_a_training_killed_at_any_moment_ends_with_the_same_weights(tmp_path: Path) -> None:
    small = ["width=16", "depth=1", "heads=2", "batch=8", "save_every=5", "sample_every=1000", "steps=300"]
    words = ["train", "digits:train", "--device", "cpu", *(w for s in small for w in ("--set", f"train.{s}"))]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert dap(*words, "--out", whole).returncode == 0
    with start(*words, "--out", cut) as running:
        wait_for((cut / "training" / "state.pt").exists)
        running.kill()
    assert running.returncode == -signal.SIGKILL
    assert not (cut / "model_index.json").exists(), "nothing half-made looks like a pipeline"
    again = dap(*words, "--out", cut)
    assert re.search(r"^going on after step \d+ of 300$", again.stderr, re.M), again.stderr
    weights = "transformer/diffusion_pytorch_model.safetensors"
    assert (cut / weights).read_bytes() == (whole / weights).read_bytes()


def test_an_image_brings_its_chunk_and_what_is_missing_comes_next(model: str, tmp_path: Path) -> None:
    out = tmp_path / "d"
    two = ["--set", "run.chunk=2"]
    made = distil(model, out, "--only", "3:1", "--only", "7", *two)
    assert "--only makes 4 images here: chunks are made whole\n" in made.stderr
    again = distil(model, out, "--only", "3:1", *two)
    assert again.stdout.startswith(f"{out}: nothing was missing, 4 of 20 images")
    assert "--only" not in again.stderr.partition("next: ")[0]
    assert "going on" not in again.stderr
    dry = distil(model, out, "--only", "3:1", "--dry-run", *two).stdout
    assert dry == f"{out}: 20 images are planned and of what was asked for nothing is missing; nothing was written\n"
    assert made.stdout.startswith(f"{out}: 4 of 20 images in ")
    last = made.stderr.strip().splitlines()[-1]
    assert last.startswith("next: dap distill digits:train --backbone ")  # no evaluation, which would be refused
    rest = dap(*shlex.split(last)[2:])
    assert rest.stdout.startswith(f"{out}: 20 images in "), rest.stderr
    assert f"going on: 4 of 20 images of {out} are there\n" in rest.stderr
    wrong = distil(model, out, "--only", "7:2", *two)
    assert wrong.stderr.endswith("dap: '7:2' is not in the plan: class '7' has the images 0 to 1\n")
    assert "--only makes" not in distil(model, tmp_path / "one", "--only", "7", *two).stderr


def test_the_next_command_is_for_all_sets_that_were_made(model: str, tmp_path: Path) -> None:
    first, second = (str(tmp_path / "s" / f"seed-{seed}") for seed in (0, 1))
    two = ["--seeds", "0,1", "--set", "run.chunk=2", "--device", "cpu"]
    half = distil(model, tmp_path / "s", *two, "--only", "7").stderr.strip().splitlines()[-1]
    assert half.startswith("next: dap distill ")
    assert " --seeds 0,1 " in half
    assert half.endswith(f"--out {tmp_path / 's'} --device cpu")
    whole = dap(*shlex.split(half)[2:]).stderr.strip().splitlines()[-1]
    assert whole.startswith(f"next: dap evaluate {first} {second} --test digits:test --baseline random")


def test_more_images_than_real_ones_are_not_compared_with_as_many_real_ones(tmp_path: Path) -> None:
    for label, name in enumerate(("a", "b")):
        for index in range(2 + label):
            path = tmp_path / "real" / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 40 * index + 20 * label).save(path)
    model = save_tiny_dit(tmp_path / "m", tiny_dit(classes=2, class_names=("a", "b")))
    words = ["distill", tmp_path / "real", "--backbone", model, "--set", "sampling.steps=3", "--set", "data.mode=L"]
    for ipc, random in ((2, True), (3, False)):
        made = dap(*words, "--ipc", ipc, "--out", tmp_path / f"d{ipc}")
        assert made.returncode == 0, made.stderr
        assert ("--baseline random" in made.stderr.splitlines()[-1]) is random


def test_interrupted_by_the_keyboard(model: str, tmp_path: Path) -> None:
    out = tmp_path / "d"
    words = [
        "distill",
        "digits:train",
        "--backbone",
        model,
        "--ipc",
        "1",
        "--out",
        str(out),
        "--set",
        "sampling.steps=999",
    ]
    for chunks, saved in ((0, "nothing was saved yet"), (1, f" of 10 images of {out} are saved")):
        with start(*words, "--set", "guidance.reference_size=4", "--set", "run.chunk=1") as running:
            wait_for((out / "plan.json").exists if not chunks else (out / "chunks" / "00000.json").exists)
            running.send_signal(signal.SIGINT)
            _, talk = running.communicate(timeout=60)
        assert running.returncode == 130
        assert f"To go on: dap {' '.join(words)}" in talk
        assert saved in talk
        assert "Traceback" not in talk


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["keyboard", "scheduler"])
def test_a_training_that_is_interrupted_is_saved_where_it_stands(number: signal.Signals, tmp_path: Path) -> None:
    small = ["width=16", "depth=1", "heads=2", "batch=8", "steps=100000", "warmup=1", "save_every=99999"]
    out = tmp_path / "m"
    words = ["train", "digits:train", "--out", out, *(w for s in small for w in ("--set", f"train.{s}"))]
    with start(*words) as running:
        wait_for((out / "training" / "loss.csv").exists)
        wait_for(lambda: (out / "training" / "loss.csv").stat().st_size > 0)
        running.send_signal(number)
        _, talk = running.communicate(timeout=60)
    assert running.returncode == 130
    said = re.search(r"interrupted; saved after step (\d+) of 100000\. To go on: dap train digits:train", talk)
    assert said is not None, talk
    import torch

    assert torch.load(out / "training" / "state.pt", weights_only=True)["step"] == int(said.group(1))


def test_dry_run_says_what_and_writes_nothing(model: str, tmp_path: Path) -> None:
    out = tmp_path / "d"
    done = distil(model, out, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["images"] == 20
    assert record["real_rows"] == 1 * (10 * 8 + 10 * 8)  # one step is guided: ten classes of eight, and their pool
    assert record["forwarded_rows"] == 2 * 20  # two of three steps are taken
    assert record["disk_bytes"] > 0
    assert not out.exists()
    said = distil(model, out, "--dry-run")
    assert "nothing was written" in said.stdout


def test_only_makes_the_chunks_of_a_class(model: str, tmp_path: Path) -> None:
    out = tmp_path / "d"
    done = distil(model, out, "--only", "7:1", "--set", "run.chunk=2", "--json")
    assert done.returncode == 0, done.stderr
    assert [p.parent.name for p in sorted(out.glob("data/*/*.png"))] == ["7", "7"]
    wrong = distil(model, out, "--only", "cat", "--set", "run.chunk=2")
    assert wrong.returncode == 1
    assert "--only 'cat'" in wrong.stderr


def test_several_seeds(model: str, tmp_path: Path) -> None:
    out = tmp_path / "d"
    done = distil(model, out, "--seeds", "0,3", "--json")
    record = json.loads(done.stdout)
    assert [s["out"] for s in record["sets"]] == [str(out / "seed-0"), str(out / "seed-3")]
    assert record["images"] == 40
    assert files_of(out / "seed-0") != files_of(out / "seed-3")


def test_train_then_distil_ones_own_folder(tmp_path: Path) -> None:
    for label, name in enumerate(("cats & dogs", "bullet train")):
        for i in range(4):
            (tmp_path / "mine" / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (10, 9), (60 * i, 90 * label, 30)).save(tmp_path / "mine" / name / f"{i}.jpg")
    small = ["--size", 8, "--steps", 2, "--set", "train.width=16", "--set", "train.depth=2", "--set", "train.heads=2"]
    made = dap("train", tmp_path / "mine", "--out", tmp_path / "m", *small, "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["steps"] == 2
    words = ["distill", tmp_path / "mine", "--backbone", tmp_path / "m", "--ipc", 1, "--set", "sampling.steps=2"]
    done = dap(*words, "--out", tmp_path / "d")
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "d" / "data").iterdir()) == ["bullet+train", "cats & dogs"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["digits:train", "--ipc", "0"], "images per class must be 1"),
        (["digits:train", "--ipc", "100000"], "images per class must be 1 to 5000"),
        (["digits:train", "--backbone", "digit"], "did you mean 'digits'"),
        (["digits:train", "--guidance", "dab"], "did you mean 'dap'"),
        (["digits:train", "--set", "strenght=0.1"], "did you mean guidance.strength=0.1?"),
        (
            ["digits:train", "--set", "gamma=0.1"],
            "--set gamma=0.1: write it as table.key=value; did you mean guidance.g",
        ),
        (["digits:train", "--set", "xyz=a.b"], "value with one of the tables data, backbone, sampling, guidance, run"),
        (["digits:train", "--set", "guidance.tap=block.9"], "unknown tap of"),
        (["digits:train", "--set", "guidance.kernel=lineer"], "did you mean 'linear'"),
        (["digits:train", "--set", "guidance.strenght=1"], "did you mean 'strength'"),
        (["digits:train", "--set", "sampling.stepz=1"], "did you mean 'steps'"),
        (["digits:train", "--set", "guidance.reference_size=0"], "guidance.reference_size is 0; use 1 or more"),
        (["digits", "--ipc", "1"], "digits:train or digits:test"),
        (["nowhere", "--ipc", "1"], "nowhere"),
        (["digits:train", "--device", "cuda:99"], "cannot be used here"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    words: list[str], says: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = [] if "--backbone" in words else ["--backbone", model]
    monkeypatch.chdir(tmp_path)
    done = dap("distill", *words, *backbone, "--out", tmp_path / "d", "-q")
    assert done.returncode == 1
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "d").exists()


def test_an_output_that_is_a_file_or_somebody_elses_is_refused(model: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "is a file" in distil(model, tmp_path / "file").stderr
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    refused = distil(model, tmp_path / "full")
    assert refused.returncode == 1
    assert "thesis.tex" in refused.stderr
    assert sorted(os.listdir(tmp_path / "full")) == ["thesis.tex"]


def test_a_damaged_config_is_a_problem_that_verify_reports(model: str, tmp_path: Path) -> None:
    out = tmp_path / "d"
    assert distil(model, out).returncode == 0
    (out / "config.json").write_text((out / "config.json").read_text().replace("strength", "strenght"))
    done = dap("verify", out, "--json")
    assert done.returncode == 1
    record = json.loads(done.stdout)
    assert record["ok"] is False
    assert "config.json is damaged" in record["problems"][0]
    nothing = dap("verify", tmp_path / "nowhere", "--json")
    assert (nothing.returncode, nothing.stdout) == (1, "")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train", "digits:train", "--set", "guidance.strength=1"], "dap train reads the tables data, backbone, train"),
        (["distill", "digits:train", "--set", "train.steps=1"], "not 'train'"),
    ],
)
def test_settings_of_another_command_are_not_silently_ignored(words: list[str], says: str, tmp_path: Path) -> None:
    done = dap(*words, "--out", tmp_path / "d")
    assert done.returncode == 1
    assert says in done.stderr


def test_the_card_says_how_the_set_was_made(model: str, tmp_path: Path) -> None:
    out = tmp_path / "d"
    assert distil(model, out).returncode == 0
    card = (out / "README.md").read_text()
    assert "| guidance | dap |" in card
    assert '"strength": "auto"' in card
    assert "Each image began at a real one and took the last 50 % of the sampler's steps" in card
    noise = distil(model, tmp_path / "noise", "--set", "guidance.start=1")
    assert noise.returncode == 0
    assert "began at a real one" not in (tmp_path / "noise" / "README.md").read_text()
    assert '"tap": "block.' in card
    assert str(tmp_path) not in card, "a card is published: no paths of the machine"


def test_the_size_of_a_reference_cache_is_told_before_anything_is_written(model: str, tmp_path: Path) -> None:
    done = distil(model, tmp_path / "d", "--dry-run", "--reference-cache", tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "reference cache: 0 MB in" in said
    assert "MB still to write" in said
    assert not (tmp_path / "cache").exists()


def test_a_cache_on_a_full_disk_is_one_note_and_the_set_is_made(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("dap.bank.write_whole", full)
    done = distil(model, tmp_path / "d", "--reference-cache", tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("note: the reference cache") == 1
    assert "the disk is full" in done.stderr
    assert len(files_of(tmp_path / "d")) == 20


def test_a_cache_where_nothing_may_be_written_says_which_option_to_change(model: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = distil(model, tmp_path / "d", "--reference-cache", tmp_path / "file")
    assert done.returncode == 1
    assert "choose another --reference-cache" in done.stderr


def test_what_one_may_not_expect_is_said_before_anything_is_made(model: str, tmp_path: Path) -> None:
    for name, count in (("0", 3), ("1", 1), ("2", 1)):
        (tmp_path / "few" / name).mkdir(parents=True)
        for i in range(count):
            Image.new("L", (8, 8), 50 * i).save(tmp_path / "few" / name / f"{i}.png")
    words = ["distill", tmp_path / "few", "--backbone", model, "--ipc", 2, "--set", "sampling.steps=2"]
    done = dap(*words, "--out", tmp_path / "d", "--set", "guidance.tap=auto")
    assert done.returncode == 0, done.stderr
    assert "more images than there are real ones: class '1' has 1 (and 1 other), --ipc asks for 2" in done.stderr
    assert "tap auto: block." in done.stderr
    assert "near-copies" not in done.stderr
    assert "no step is guided: 1 step taken, none in guidance.interval [0.5, 1.0]" in done.stderr
    near = ("--set", "guidance.start=0.1", "--set", "guidance.interval=[0, 2]")
    late = dap(*words[:-2], "--out", tmp_path / "l", *near, "--dry-run")
    said = (
        "images begin at real ones and take the last 5 of 50 steps, several at the same one where a class has fewer: "
    )
    assert f"{said}expect near-copies" in late.stderr
    assert "guidance.start=0.5" not in late.stderr, "the user has said it"
    weak = save_tiny_dit(tmp_path / "weak", tiny_dit(class_names=("0", "1", "2")), from_scratch=True)
    words[3] = weak
    many = dap(*words[:-4], "--ipc", 50, "--out", tmp_path / "many", "--dry-run")
    assert "the last 5 of 50 steps (guidance.start=auto: 50 images a class, a backbone trained from" in many.stderr
    assert "dap measure counts; --set guidance.start=0.5 moves them farther" in many.stderr
    off = dap(*words, "--out", tmp_path / "off", "--set", "guidance.strength=0", "--dry-run")
    assert "from noise" not in off.stderr, "nothing guides"
    assert "disk: at most 0.1 MB" in off.stdout
    assert "--test TEST" in done.stderr
    assert "from noise" not in done.stderr
    early = dap(*words, "--out", tmp_path / "e", "--set", "guidance.interval=[0, 1]", "--dry-run")
    assert "guidance.interval begins before 0.5: all 2 steps are taken, from noise" in early.stderr
    paper = dap(*words, "--out", tmp_path / "p", "--guidance", "dap-paper", "--dry-run")
    assert "gamma = 1, the paper's for DiT-XL/2" in paper.stderr
    named = dap(*words, "--out", tmp_path / "p", "--guidance", "dap-paper", "--dry-run", "--set", "guidance.gamma=0.2")
    assert "DiT-XL/2" not in named.stderr


def test_a_dry_run_of_one_class_counts_that_class(model: str, tmp_path: Path) -> None:
    done = distil(model, tmp_path / "d", "--dry-run", "--json", "--only", "3", "--set", "run.chunk=2")
    assert json.loads(done.stdout)["real_rows"] == 1 * (8 + 10 * 8)


def test_a_dry_run_counts_nothing_that_a_cache_holds(model: str, tmp_path: Path) -> None:
    cache = ("--reference-cache", tmp_path / "cache")
    assert distil(model, tmp_path / "d", *cache).returncode == 0
    done = distil(model, tmp_path / "e", "--dry-run", "--json", *cache, "--set", "run.seed=5")
    assert json.loads(done.stdout)["real_rows"] == 0


def test_a_dry_run_counts_no_real_images_for_a_guidance_that_reads_none(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8").split("```python\n")
    (brighter,) = (part.partition("```")[0] for part in lines if part.startswith("# my_guidance.py"))
    (tmp_path / "brighter_by_name.py").write_text(brighter)
    monkeypatch.syspath_prepend(tmp_path)
    words = ["distill", "digits:train", "--backbone", model, "--ipc", 1, "--set", "sampling.steps=3", "--dry-run"]
    done = dap(*words, "--guidance", "brighter_by_name:Brighter", "--out", tmp_path / "d", "--json")
    assert json.loads(done.stdout)["real_rows"] == 0
    said = dap(*words, "--guidance", "brighter_by_name:Brighter", "--out", tmp_path / "d").stdout
    assert "to make in 1 chunk, " in said
    assert "real images" not in said


def test_a_guidance_that_does_not_exist_is_told_before_anything_is_read(tmp_path: Path) -> None:
    done = dap("distill", "nowhere", "--guidance", "dapp", "--out", tmp_path / "d")
    assert done.returncode == 1
    assert done.stderr.startswith("dap: unknown guidance 'dapp'; did you mean 'dap'")


def test_small_images_are_judged_in_seconds_at_first(model: str, tmp_path: Path) -> None:
    from dap.reporting.reproduce import first_look

    done = distil(model, tmp_path / "d", "--ipc", 1)
    assert done.stderr.strip().splitlines()[-1].endswith(" --protocol hard-tiny")
    (tmp_path / "large" / "data" / "cat").mkdir(parents=True)
    assert first_look(tmp_path / "large") == []
    for side, flags in ((64, ["--protocol", "hard-tiny"]), (65, [])):
        Image.new("L", (side, side)).save(tmp_path / "large" / "data" / "cat" / "00000.png")
        assert first_look(tmp_path / "large") == flags


def test_seed_and_seeds_contradict_each_other(model: str, tmp_path: Path) -> None:
    assert distil(model, tmp_path / "d", "--seed", 1, "--seeds", "0,1").returncode == 2


def test_usage_errors_exit_with_two() -> None:
    assert dap("distill").returncode == 2
    assert dap("destill").returncode == 2
