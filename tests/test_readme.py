"""Every block of the README runs, every recipe in configs/ loads, every make target that is named exists."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from dap.cli import app
from dap.config import Config, TrainConfig, load_config
from dap.data import open_dataset

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
SHORTER = {  # what a test adds so that a command takes seconds; the command itself stays as the README has it
    "train": "--steps 2 --set train.width=16 --set train.depth=2 --set train.heads=2 --set train.patch=8",
    "distill": "--set sampling.steps=2",
    "evaluate": "--set evaluation.epochs_scale=0.003 --repeats 1",
    "measure": "--set metrics.points=10",
}


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `photos` with train and test, and the working directory beside it."""
    for split, count in (("train", 12), ("test", 3)):
        for label, name in enumerate(("harbour", "meadow")):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (40, 36), (20 * i, 200 * label, 90)).save(folder / f"{i}.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line: str) -> None:
    words = shlex.split(line, comments=True)
    assert words[0] == "dap"
    result = CliRunner().invoke(app, [*words[1:], *shlex.split(SHORTER.get(words[1], ""))])
    assert result.exit_code == 0, f"{line}\n{result.output}"


def test_every_kind_of_block_is_known() -> None:
    assert {kind for kind, _ in BLOCKS} == {"bash", "python", "bibtex"}


@pytest.mark.parametrize("block", [b for b in blocks("bash") if "make" in b])
def test_make_targets_exist(block: str) -> None:
    for line in block.strip().splitlines():
        command = line.partition("#")[0].split()
        done = subprocess.run([*command, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_what_takes_minutes_is_announced(tmp_path: Path) -> None:
    for target in ("demo", "test"):
        command = ["make", "--dry-run", target, f"VENV={tmp_path / 'new'}"]
        steps = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert 0 <= steps.find("installing into") < steps.index("pip install")


@pytest.mark.parametrize("block", [b for b in blocks("bash") if "dap " in b])
def test_commands_run_as_they_stand(block: str, photos: Path) -> None:
    for line in block.strip().splitlines():
        run(line)
        assert "dap evaluate" not in line or "--protocol hard-tiny" in line, "a first look is one of seconds"


@pytest.mark.parametrize("block", blocks("python"))
def test_python_blocks_run(block: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "my_guidance.py").write_text(block)
    command = re.search(r"used by: (dap .*)", block)
    if command is None:
        exec(compile(block, "README.md", "exec"), {})
        assert re.fullmatch(r"10 images: \d+\.\d%\n", capsys.readouterr().out)
        return
    # in a process of its own, as installed: only there does the module have to be found as a user's shell finds it
    words = [
        str(Path(sys.executable).parent / "dap"),
        *shlex.split(command.group(1))[1:],
        *shlex.split(SHORTER["distill"]),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_the_readme_links_to_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert target.startswith("https://") or (ROOT / target).exists(), target


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda p: p.name)
def test_recipes_load_and_name_an_expected_number(path: Path) -> None:
    assert isinstance(load_config(path), Config)
    assert re.search(r"#.*[Ee]xpect.*\d", path.read_text(encoding="utf-8")), "say what number to expect"


def test_the_embedded_checkpoint_is_what_its_recipe_makes() -> None:
    import json

    from dap.backbones import EMBEDDED

    record = json.loads((EMBEDDED["digits"] / "dap.json").read_text())
    recipe = load_config(ROOT / "configs" / "train_digits.toml").train
    made = record["training"]["train"]
    assert made.items() <= vars(recipe).items()
    later = {key: value for key, value in vars(recipe).items() if key not in made}  # options that came afterwards
    assert later == {key: getattr(TrainConfig(), key) for key in later}
    assert record["training"]["data"] == open_dataset("digits:train").digest
    losses = [float(line.split(",")[1]) for line in (EMBEDDED["digits"] / "loss.csv").read_text().splitlines()[1:]]
    assert sum(losses[-10:]) / 10 < 0.065, "the last thousand steps, as the recipe says"
    weights = EMBEDDED["digits"] / "transformer" / "diffusion_pytorch_model.safetensors"
    assert weights.stat().st_size < 4.5e6
