"""A user's own protocol: the same fields in a TOML file, every mistake named; and all of them in words."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from dap.errors import ConfigError
from dap.evaluation import PROTOCOLS, get_protocol
from dap.evaluation.wording import described

DOCS = Path(__file__).parents[2] / "docs" / "protocols.md"
WHOLE = """
network = "convnet-3"
optimiser = "sgd"
rate = 0.1
momentum = 0.9
weight_decay = 1e-4
schedule = "cosine"
epochs = [[1, 30], [10, 20]]
full_epochs = 10
crop = [0.5, 1]
[many_classes]
rate = 0.2
batch = 128
"""


def written(path: Path, text: str) -> str:
    (path / "mine.toml").write_text(text)
    return str(path / "mine.toml")


def test_a_whole_file_is_a_protocol(tmp_path: Path) -> None:
    mine = get_protocol(written(tmp_path, WHOLE))
    assert (mine.name, mine.labels, mine.crop, mine.epochs) == ("mine", "hard", (0.5, 1.0), ((1, 30), (10, 20)))
    assert mine.plan(classes=10, images=100, ipc=10).epochs == 20
    plan = mine.plan(classes=101, images=1010, ipc=10)
    assert (plan.batch, plan.rate) == (128, 0.2)
    assert get_protocol(written(tmp_path, WHOLE), flip=True).flip


def test_a_base_gives_what_the_file_leaves_out(tmp_path: Path) -> None:
    mine = get_protocol(written(tmp_path, 'base = "soft-rded"\nname = "small"\nsize = 16\nnetwork = "resnet-18"\n'))
    theirs = PROTOCOLS["soft-rded"]
    assert replace(mine, name=theirs.name, summary=theirs.summary, size=224, network=theirs.network) == theirs
    assert mine.name == "small"


def test_a_digest_follows_what_it_does_not_what_it_is_called(tmp_path: Path) -> None:
    same = get_protocol(written(tmp_path, 'base = "hard-small"\n'))
    assert same.digest == PROTOCOLS["hard-small"].digest
    other = get_protocol(written(tmp_path, 'base = "hard-small"\nrate = 0.002\n'))
    assert other.digest != same.digest
    assert len({p.digest for p in PROTOCOLS.values()}) == len(PROTOCOLS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WHOLE.replace("crop", "corp"), r"unknown key in mine.toml: 'corp'; did you mean 'crop'"),
        (WHOLE.replace("rate = 0.1", 'rate = "fast"'), r"mine.toml.rate is 'fast'; it must be float"),
        (WHOLE.replace('"sgd"', '"sdg"'), "unknown optimiser .* 'sdg'; did you mean 'sgd'"),
        (WHOLE.replace('"cosine"', '"cosin"'), "unknown schedule .* did you mean 'cosine'"),
        (WHOLE.replace("rate = 0.1", "rate = 0.0"), "has rate 0.0; use a number above 0"),
        (WHOLE.replace("full_epochs = 10", "full_epochs = 0"), "has no length for every set"),
        (WHOLE.replace("full_epochs = 10", "full_epochs = 10\nsteps = 5"), "counts both epochs and steps"),
        (WHOLE.replace("[[1, 30], [10, 20]]", "[[10, 30], [1, 20]]"), "rising IPC"),
        (WHOLE.replace("[0.5, 1]", "[0.5, 2]"), "use shares of the area"),
        (WHOLE.replace("batch = 128", "crop = 128"), "unknown field in many_classes: 'crop'"),
        ('base = "hard-smal"', "unknown base in mine.toml: 'hard-smal'; did you mean 'hard-small'"),
        ('network = "convnet-3"', 'lacks optimiser, rate, weight_decay, schedule; add them, or base = "hard-small"'),
        ('base = "hard-sgd"\noptimiser = "adamw"', "gives adamw a momentum"),
        ('base = "hard-small"\ntemperature = 20', "temperature for hard labels"),
        ('base = "hard-small"\nlabels = "stored"', "switch off jitter"),
        ('base = "hard-small"\nname = "hard-small"', "give yours another name"),
        ('base = "hard-small"\nname = "../mine"', "may hold letters"),
        ('base = "hard-small"\ntest_crop = 0', "use above 0 to 1"),
        ('base = "hard-small"\nnormalise = [[0.5], [0.5]]', "of 3 channels"),
        ("base = ", "is not valid TOML"),
    ],
)
def test_every_mistake_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        get_protocol(written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*nothing\.toml"):
        get_protocol(str(tmp_path / "nothing.toml"))


def test_the_docs_show_what_the_code_does() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for name, protocol in PROTOCOLS.items():
        rows = "\n".join(f"| {what} | {how} |" for what, how in described(protocol))
        assert f"### `{name}`\n\n| | |\n|---|---|\n{rows}\n" in text, f"{name}: write\n{rows}"
    assert re.findall(r"^### `(.*)`$", text, re.MULTILINE) == list(PROTOCOLS)


def test_the_docs_name_every_field() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert not [field for field in asdict(PROTOCOLS["hard-tiny"]) if f"`{field}`" not in text]
