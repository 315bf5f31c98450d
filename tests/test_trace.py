"""A trace follows one image as it was made, guided and not, and leaves the set as it is."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dap.config import load_config
from dap.distillation import open_job
from dap.errors import ConfigError
from dap.store import Store
from dap.testing import save_tiny_dit, tiny_dit
from dap.trace import FRAMES, check_trace, trace
from dap.trace_files import trace_files

DIGITS = tuple("0123456789")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_dit(tmp_path_factory.mktemp("model") / "dit", tiny_dit(classes=10, class_names=DIGITS)))


def job_of(model: str, out: Path, guidance: dict[str, Any], steps: int = 4) -> Any:
    tables: dict[str, Any] = {
        "data": {"source": "digits:train"},
        "backbone": {"name": model},
        "sampling": {"steps": steps},
        "guidance": guidance,
        "run": {"ipc": 2},
    }
    return open_job(load_config(None, **tables), out)


ALONE = {"repulsion": 0.0, "reference": "class"}
GUIDED = {"name": "dap", "strength": 0.3, **ALONE, "interval": [0.0, 1.0], "reference_size": 4}


def test_the_last_frame_is_the_image_of_the_set(model: str, tmp_path: Path) -> None:
    job = job_of(model, tmp_path / "d", GUIDED)
    list(job.render())
    before = {p: p.read_bytes() for p in (tmp_path / "d" / "data").rglob("*.png")}
    told = list(trace(job, "3:1"))
    assert told[-1] == (8, 8), "four steps guided, four unguided"
    files = {name: job.out / path for name, path in trace_files("3", 1).items()}
    record = json.loads(files["record"].read_text())
    assert [row["step"] for row in record["steps"]] == [1, 2, 3, 4]
    assert record["steps"][-1] == {"step": 4, "t": 0, "guided": None, "unguided": None}
    assert all(row["guided"] > 0 and row["unguided"] > 0 for row in record["steps"][:-1])
    assert record["steps"][2]["guided"] < record["steps"][2]["unguided"], "the guidance pulls towards the class"
    guided, unguided = (np.asarray(Image.open(files[name])) for name in ("guided", "unguided"))
    assert guided.shape == (8, 32, 3)
    kept = np.asarray(Image.open(job.out / "data" / "3" / "00001.png"))
    assert np.array_equal(guided[:, -8:, 0], kept)
    assert not np.array_equal(unguided[:, -8:], guided[:, -8:])
    assert before == {p: p.read_bytes() for p in (tmp_path / "d" / "data").rglob("*.png")}
    assert not Store.open(job.out).verify()


def test_an_unguided_set_has_one_path(model: str, tmp_path: Path) -> None:
    job = job_of(model, tmp_path / "d", {"name": "none"}, steps=15)
    list(job.render(job.chunks_with("7:0")))
    list(trace(job, "7:0"))
    files = trace_files("7", 0)
    assert not (job.out / files["guided"]).exists()
    record = json.loads((job.out / files["record"]).read_text())
    assert len(record["steps"]) == FRAMES
    assert record["steps"][-1]["step"] == 15
    assert record["real_images"] > 100, "all real images of the class, as nobody chose some"
    strip = np.asarray(Image.open(job.out / files["unguided"]))
    assert np.array_equal(strip[:, -8:, 0], np.asarray(Image.open(job.out / "data" / "7" / "00000.png")))


@pytest.mark.parametrize(("text", "says"), [("7", "CLASS:INDEX"), ("cat:0", "such as 0:0"), ("7:2", "not in the plan")])
def test_what_is_no_image_is_refused_before_anything_is_made(text: str, says: str, model: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=says):
        check_trace(job_of(model, tmp_path / "d", GUIDED), text)
