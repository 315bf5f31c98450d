"""`measure`: any folder, distilled sets with their files, maps, and one line for what does not fit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import dap
from dap.config import MetricsConfig
from dap.errors import ConfigError, DataError
from dap.metrics import measure
from dap.metrics.features import IN_MEMORY, Space, open_space, space_of
from dap.metrics.tsne import chosen, embedded, sketched
from dap.testing import tiny_dit, tiny_source
from small_sets import NAMES, distilled, folder

PIXELS = MetricsConfig(features="pixels", points=20)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("real") / "train")


def test_the_real_images_themselves_are_the_ideal_set(real: Path) -> None:
    found = measure([real], real, config=PIXELS)
    assert found["representativeness"]["energy_distance"]["mean"] == pytest.approx(0, abs=1e-5)
    assert found["coverage"]["mean"] == 1
    assert found["near_copies"]["mean"] == 1
    assert found["yardstick"] is None, "nine of nine images cannot be held out"
    assert any("9 of class 'apple' would be more than half of its 9" in note for note in found["notes"])
    assert found["files"] == [], "nothing is written into a folder that is not ours"
    assert sorted(p.name for p in real.iterdir()) == list(NAMES)


def test_a_distilled_set_keeps_its_numbers(real: Path, tmp_path: Path) -> None:
    out = distilled(tmp_path / "d", real)
    found = dap.measure([out], config=PIXELS)
    (path,) = found["files"]
    kept = json.loads(Path(path).read_text())
    assert Path(path).parent == out / "metrics"
    assert kept["representativeness"] == found["representativeness"]
    assert [row["class"] for row in kept["per_class"]] == list(NAMES)
    assert kept["features"]["name"] == "pixels"
    assert kept["reference"]["images"] == 18
    assert kept["yardstick"]["representativeness"]["energy_distance"]["mean"] > 0
    assert {len(rows) for rows in kept["neighbours"].values()} == {3}
    image, nearest, d, copy = kept["neighbours"]["pear"][0]
    assert (image, type(copy)) == ("00000.png", bool)
    a, b = (np.asarray(Image.open(p), np.float64) / 255 for p in (out / "data/pear" / image, real / "pear" / nearest))
    assert d == pytest.approx(float(np.sqrt(((a - b) ** 2).sum())), rel=1e-4)
    assert dap.measure([out], config=PIXELS)["files"] == found["files"], "the same question, the same file"
    assert not dap.Store.open(out).verify(), "metrics do not disturb the set"


def test_sets_are_compared_class_by_class(real: Path, tmp_path: Path) -> None:
    worse = folder(tmp_path / "worse", 4, seed=3)
    for path in (worse / "apple").glob("*.png"):
        Image.new("RGB", (8, 8), "black").save(path)
    found = measure([folder(tmp_path / "good", 4, seed=2), worse], real, config=PIXELS)
    assert [one["set"] for one in found["sets"]] == [str(tmp_path / "good"), str(worse)]
    (difference,) = found["differences"]
    assert difference["minus"] == str(tmp_path / "good")
    assert difference["representativeness"]["energy_distance"]["mean"] > 0
    rows = {row["class"]: row for row in found["sets"][1]["per_class"]}
    assert rows["apple"]["vendi"] == pytest.approx(1)
    assert rows["pear"]["vendi"] > 1


def test_every_image_of_the_map_is_told_and_found(real: Path, tmp_path: Path) -> None:
    test = folder(tmp_path / "test", 4, seed=7)
    out = distilled(tmp_path / "d", real)
    told: list[tuple[int, int, str]] = []
    found = measure([out], real, test=test, config=PIXELS, progress=lambda *at: told.append(at))
    train, held_out = (found["maps"][name]["points"] for name in ("train", "test"))
    assert len(train) == 20, "as many as were asked for"
    assert sum(point[0] == 0 for point in train) == 6, "all synthetic ones among them"
    assert {point[2] for point in held_out if point[0] == -1} == {f"{i:03d}.png" for i in range(4)}
    assert all(0 <= x <= 1 and 0 <= y <= 1 for *_, x, y in train + held_out)
    assert told[-1][0] == told[-1][1] == 18 + 6 + 8
    again = measure([out], real, test=test, config=PIXELS)
    assert again["maps"] == found["maps"], "the same map again"


def test_too_few_images_for_a_map_give_none(real: Path, tmp_path: Path) -> None:
    assert embedded(np.zeros((2, 4), np.float32), 0) == []
    assert len(embedded(np.zeros((5, 4), np.float32), 0)) == 5, "copies lie on one spot"
    none = measure([distilled(tmp_path / "d", real)], real, config=MetricsConfig(features="pixels", points=0))
    assert none["maps"]["train"]["points"] == []
    assert not [note for note in none["notes"] if "map" in note], "nobody wanted one"
    two = measure([distilled(tmp_path / "e", real)], real, config=MetricsConfig(features="pixels", points=2))
    assert "there are fewer than 3 images to draw: no map" in two["notes"]


def test_the_choice_for_the_map_is_balanced_and_repeatable() -> None:
    many, few = tiny_source(("a", "b"), 40), tiny_source(("a", "b"), 10, seed=1)
    picked = chosen({-1: many, 0: few}, 30, seed=0)
    assert len(picked) == 30
    assert sum(p[0] == 0 for p in picked) == 15
    assert picked == chosen({0: few, -1: many}, 30, seed=0)
    assert picked != chosen({-1: many, 0: few}, 30, seed=1)
    assert len(chosen({-1: many, 0: few}, 1000, seed=0)) == 100


def test_a_sketch_keeps_distances() -> None:
    rows = torch.randn(12, 20_000, generator=torch.Generator().manual_seed(0))
    short = torch.as_tensor(sketched(rows.numpy(), 0))
    assert short.shape == (12, 2048)
    assert torch.allclose(torch.pdist(short), torch.pdist(rows), rtol=0.1)


def test_a_tap_sees_equal_images_as_equal_and_never_their_class() -> None:
    backbone, source = tiny_dit(), tiny_source(("c0", "c1"), 5)
    space = space_of(backbone, MetricsConfig(timestep=300))
    rows = space.extract(source, 0)
    assert rows.shape == (5, 16 * 16)
    assert space.record["tap"] == backbone.default_tap
    assert space.record["timestep"] == 300
    twice = space.features(source.images(0, [2, 2]))
    assert torch.equal(twice[0], twice[1])
    clean = space_of(backbone, MetricsConfig(timestep=0)).extract(source, 0)
    assert not np.allclose(rows, clean)
    mean = space_of(backbone, MetricsConfig(pool="mean")).extract(source, 0)
    assert mean.shape == (5, 16)


def test_features_larger_than_memory_lie_in_a_file() -> None:
    source = tiny_source(("a", "b"), 3)
    wide = IN_MEMORY // 8
    space = Space(features=lambda x: torch.ones(len(x), wide), record={}, size=8, mode="L", rows=2)
    rows = space.extract(source, 0)
    assert isinstance(rows, np.memmap)
    assert float(rows[2, -1]) == 1


def test_a_named_network_needs_its_weights_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torchvision = pytest.importorskip("torchvision")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    like, config = tiny_source(("a", "b"), 2, mode="RGB"), MetricsConfig(features="torchvision:mobilenet_v3_small")
    with pytest.raises(ConfigError, match="fetch them once: python -c"):
        open_space(config, like, {}, "cpu")
    network = torchvision.models.get_model("mobilenet_v3_small", weights=None)
    name = str(torchvision.models.get_model_weights("mobilenet_v3_small").DEFAULT.url).rsplit("/", 1)[-1]
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(network.state_dict(), tmp_path / "hub" / "checkpoints" / name)
    rows = open_space(config, like, {}, "cpu").extract(like, 1)
    assert rows.shape == (2, 1024), "what its last layer is given"


def test_weights_of_timm_come_from_the_cache_and_from_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timm = pytest.importorskip("timm")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *a, **k: pytest.fail("asked the network"))
    monkeypatch.setattr("timm.models._hub.hf_hub_download", lambda *a, **k: pytest.fail("asked the network"))
    name, like = "test_resnet.r160_in1k", tiny_source(("a", "b"), 2, mode="RGB")
    config = MetricsConfig(features=f"timm:{name}")
    with pytest.raises(ConfigError, match=r"hf download timm/test_resnet\.r160_in1k model\.safetensors"):
        open_space(config, like, {}, "cpu")
    network = timm.create_model(name, pretrained=False)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a: str(tmp_path / "w.safetensors"))
    rows = open_space(config, like, {}, "cpu").extract(like, 1)
    assert rows.shape == (2, network.num_features)
    with pytest.raises(ConfigError, match="leave out what follows the dot"):
        open_space(MetricsConfig(features="timm:resnet18.nothing"), like, {}, "cpu")


@pytest.mark.parametrize(
    ("features", "says"),
    [
        ("pixel", "did you mean 'pixels'"),
        ("torchvision:resnet19", "did you mean 'resnet18'"),
        ("timm:resnet18_", "unknown timm network"),
        ("timm:resnet18", "fetch them once where there is a network"),
        ("tap", "name one with --backbone, or use --features pixels"),
    ],
)
def test_unknown_features_are_one_line(features: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        open_space(MetricsConfig(features=features), tiny_source(("a", "b"), 2, mode="RGB"), {}, "cpu")
    assert "\n" not in str(error.value)


def test_sets_that_do_not_fit_are_refused(real: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no set to measure"):
        measure([], real)
    with pytest.raises(DataError, match="does not record the real data it stands for; add --reference DATA"):
        measure([real], config=PIXELS)
    other = folder(tmp_path / "other", 2, ("apple", "plum"))
    with pytest.raises(DataError, match="lacks 1 of the 2 classes"):
        measure([other], real, config=PIXELS)
    with pytest.raises(DataError, match="not of the same classes"):
        measure([real, other], real, config=PIXELS)
    one = folder(tmp_path / "one", 2, ("apple",))
    with pytest.raises(DataError, match="at least two are needed"):
        measure([one], real, config=PIXELS)
    broken = distilled(tmp_path / "broken", real)
    (broken / "data" / "pear" / "00001.png").unlink()
    with pytest.raises(DataError, match="unfinished or damaged"):
        measure([broken], real, config=PIXELS)


def test_a_reference_with_more_classes_is_taken_class_by_class(tmp_path: Path) -> None:
    real = folder(tmp_path / "three", 9, ("apple", "pear", "plum"))
    found = measure([folder(tmp_path / "two", 3, seed=1)], real, config=PIXELS)
    assert found["classes"] == list(NAMES)
    assert found["reference"]["images"] == 18


def test_odd_counts_are_said(tmp_path: Path) -> None:
    real, uneven = folder(tmp_path / "real", 3), folder(tmp_path / "set", 2, seed=1)
    (uneven / "pear" / "001.png").unlink()
    notes = " ".join(measure([uneven], real, config=PIXELS)["notes"])
    assert "classes have 1 to 2 images" in notes
    assert "fewer than 6 real images" in notes


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"timestep": 1000}, "use 0"),
        ({"pool": "max"}, "'flatten' or 'mean'"),
        ({"reference_size": 0}, "use 1 or more"),
        ({"points": 6000}, "0 .no map. to 5000"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, int], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        MetricsConfig(**settings)  # type: ignore[arg-type]
