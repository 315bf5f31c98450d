"""Distilling with a text-to-image model, end to end: settings, record, prompts per image, image to image."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from dap.cli import app
from dap.commands.dry_run import estimate
from dap.commands.live import guided_steps
from dap.config import load_config
from dap.data import match_classes
from dap.distillation import distill, open_job
from dap.errors import ConfigError, DataError
from dap.store import Store
from dap.testing import save_tiny_stable_diffusion
from dap.trace import trace

NAMES = ("n01440764", "bee", "cat")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(class folders, a Stable Diffusion directory)."""
    root = tmp_path_factory.mktemp("sd-jobs")
    for name in NAMES:
        (root / "images" / name).mkdir(parents=True)
        for i in range(3):
            draw = torch.Generator().manual_seed(i)
            pixels = torch.randint(0, 256, (20, 16, 3), generator=draw, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(root / "images" / name / f"{i}.png")
    return root / "images", save_tiny_stable_diffusion(root / "sd")


@pytest.fixture
def config(files: Any) -> Any:
    """config(backbone={...}, ...): a short run."""
    images, directory = files

    def make(**tables: Any) -> Any:
        defaults: dict[str, Any] = {
            "data": {"source": str(images)},
            "backbone": {"name": str(directory), "cfg_scale": 2.0, "device": "cpu"},
            "sampling": {"steps": 3},
            "guidance": {"name": "none"},
            "run": {"ipc": 2},
        }
        merged = {table: {**defaults.get(table, {}), **tables.get(table, {})} for table in {*defaults, *tables}}
        return load_config(None, **merged)

    return make


def made(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted((out / "data").rglob("*.png"))}


def test_it_distils_guided_from_the_command_line(files: Any, tmp_path: Path) -> None:
    images, directory = files
    command = ["distill", str(images), "--backbone", str(directory), "--prompt", "{name}", "--ipc", "2", "--json", "-q"]
    command += ["--set", "sampling.steps=3", "--device", "cpu", "--out", str(tmp_path / "a")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 6
    store = Store.open(tmp_path / "a")
    assert store.verify() == []
    backbone = store.config["determines"]["backbone"]
    assert backbone["cfg_scale"] == 7.5
    assert backbone["prompts"]["classes"] == ["bee", "cat", "tench, Tinca tinca"]  # sorted folders
    assert store.config["config"]["guidance"]["tap"] == "mid"


def test_prompts_are_part_of_what_determines_the_pixels(config: Any, tmp_path: Path) -> None:
    chosen = [{}, {"prompt": "a photo of a {name}"}, {"prompt": "{name}"}, {"negative_prompt": "grey"}]
    digests = [open_job(config(backbone=each), tmp_path / "out").record["digest"] for each in chosen]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_an_image_depends_on_its_own_prompt_and_on_no_other(config: Any, tmp_path: Path) -> None:
    rows = [f"{name},{i},{name} number {i}" for name in NAMES for i in range(3)]
    table = tmp_path / "prompts.csv"
    table.write_text("class,index,prompt\n" + "\n".join(rows))
    settings = {"backbone": {"prompts": str(table)}}
    distill(config(**settings), tmp_path / "a")
    table.write_text(table.read_text().replace("bee number 1", "another"))
    distill(config(**settings), tmp_path / "b")
    one, other = made(tmp_path / "a"), made(tmp_path / "b")
    assert [name for name in one if one[name] != other[name]] == ["data/bee/00001.png"]
    distill(config(**settings, run={"ipc": 3}), tmp_path / "b")  # may grow: the file has all that it needs
    assert {name: data for name, data in made(tmp_path / "b").items() if name in other} == other
    with pytest.raises(DataError, match="no line for image 3 of class 'bee'"):
        open_job(config(**settings, run={"ipc": 4}), tmp_path / "c")


def test_a_dit_refuses_prompts(config: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is told classes, not text"):
        open_job(
            config(data={"source": "digits:train"}, backbone={"name": "digits", "negative_prompt": "x"}), tmp_path / "o"
        )


def test_a_class_map_points_to_the_prompts(config: Any, tmp_path: Path) -> None:
    (tmp_path / "map.csv").write_text("dataset_class,backbone_class\nbee,honey bee\n")
    with pytest.raises(
        ConfigError, match=r"is told text and has no classes to map to.*--set backbone.prompts=FILE.csv"
    ):
        open_job(config(data={"class_map": str(tmp_path / "map.csv")}), tmp_path / "o")


@pytest.mark.parametrize("quiet", [[], ["-q"]])
def test_prompts_that_are_cut_off_are_one_line_of_talk(quiet: list[str], files: Any, tmp_path: Path) -> None:
    images, directory = files
    command = ["distill", str(images), "--backbone", str(directory), "--prompt", "{name} " + "x" * 90, "--ipc", "1"]
    command += ["--set", "sampling.steps=1", "--guidance", "none", "--device", "cpu", "--out", str(tmp_path / "a")]
    done = CliRunner().invoke(app, [*command, *quiet])
    assert done.exit_code == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "cut off" in line or "Warning" in line]
    said = f"note: 3 of 4 prompts are cut off at 77 tokens, e.g. 'bee {'x' * 56}...' with 95"
    assert lines == ([] if quiet else [said])


def test_the_same_names_in_the_same_order_are_the_same_classes() -> None:
    names = [*(f"c{k}" for k in range(998)), "missile", "projectile, missile"]
    assert match_classes(names, names) == tuple(range(1000))


# --- image to image ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Nowhere:
    """Says where to start, and gives no images for it."""

    start: float | None = 0.5
    interval: tuple[float, float] = (0.0, 1.0)
    tap = None
    couples = False

    def resolved(self, backbone: Any) -> Any:
        return self

    def prepare(self, backbone: Any, reference: Any) -> Any:
        return lambda step: torch.zeros_like(step.x_prev)


@dataclass(frozen=True, kw_only=True)
class FromFirst(Nowhere):
    """Starts every image at the first real one of its class."""

    start: float | None = 1.0

    def starts(self, reference: Any, units: Any) -> Tensor:
        return torch.stack([reference.latents(unit.label)[0] for unit in units])


def test_a_guidance_may_give_the_images_to_start_from(config: Any, tmp_path: Path) -> None:
    name, steps = f"{__name__}:FromFirst", {"steps": 10}
    settings = {"guidance": {"name": name, "start": 0.3}, "sampling": steps}
    job = open_job(config(**settings), tmp_path / "a")
    states = list(job.sample(job.chunks[0]))
    assert [state.index for state in states] == [7, 8, 9]
    x_0 = job.reference.latents(0)[0]
    whole = open_job(config(guidance={"name": name}, sampling=steps), tmp_path / "b")
    far = list(whole.sample(whole.chunks[0]))[-1].x[0]
    assert (states[-1].x[0] - x_0).norm() < (far - x_0).norm()
    assert [estimate(j, j.chunks).rows for j in (job, whole)] == [3 * 2 * 6, 10 * 2 * 6]
    assert job.record["digest"] != whole.record["digest"]
    assert distill(config(**settings), tmp_path / "a")["images"] == 6


@pytest.mark.parametrize("name", ["dap", "dap-paper"])
def test_the_presets_start_from_real_images_and_take_the_share_of_the_steps(
    name: str, config: Any, tmp_path: Path
) -> None:
    def job(steps: int, start: float, out: str) -> Any:
        return open_job(config(guidance={"name": name, "start": start}, sampling={"steps": steps}), tmp_path / out)

    late, early = job(10, 0.1, "late"), job(10, 0.5, "early")
    assert [len(list(one.sample(one.chunks[0]))) for one in (late, early)] == [1, 5]
    units = late.chunks[0].units
    begun = late.guidance.starts(late.reference, units)
    (last,) = late.sample(late.chunks[0])
    *_, half = early.sample(early.chunks[0])
    assert (last.x - begun).norm() < (half.x - begun).norm()  # the later, the nearer to the real ones
    events = list(early.render())
    assert {event.steps for event in events} == {5}
    assert [event.step for event in events if event.chunk == 0] == [1, 2, 3, 4, 5]
    assert len(guided_steps(early)) == 5
    assert sum(guided_steps(early)) == 4  # all but the last
    done, total = list(trace(early, f"{NAMES[0]}:0"))[-1]
    assert done == total == 10  # guided and unguided
    made = distill(early.config, tmp_path / "early")
    assert distill(early.config, tmp_path / "again")["digest"] == made["digest"]
    whole = job(10, 1.0, "whole")
    assert whole.record["digest"] != early.record["digest"]
    assert (len(whole.taken), whole.start(whole.chunks[0])) == (10, None)
    assert [len(job(n, 0.5, "odd").taken) for n in (1, 3, 5)] == [1, 2, 3]  # rounded up


@dataclass(frozen=True, kw_only=True)
class FromMany(FromFirst):
    """Runs out of memory where real images are encoded more than five at a time."""

    def starts(self, reference: Any, units: Any) -> Tensor:
        if reference.rows > 5:
            raise torch.OutOfMemoryError("no room to encode")
        return super().starts(reference, units)


def test_running_out_of_memory_before_the_first_step_is_gone_on_from(config: Any, tmp_path: Path) -> None:
    settings = {"guidance": {"name": f"{__name__}:FromMany", "start": 0.5}, "sampling": {"steps": 4}}
    assert distill(config(**settings), tmp_path / "a")["images"] == 6
    marker = json.loads((tmp_path / "a" / "chunks" / "00000.json").read_text())
    assert marker["notes"] == ["out of memory: micro-batch 3 instead of 6; last bits may differ"]


@pytest.mark.parametrize("start", [0.0, -1.0, 1.01, float("inf"), float("nan")])
def test_a_start_is_a_share_of_the_steps(start: float, config: Any, tmp_path: Path) -> None:
    for name in ("dap", f"{__name__}:FromFirst"):
        with pytest.raises(ConfigError, match=r"guidance.start is .*(use above 0 to 1|finite number)"):
            open_job(config(guidance={"name": name, "start": start}), tmp_path / "a")


def test_a_start_needs_images_to_start_from(config: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"guidance.start is 0.5, but this guidance gives no images to start from"):
        open_job(config(guidance={"name": f"{__name__}:Nowhere"}), tmp_path / "a")
    for start in (None, 1.0):
        assert (
            len(open_job(config(guidance={"name": f"{__name__}:Nowhere", "start": start}), tmp_path / "a").taken) == 3
        )


def test_a_guidance_without_images_to_start_from_has_no_start(config: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="guidance 'none' has no options, got start"):
        open_job(config(guidance={"name": "none", "start": 0.7}), tmp_path / "a")
    off = open_job(config(guidance={"name": "dap-paper", "gamma": 0, "start": 0.7}), tmp_path / "a")
    assert (len(off.taken), off.start(off.chunks[0])) == (3, None)  # scale zero: the unguided path, from noise
