"""Jobs from end to end: what the classes mean, what may grow, what is refused before anything is sampled."""

import errno
import json
import os
import shutil
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dap import bank, identity
from dap.backbones import open_backbone
from dap.config import load_config
from dap.data import open_dataset
from dap.distillation import distill, open_job
from dap.errors import ConfigError, DapWarning, DataError, SamplingError, StoreError
from dap.testing import save_tiny_dit, tiny_dit

NAMES = ("ant", "bee", "cat")
UNGUIDED: dict[str, Any] = {"name": "none"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_dit(tmp_path_factory.mktemp("m") / "dit", tiny_dit(classes=3, class_names=NAMES)))


def photos(where: Path, names: tuple[str, ...] = NAMES, count: int = 4) -> str:
    for label, name in enumerate(sorted(names)):
        (where / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.random.default_rng(100 * label + i).integers(0, 256, (9, 8, 3), np.uint8)
            Image.fromarray(pixels).save(where / name / f"{i}.png")
    return str(where)


def make(data: str, model: str, out: Path, guidance: dict[str, Any] | None = None, **run: Any) -> Path:
    config = load_config(
        data={"source": data},
        backbone={"name": model},
        sampling={"steps": 3},
        guidance=guidance or {"name": "dap"},
        run={"ipc": 2, "micro_batch": 2, **run},
    )
    distill(config, out)
    return out


def pixels(out: Path, name: str) -> list[bytes]:
    return [p.read_bytes() for p in sorted((out / "data" / name).glob("*.png"))]


@pytest.mark.parametrize(
    ("record", "share"),
    [
        ({}, 0.5),
        ({"training": {"from": "DiT-XL"}}, 0.5),
        ({"training": {}}, 0.5),
        ({"training": "long"}, 0.5),
        ({"training": {"from": None}}, 0.25),
        ({"training": {"from": "mine"}, "from_scratch": True}, 0.25),
        ({"training": {"from": None}, "from_scratch": False}, 0.5),
    ],
)
def test_of_many_images_of_a_backbone_trained_from_nothing_each_begins_later(
    record: dict[str, Any], share: float, tmp_path: Path
) -> None:
    data = photos(tmp_path / "p", count=20)
    own = str(save_tiny_dit(tmp_path / "dit", tiny_dit(classes=3, class_names=NAMES), **record))
    job = open_job(load_config(data={"source": data}, backbone={"name": own}, run={"ipc": 20}), tmp_path / "d")
    assert (job.record["determines"]["guidance"]["start"], len(job.taken)) == (share, ceil(50 * share))
    few = open_job(load_config(data={"source": data}, backbone={"name": own}, run={"ipc": 10}), tmp_path / "e")
    assert (few.record["determines"]["guidance"]["start"], len(few.taken)) == (0.5, 25)


@pytest.mark.parametrize("guidance", [UNGUIDED, {"name": "dap"}], ids=["none", "dap"])
def test_classes_mean_the_same_in_whatever_order_the_backbone_has_them(
    guidance: dict[str, Any], model: str, tmp_path: Path
) -> None:
    """A backbone with its label table permuted and its names with it must make the same images for the same names."""
    turned = tiny_dit(classes=3, class_names=NAMES)
    order = [2, 0, 1]
    for block in turned.transformer.transformer_blocks:
        table = block.norm1.emb.class_embedder.embedding_table.weight
        table.data[:3] = table.data[order].clone()
    other = tiny_dit(classes=3, class_names=tuple(NAMES[i] for i in order))
    other.transformer.load_state_dict(turned.transformer.state_dict())
    elsewhere = str(save_tiny_dit(tmp_path / "turned", other))
    data = photos(tmp_path / "photos")
    one, two = make(data, model, tmp_path / "a", guidance), make(data, elsewhere, tmp_path / "b", guidance)
    for name in NAMES:
        assert pixels(one, name) == pixels(two, name)
    assert pixels(one, "ant") != pixels(one, "bee")


def test_ipc_grows_in_place_when_nothing_couples(model: str, tmp_path: Path) -> None:
    data, paper = photos(tmp_path / "photos"), {"name": "dap-paper", "gamma": 0.1}
    grown = make(data, model, tmp_path / "grown", paper)
    first = pixels(grown, "bee")
    make(data, model, grown, paper, ipc=5)
    assert pixels(grown, "bee")[:2] == first
    assert pixels(grown, "bee") == pixels(make(data, model, tmp_path / "at-once", paper, ipc=5), "bee")
    with pytest.raises(ConfigError, match="ipc is 3"):
        make(data, model, grown, paper, ipc=3)


def test_ipc_does_not_grow_in_place_when_images_couple(model: str, tmp_path: Path) -> None:
    out = make(photos(tmp_path / "photos"), model, tmp_path / "d")
    with pytest.raises(StoreError, match=r"run\.ipc: 2 there, 5 asked"):
        make(str(tmp_path / "photos"), model, out, ipc=5)


NO_CONTRAST = {"name": "dap", "contrast": 0.0}


def test_without_contrast_an_image_depends_on_its_class_alone(model: str, tmp_path: Path) -> None:
    """Neither on the other classes of the dataset nor on how images are cut into chunks."""
    all_three = make(photos(tmp_path / "three"), model, tmp_path / "a", NO_CONTRAST)
    two = make(photos(tmp_path / "two", ("ant", "bee")), model, tmp_path / "b", NO_CONTRAST)
    cut = make(str(tmp_path / "three"), model, tmp_path / "c", NO_CONTRAST, chunk=2)
    for name in ("ant", "bee"):
        assert pixels(all_three, name) == pixels(two, name) == pixels(cut, name)


def test_with_contrast_on_real_images_of_the_others_but_not_on_which_are_sampled(model: str, tmp_path: Path) -> None:
    data = photos(tmp_path / "three")
    whole, cut = make(data, model, tmp_path / "a"), make(data, model, tmp_path / "c", chunk=2)
    run = {"ipc": 2, "micro_batch": 2, "chunk": 2}
    config = load_config(data={"source": data}, backbone={"name": model}, sampling={"steps": 3}, run=run)
    alone = open_job(config, tmp_path / "alone")
    for _ in alone.render(alone.chunks_with("bee")):
        pass
    assert pixels(whole, "bee") == pixels(cut, "bee") == pixels(tmp_path / "alone", "bee")
    two = make(photos(tmp_path / "two", ("ant", "bee")), model, tmp_path / "b")
    assert pixels(two, "bee") != pixels(whole, "bee")


def test_scale_zero_is_unguided_bit_for_bit(model: str, tmp_path: Path) -> None:
    data = photos(tmp_path / "photos")
    none = make(data, model, tmp_path / "none", UNGUIDED)
    zero = make(data, model, tmp_path / "zero", {"name": "dap", "strength": 0.0})
    some = make(data, model, tmp_path / "some", {"name": "dap", "strength": 0.3})
    assert pixels(none, "cat") == pixels(zero, "cat") != pixels(some, "cat")


def test_a_truncated_image_fails_before_sampling_or_is_skipped_and_recorded(model: str, tmp_path: Path) -> None:
    data = photos(tmp_path / "photos")
    broken = tmp_path / "photos" / "bee" / "1.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(DataError, match=r"bee/1\.png.*on-bad-image skip"):
        make(data, model, tmp_path / "d")
    assert not (tmp_path / "d").exists()
    skipping = {"source": data, "on_bad_image": "skip"}
    config = load_config(data=skipping, backbone={"name": model}, sampling={"steps": 2}, run={"ipc": 1})
    job = open_job(config, tmp_path / "d")
    assert job.record["real_images"]["counts"] == [4, 3, 4]
    assert job.record["real_images"]["skipped"][0][0] == "bee/1.png"


def test_classes_the_backbone_does_not_know_are_refused_or_mapped(model: str, tmp_path: Path) -> None:
    data = photos(tmp_path / "photos", ("ants", "bee", "cat"))
    with pytest.raises(DataError, match=r"'ants'.*'ant'.*class-map"):
        make(data, model, tmp_path / "d")
    (tmp_path / "map.csv").write_text("dataset_class,backbone_class\nants,ant\n")
    config = load_config(
        data={"source": data, "class_map": str(tmp_path / "map.csv")}, backbone={"name": model}, sampling={"steps": 1}
    )
    assert open_job(config, tmp_path / "d").sampler.classes == (0, 1, 2)


def test_numbers_that_are_not_finite_name_the_image_and_leave_no_set(model: str, tmp_path: Path) -> None:
    with pytest.raises(SamplingError, match=r"image ant:0 is not finite after step 1 of 3.*lower guidance"):
        make(photos(tmp_path / "photos"), model, tmp_path / "d", {"name": "dap-paper", "gamma": 1e39})
    assert not list((tmp_path / "d").rglob("*.png"))


def test_a_distilled_set_is_a_dataset_with_the_sources_labels(model: str, tmp_path: Path) -> None:
    out = make(photos(tmp_path / "photos"), model, tmp_path / "d")
    source = open_dataset(str(out))
    assert source.class_names == NAMES
    assert source.counts == (2, 2, 2)


def test_two_guidances_of_one_class_name_are_two_guidances(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "from dataclasses import dataclass\n@dataclass(frozen=True, kw_only=True)\nclass Same:\n"
        "    interval: tuple[float, float] = (0.0, 1.0)\n    tap = None\n    couples = False\n"
        "    def resolved(self, backbone): return self\n"
        "    def prepare(self, backbone, reference): return lambda step: {} * step.x_prev\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, scale in (("one_guidance", 0.1), ("other_guidance", 0.2)):
        (tmp_path / f"{name}.py").write_text(text.format(scale))
    data = photos(tmp_path / "photos")
    out = make(data, model, tmp_path / "d", {"name": "one_guidance:Same"})
    with pytest.raises(StoreError, match="--guidance one_guidance:Same there, other_guidance:Same asked"):
        make(data, model, out, {"name": "other_guidance:Same"})


def test_settings_of_the_model_count_as_the_model(model: str, tmp_path: Path) -> None:
    """A config.json beside the same weights makes other pixels, so it must make another digest."""
    edited = tmp_path / "edited"
    shutil.copytree(model, edited)
    config = edited / "transformer" / "config.json"
    config.write_text(config.read_text().replace('"norm_eps": 1e-06', '"norm_eps": 0.1'))
    assert open_backbone(model).weights_digest() != open_backbone(str(edited)).weights_digest()


def test_more_guided_channels_than_the_model_has_are_refused(model: str, tmp_path: Path) -> None:
    config = load_config(
        data={"source": photos(tmp_path / "photos")}, backbone={"name": model, "cfg_channels": 3}, run={"ipc": 1}
    )
    with pytest.raises(ConfigError, match="cfg_channels is 3"):
        open_job(config, tmp_path / "d")


# --- the reference cache ----------------------------------------------------------------------------------------------


def test_a_reference_cache_pays_for_the_next_seed_and_ipc_and_changes_no_byte(model: str, tmp_path: Path) -> None:
    data, cache = photos(tmp_path / "photos"), {"reference_cache": str(tmp_path / "cache")}
    plain, first = make(data, model, tmp_path / "plain"), make(data, model, tmp_path / "first", **cache)
    for name in NAMES:
        assert pixels(plain, name) == pixels(first, name)
    entries = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.safetensors")}
    assert entries
    make(data, model, tmp_path / "other", **cache | {"ipc": 3, "seed": 7})
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.safetensors")} == entries


@pytest.mark.parametrize(("guidance", "pools"), [(NO_CONTRAST, 0), ({"name": "dap"}, 1)])
def test_a_further_class_pays_for_itself_and_the_pool_of_negatives(
    guidance: dict[str, Any], pools: int, model: str, tmp_path: Path
) -> None:
    cache = {"reference_cache": str(tmp_path / "cache")}
    make(photos(tmp_path / "two", ("ant", "bee")), model, tmp_path / "a", guidance, **cache)
    entries = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.safetensors")}
    make(photos(tmp_path / "three"), model, tmp_path / "b", guidance, **cache)
    later = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.safetensors")}
    steps = len(entries) // (2 + pools)
    assert len(entries) == steps * (2 + pools)
    assert len(later) == steps * (3 + 2 * pools)  # another pool, and the one that there was
    assert entries.items() <= later.items()


def test_no_set_mixes_two_recipes_of_the_real_features(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = photos(tmp_path / "photos")
    for name, guidance in (("plain", UNGUIDED), ("guided", {"name": "dap"})):
        make(data, model, tmp_path / name, guidance)
    monkeypatch.setattr(identity, "FORMAT", identity.FORMAT + 1)
    make(data, model, tmp_path / "plain", UNGUIDED)
    with pytest.raises(StoreError, match=r"data\.features: \d+ there, \d+ asked"):
        make(data, model, tmp_path / "guided")


def test_a_disk_that_fills_up_meanwhile_changes_no_image(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, room = photos(tmp_path / "photos"), iter(range(2))
    plain, inner = make(data, model, tmp_path / "plain"), bank.write_whole

    def filling(path: Path, written: bytes) -> None:
        if next(room, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        inner(path, written)

    monkeypatch.setattr(bank, "write_whole", filling)
    with pytest.warns(DapWarning, match="the disk is full"):
        full = make(data, model, tmp_path / "full", reference_cache=str(tmp_path / "cache"))
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 2
    for name in NAMES:
        assert pixels(plain, name) == pixels(full, name)


def test_a_cache_that_cannot_fit_is_refused_before_anything_is_computed(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = photos(tmp_path / "photos")
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 10))  # type: ignore[attr-defined]
    with pytest.raises(StoreError, match=r"the reference cache needs .* GB .*guidance\.projection"):
        make(data, model, tmp_path / "out", reference_cache=str(tmp_path / "cache"))
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "cache").exists()


def test_a_few_real_images_stand_for_a_class_and_more_where_more_are_made(model: str, tmp_path: Path) -> None:
    data = photos(tmp_path / "photos", count=20)

    def used(ipc: int, **options: Any) -> tuple[int, ...]:
        config = load_config(
            data={"source": data}, backbone={"name": model}, guidance={"name": "dap", **options}, run={"ipc": ipc}
        )
        return open_job(config, tmp_path / "never").source.counts

    assert used(2, reference_size=9) == (9, 9, 9)
    assert used(3, reference_size=9) == (12, 12, 12)  # four for each image, where images couple
    assert used(3, reference_size=9, repulsion=0.0, reference="class") == (9, 9, 9)
    assert used(2, reference_size=500) == (20, 20, 20)
    assert used(2, reference_size="all") == used(2, reference_size=None) == (20, 20, 20)


def test_repulsion_left_to_the_number_of_images_is_recorded_as_the_number_it_is(model: str, tmp_path: Path) -> None:
    data = photos(tmp_path / "photos")
    made = make(data, model, tmp_path / "out")
    record = json.loads((made / "config.json").read_text())
    assert record["determines"]["guidance"]["repulsion"] == 0.14
    make(data, model, made, {"name": "dap", "repulsion": 0.14})  # the same set: nothing is refused
    with pytest.raises(StoreError, match=r"guidance\.repulsion: 0\.14 there, 0\.7 asked"):
        make(data, model, made, {"name": "dap", "repulsion": 0.7})


def test_a_large_class_shows_the_guidance_images_from_its_middle_and_a_small_one_support_points(
    model: str, tmp_path: Path
) -> None:
    data = photos(tmp_path / "data", count=40)
    for extra in sorted((tmp_path / "data" / "bee").glob("*.png"))[30:]:
        extra.unlink()

    def job(out: str, **options: Any) -> Any:
        guidance = {"name": "dap", "reference_size": 6, **options}
        read = {"data": {"source": data}, "backbone": {"name": model}, "sampling": {"steps": 3}}
        return open_job(load_config(**read, guidance=guidance, run={"ipc": 1}), tmp_path / out)

    both, points = job("both", reference_herded=4), job("points")  # four for the one image: 40 > 9 x 4 > 30
    assert both.record["real_images"]["used"] == [4, 6, 4]
    assert points.record["real_images"]["used"] == [6, 6, 6]
    assert both.record["digest"] != points.record["digest"]
    with pytest.raises(ConfigError, match=r"guidance\.reference_herded is 4, but reference_size says all real images"):
        job("all", reference_herded=4, reference_size="all")
