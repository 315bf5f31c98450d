"""The command in a report makes exactly that image again."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dap.cli import app
from dap.config import GuidanceConfig, as_record, load_config
from dap.guidance import PRESETS, load_guidance
from dap.reporting.reproduce import distill_words, only
from dap.store import Store
from dap.testing import save_tiny_dit, tiny_dit

DIGITS = tuple("0123456789")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_dit(tmp_path_factory.mktemp("model") / "dit", tiny_dit(classes=10, class_names=DIGITS)))


def dap(*words: str) -> None:
    done = CliRunner().invoke(app, list(words), prog_name="dap")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    "more",
    [
        ["--guidance", "none", "--seed", "7", "--set", "run.chunk=2"],
        ["--set", "guidance.reference_size=3", "--set", "guidance.kernel=rbf", "--set", "guidance.interval=[0.2, 0.9]"],
        ["--guidance", "dap-paper", "--set", "guidance.gamma=0.01", "--set", "guidance.reference_size=3"],
        ["--guidance", "none", "--set", "sampling.scheduler=ddim", "--set", "sampling.eta=0.5"],
    ],
)
def test_the_command_of_an_image_makes_its_bytes_again(more: list[str], model: str, tmp_path: Path) -> None:
    out = tmp_path / "a b"
    fast = ["--backbone", model, "--ipc", "2", "--set", "sampling.steps=3", "--set", "run.micro_batch=4"]
    dap("distill", "digits:train", *fast, *more, "--out", str(out), "-q")
    dap("report", str(out), "-q")
    text = (out / "report.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    (one,) = json.loads(found.group(1))["sets"]
    before, after = one["classes"][4]["only"]
    words = shlex.split(f"{one['command']} {before}1{after}")
    assert words[0] == "dap"
    again = tmp_path / "again"
    dap(*[str(again) if word == "again" else word for word in words[1:]], "-q")
    image = "data/4/00001.png"
    assert (again / image).read_bytes() == (out / image).read_bytes()
    assert Store.open(again).config["digest"] == Store.open(out).config["digest"]


def test_settings_come_back_as_they_were() -> None:
    config = {
        "data": {"source": "my photos:train", "subset": "imagenette", "mode": "L", "on_bad_image": "skip"},
        "backbone": {"name": "m", "vae": "v", "prompt": "a photo: {name}, $5", "cfg_channels": 3, "device": "cuda"},
        "sampling": {"steps": 20},
        "guidance": {**PRESETS["dap"], "preset": "dap", "name": "x:Y", "strength": 0.1, "tap": "block.3"},
        "run": {"ipc": 3, "seed": 9, "chunk": 50, "micro_batch": 5},
    }
    words = distill_words(config, "out")
    assert shlex.split(shlex.join(words)) == words
    flags = words[: words.index("--set")]
    assert flags[:3] == ["dap", "distill", "my photos:train"]
    assert "device" not in " ".join(words)
    overrides = [words[k + 1] for k, word in enumerate(words) if word == "--set"]
    read = load_config(None, overrides)
    assert read.data.mode == "L"
    assert read.backbone.prompt == "a photo: {name}, $5"
    assert read.backbone.cfg_channels == 3
    assert read.guidance.options == {"strength": 0.1, "tap": "block.3"}, "the interval is the preset's own"
    assert PRESETS["dap"]["interval"] == (0.5, 1.0)
    assert (read.sampling.steps, read.run.micro_batch) == (20, 5)


@pytest.mark.parametrize(
    "options",
    [
        {"reference_size": 96},
        {"reference_size": "all"},
        {"reference_herded": 30},
        {"interval": [0.0, 1.0]},
        {"interval": [0.0, 1.0], "start": 0.5},
        {"interval": [0.6, 1.0]},
        {"start": 1.0},
        {"start": 0.25},
        {"gamma": 0.1},
    ],
)
@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_guidance_comes_back_whatever_naming_one_option_does_to_another(preset: str, options: Any) -> None:
    if preset == "dap-paper" and "reference_herded" in options:
        options = {**options, "reference_size": 90}
    made = load_guidance(GuidanceConfig(name=preset, options=options))
    assert made is not None
    again = distill_words({"guidance": {"preset": preset, "name": "x:Y", **as_record(made)}}, "out")
    read = load_config(
        None, [again[k + 1] for k, word in enumerate(again) if word == "--set"], guidance={"name": preset}
    )
    assert load_guidance(read.guidance) == made


def test_a_set_made_before_an_option_was_there_is_made_again_as_it_was() -> None:
    record = {"preset": "dap", "name": "x:Y", **PRESETS["dap"]}
    older = {key: value for key, value in record.items() if key not in ("start", "reference_herded")}
    words = " ".join(distill_words({"guidance": older}, "out"))
    assert "--set guidance.start=1.0" in words
    assert "--set guidance.reference_size=96" in words


@pytest.mark.parametrize("name", ["7", "cats & dogs", "it's", 'a"b', "77", "INDEX"])
def test_any_class_name_survives_the_shell(name: str) -> None:
    before, after = only(name)
    assert shlex.split(f"{before}12{after}") == ["--only", f"{name}:12"]
