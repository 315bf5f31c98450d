"""The benchmark on photographs goes on where it stopped, shares its work, chooses without test data and says so."""

import importlib
import io
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import dap
from dap.backbones import open_backbone
from dap.data import open_dataset

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
EMBEDDED = Path(dap.__file__).parent / "backbones" / "assets" / "digits"
GAMMAS = {0.003: 0.2, 0.01: 0.4, 0.03: 0.3, 0.1: 0.1, 0.3: 0.1}


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, ModuleType]]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = (
        "record",
        "photograph_files",
        "photograph_settings",
        "photograph_sets",
        "photograph_checks",
        "photographs",
        "photograph_accuracy",
        "photograph_tables",
        "photograph_goals",
        "photograph_pictures",
    )
    found = {name: importlib.import_module(name) for name in names}
    monkeypatch.setattr(found["record"], "RESULTS", tmp_path / "results")
    yield found
    for name in names:
        monkeypatch.delitem(sys.modules, name)


def bench_on_digits(scripts: dict[str, ModuleType], work: Path, *only: str) -> Any:
    """The embedded backbone in the place of a trained one; a network sees every set a few times."""
    work.mkdir(exist_ok=True)
    if not (work / "backbone-fp16").exists():
        scripts["photograph_files"].write_shards(EMBEDDED, work / "backbone-fp16")
    share = {"networks": {"convnet-3": 0.001}, "compile": False, "dtype": "fp32", "evaluations": 1}
    setting = scripts["photograph_settings"].Setting(
        recipe="none",
        size=8,
        ipcs=(1, 2),
        seeds=2,
        test_images=20,
        few=("random", "unguided"),
        long=(2,),
        **share,
    )
    results = scripts["record"].Results("photographs_digits", setting=scripts["photographs"].as_record(setting))
    for gamma, worth in GAMMAS.items():
        key = f"choose | dap-paper, gamma {gamma:g} | 10 | 100"
        if key not in results:
            results[key] = {"last": worth, "vendi_share": 0.5}
    return scripts["photographs"].Bench(
        setting=setting, data="digits", work=work, device="cpu", results=results, only=only or ("*",)
    )


def test_rows_that_are_there_are_not_measured_again_and_patterns_share_the_work(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = bench_on_digits(scripts, tmp_path / "work", "worth | * | random | *", "worth | * | unguided | 1 | 0")
    other = bench_on_digits(scripts, tmp_path / "work", "worth | * | unguided | 1 | 1")
    mine.worth()
    other.worth()  # another process, that started before these rows were there
    kept = json.loads((tmp_path / "results" / "photographs_digits.json").read_text())["rows"]
    sets = [f"random | {ipc} | {seed}" for seed in (0, 1) for ipc in (1, 2)] + ["unguided | 1 | 0", "unguided | 1 | 1"]
    assert {key for key in kept if key.startswith("worth")} == {f"worth | convnet-3 | {name}" for name in sets}
    monkeypatch.setattr(scripts["photograph_sets"], "evaluate", None)  # called, it would raise
    bench_on_digits(scripts, tmp_path / "work", *mine.only).worth()


def test_a_row_that_another_process_measures_is_left_to_it_until_that_ends(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    mine, other = (bench_on_digits(scripts, tmp_path / "work", "worth | *") for _ in range(2))
    assert mine.mine("worth | a")
    assert not other.mine("worth | a")
    assert other.mine("worth | b")
    assert mine.mine("worth | a")  # its own
    for held in mine.claims.values():  # what the system does when a process ends, killed or not
        os.close(held)
    assert other.mine("worth | a")
    other.results["worth | a"] = {"last": 0.5}
    assert not other.mine("worth | a")
    assert other.mine("worth | c")
    assert set(other.claims) == {"worth | b", "worth | c"}  # what is measured is held no longer


def test_a_scale_goes_to_the_backbone_and_all_else_to_the_guidance(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    bench = bench_on_digits(scripts, tmp_path / "work")
    config = bench.config("dap", {"name": "dap", "cfg_scale": 2.5, "start": 0.7}, 10, 0)
    assert (config.backbone.cfg_scale, config.guidance.options) == (2.5, {"start": 0.7})


def test_a_finished_set_is_judged_without_opening_its_backbone(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = bench_on_digits(scripts, tmp_path / "work", "set | unguided | 1 | 0", "worth | * | unguided | 1 | 0")
    bench.sets()
    monkeypatch.setattr(scripts["photograph_sets"], "open_job", None)  # called, it would raise
    bench.worth()
    assert 0 <= bench.results["worth | convnet-3 | unguided | 1 | 0"]["last"] <= 1


def test_a_method_of_the_second_backbone_is_the_same_method_of_other_weights(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    first, second = bench_on_digits(scripts, tmp_path / "work"), scripts["photograph_settings"].SECOND
    bench = replace(first, setting=replace(first.setting, second=("unguided", "dap")))
    made = {name for name, *_ in bench.all_sets()}
    assert {name for name in made if name.endswith(second)} == {f"unguided{second}", f"dap{second}"}
    assert ("dap", 2) not in {about[:2] for about in bench.all_sets()}
    assert (f"dap{second}", 2) not in {about[:2] for about in bench.all_sets()}  # there is no time for it either
    method = bench.method(f"dap{second}", 1)
    assert method == bench.method("dap", 1)
    backbones = [bench.config(name, method, 1, 0).backbone.name for name in ("dap", f"dap{second}")]
    assert backbones == [str(tmp_path / "work" / name) for name in ("backbone-fp16", "backbone-1-fp16")]
    weights = open_backbone(EMBEDDED.as_posix(), device="cpu").transformer.state_dict()
    other = tmp_path / "other"
    shutil.copytree(EMBEDDED, other)
    (file,) = (other / "transformer").glob("*.safetensors")
    save_file({name: tensor + 0.02 for name, tensor in weights.items()}, file)
    scripts["photograph_files"].write_shards(other, tmp_path / "work" / "backbone-1-fp16")
    sets = [bench.the_set(name, 1, 0) for name in ("unguided", f"unguided{second}")]
    assert dap.open_dataset(str(sets[0])).digest != dap.open_dataset(str(sets[1])).digest


def test_only_the_backbone_that_is_asked_for_and_missing_is_trained(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second, trained = scripts["photograph_settings"].SECOND, []
    monkeypatch.setattr(scripts["photographs"].Bench, "train_backbone", lambda _, name: trained.append(name))
    bench = bench_on_digits(scripts, tmp_path / "work", "set | *")
    bench.backbone()
    assert trained == []
    replace(bench, only=("backbone",)).backbone()
    both = replace(bench, only=("backbone*",), setting=replace(bench.setting, second=("dap",)))
    bench.results["backbone"] = {}  # trained, here or elsewhere: another one would mix with its sets
    both.backbone()
    assert trained == ["", second]
    bench_on_digits(scripts, tmp_path / "work", "backbone*").backbone()
    assert trained == ["", second]


def test_another_machine_judges_real_sets_once_more_beside_what_they_were_worth(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    bench = bench_on_digits(scripts, tmp_path / "work", "machine | *")
    bench.results["worth | convnet-3 | random | 2 | 0"] = {"last": 0.42}  # nothing else was judged before
    bench.machine()
    row = bench.results["machine | random | 2 | 0"]
    assert row["before"] == 0.42
    assert 0 <= row["last"] <= 1
    assert [key for key in bench.results.record["rows"] if key.startswith("machine")] == ["machine | random | 2 | 0"]


def test_each_set_is_measured_at_the_tap_that_guided_it(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = bench_on_digits(scripts, tmp_path / "work"), scripts["photograph_settings"].SECOND
    bench = replace(first, setting=replace(first.setting, second=("dap",), ipcs=(10,), seeds=1, few=None))
    monkeypatch.setattr(scripts["photograph_sets"].Compared, "the_set", lambda _, *about: about)
    asked: dict[tuple[str, str], set[str]] = {}

    def measured(sets: Any, *_: Any, backbone: Any, config: Any, **__: Any) -> Any:
        asked[Path(backbone["name"]).name, config.features] = {name for name, *_ in sets}
        parts = ("representativeness", "diversity", "coverage", "near_copies", "yardstick")
        return {"sets": [{part: {} for part in parts} for _ in sets]}

    monkeypatch.setattr(scripts["photographs"], "measure", measured)
    bench.metrics()
    assert set(asked) == {(f"backbone{n}-fp16", space) for n in ("", "-1") for space in ("tap", "pixels")}
    for (backbone, _), names in asked.items():
        assert names == {f"dap{second}"} if "-1" in backbone else {"random", "unguided", "dap"} <= names
        assert backbone == "backbone-1-fp16" or f"dap{second}" not in names
    assert f"metrics | dap{second} | 10 | 0" in bench.results


def test_metrics_of_a_second_backbone_are_not_read_against_those_of_the_first(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    bench, second = bench_on_digits(scripts, tmp_path / "work"), scripts["photograph_settings"].SECOND
    bench = replace(bench, setting=replace(bench.setting, ipcs=(10,)))

    def row(energy: float) -> dict[str, Any]:
        one = {"mean": 0.5}
        spread = {"energy_distance": {"mean": energy}, "mean_distance": one}
        return {"representativeness": spread, "diversity": {"vendi": one}, "coverage": one, "near_copies": one}

    for name, energy in (("dap", 3.0), (f"dap{second}", 4.0), (f"unguided{second}", 5.0)):
        bench.results[f"metrics | {name} | 10 | 0"] = row(energy) | {"yardstick": row(2 * energy)}
    about = {**bench.results.record, "setting": scripts["photographs"].as_record(bench.setting), "name": "digits"}
    first, again = scripts["photograph_tables"].table(about).split(f"IPC 10{second}\n")
    assert "| dap | 3 |" in first
    assert "| held-out real images | 6 |" in first
    assert second not in first
    assert again.index(f"| unguided{second} | 5 |") < again.index(f"| dap{second} | 4 |")
    assert "| held-out real images | 8 |" in again


def test_without_a_choice_there_is_no_gamma_and_a_line_says_what_to_run(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    bench = bench_on_digits(scripts, tmp_path / "work")
    untried = replace(bench, results={})
    with pytest.raises(SystemExit, match="--stage choose"):
        untried.method("dap-paper", 10)


def test_the_published_gamma_is_the_best_on_the_validation_part_at_each_ipc(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    bench = bench_on_digits(scripts, tmp_path / "work")
    at_one = {0.3: 0.3, 1.0: 0.5, 3.0: 0.2}
    for gamma, worth in at_one.items():
        bench.results[f"choose | dap-paper, gamma {gamma:g} | 1 | 100"] = {"last": worth}
    chosen = {ipc: bench.method("dap-paper", ipc)["gamma"] for ipc in (1, 2, 10, 50)}
    best = max(GAMMAS, key=lambda gamma: GAMMAS[gamma])
    assert chosen == {1: 1.0, 2: 1.0, 10: best, 50: best}


def test_choices_see_neither_a_test_image_nor_one_of_the_validation_part(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = bench_on_digits(scripts, tmp_path / "work", "choose | random | 1 *", "choose | unguided | 1 *")
    bench.__dict__["train"] = bench.train.select(60, 0)
    judged_on: list[Any] = []
    judged = scripts["photographs"].Bench.judged

    def watched(self: Any, what: Any, network: str, test: Any, ipc: int) -> Any:
        judged_on.append(test)
        return judged(self, what, network, test, ipc)

    monkeypatch.setattr(scripts["photographs"].Bench, "judged", watched)
    bench.choose()
    assert "test" not in bench.__dict__  # the test data were never opened
    for name in ("random", "unguided"):
        row = bench.results[f"choose | {name} | 1 | 100"]
        assert 0 <= row["last"] <= 1
    made = json.loads((tmp_path / "work" / "choose" / "unguided-ipc1-seed100" / "config.json").read_text())
    assert str(tmp_path / "work" / "fit") in json.dumps(made)
    fit = dap.open_dataset(str(tmp_path / "work" / "fit"), mode="L")
    kept, held = (
        {image.numpy().tobytes() for label in range(10) for image in source.images(label)}
        for source in (fit, judged_on[0])
    )
    assert len(kept | held) == len({i.numpy().tobytes() for k in range(10) for i in bench.train.images(k)})
    assert not kept & held


def test_the_table_says_how_far_the_protocol_was_cut_and_what_dap_gains(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    bench = bench_on_digits(scripts, tmp_path / "work")
    found = {"unguided": {0: 0.2, 1: 0.3}, "dap": {0: 0.5, 1: 0.6}, "random": {1: 0.2, 5: 0.9}, "herding": {0: 0.4}}
    found["dap-paper"] = {1: 0.3}
    for name, worth in found.items():
        for seed, last in worth.items():
            bench.results[f"worth | convnet-3 | {name} | 1 | {seed}"] = {"last": last, "best": last}
    about = bench.results.record | {"name": "digits"}
    text = scripts["photograph_tables"].table(about)
    assert "## convnet-3, **scaled** 0.001" in text
    assert "| unguided | 25.0 ± 5.0 (25.0) | +30.0 ± 0.0 (10.0) |" in text
    assert "| random real | 55.0 ± 35.0 (55.0) | +40.0 |" in text  # over the seed that both have
    assert "| dap-paper | 30.0 (30.0) | +30.0 |" in text  # one seed of a method that draws has no error
    assert "| herding, real | 40.0 (40.0) | +15.0 ± 5.0 (5.0) |" in text  # one set serves all
    assert "20 test images" in text
    assert "dap-paper, gamma 0.01 |  | 40.0 (1) | 0.50" in text


def test_sets_of_a_second_backbone_have_a_table_of_their_own_beside_the_same_real_images(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    bench, second = bench_on_digits(scripts, tmp_path / "work"), scripts["photograph_settings"].SECOND
    for name, last in (("random", 0.2), ("dap", 0.5), (f"unguided{second}", 0.1), (f"dap{second}", 0.4)):
        bench.results[f"worth | convnet-3 | {name} | 1 | 0"] = {"last": last, "best": last}
    text = scripts["photograph_tables"].table(bench.results.record | {"name": "digits"})
    first, again = text.split("## Chosen")[0].split("second backbone, trained with another seed")
    assert "| random real | 20.0 (20.0) | +30.0 |" in first
    assert second not in first
    assert "| random real | 20.0 (20.0) | +20.0 |" in again
    assert f"| unguided{second} | 10.0 (10.0) | +30.0 |" in again
    assert "| dap |" not in again


def test_the_sheet_has_a_row_for_real_images_and_for_each_method(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    pictures, real = scripts["photograph_pictures"], dap.open_dataset("digits:train")
    for name in pictures.METHODS:
        scripts["photograph_files"].write_folders(real.select(5, 0), tmp_path / f"{name}-ipc10-seed0")
    sheet = Image.open(io.BytesIO(pictures.sheet(tmp_path, real)))
    few = Image.open(io.BytesIO(pictures.sheet(tmp_path, real, images=2)))
    assert sheet.format == "JPEG"
    assert sheet.width > few.width > 0
    rows = 2 * (1 + len(pictures.METHODS))  # two bands of classes
    assert sheet.height == few.height >= rows * 64  # of 8 px, shown eight times as large
    assert pictures.sheet(tmp_path, real, second=", second backbone") is None  # of which there is no set
    shutil.copytree(tmp_path / "dap-ipc10-seed0", tmp_path / "dap--second-backbone-ipc10-seed0")
    again = pictures.sheet(tmp_path, real, second=", second backbone")
    assert Image.open(io.BytesIO(again)).height < sheet.height
    shutil.rmtree(tmp_path / "dap-paper-ipc10-seed0")
    assert Image.open(io.BytesIO(pictures.sheet(tmp_path, real))).height < sheet.height  # as long as it is not made
    (tmp_path / "samples").mkdir()
    for step, side in ((100, 8), (2000, 16)):
        Image.new("RGB", (side, side)).save(tmp_path / "samples" / f"{step:07d}.png")
    assert Image.open(io.BytesIO(pictures.samples(tmp_path))).size == (16, 16)  # the last
    assert pictures.loss_curve([1.0, 0.5, 0.25]).startswith(b"\x89PNG")


def test_a_backbone_in_shards_is_the_same_in_half_precision(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts["photograph_files"], "SHARD", "1MB")
    scripts["photograph_files"].write_shards(EMBEDDED, tmp_path / "small")
    shards = list((tmp_path / "small" / "transformer").glob("*.safetensors"))
    assert len(shards) > 2
    assert max(path.stat().st_size for path in shards) < 2**20
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    backbones = [open_backbone(str(place), device="cpu") for place in (EMBEDDED, tmp_path / "small")]
    whole, halved = (b.predict(x, 400, b.condition([3, 7])).eps for b in backbones)
    assert torch.allclose(whole, halved, atol=0.02)


def test_clusters_of_one_remedy_do_not_stay_for_the_next(
    scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, bench: Any, units: Any
) -> None:
    remedies = importlib.import_module("divided")
    monkeypatch.delitem(sys.modules, "divided")
    b, options = bench(real=20, steps=3), {"reference": "cluster", "tap": "block.1", "strength": 0.3}
    preset, same, other = (
        remedies.Representativeness(**options),
        *(remedies.Divided(**options, equal=equal) for equal in (True, False)),
    )
    asked: list[int] = []
    kmeans = remedies.kmeans_members
    monkeypatch.setattr(remedies, "kmeans_members", lambda *given: asked.append(1) or kmeans(*given))

    def sampled(guidance: Any) -> torch.Tensor:
        return b.sample(units([0, 1], 3), b.guided(guidance, b.reference(rows=20, ipc=3)))

    before = sampled(preset)
    assert torch.equal(sampled(same), before)
    assert not asked
    assert not torch.equal(sampled(other), before)
    count = len(asked)
    assert count
    assert torch.equal(sampled(preset), before)
    assert len(asked) == count


def test_every_row_that_is_kept_and_every_close_candidate_has_a_definition(scripts: dict[str, ModuleType]) -> None:
    settings, real = scripts["photograph_settings"], {"random", "herding", "kmeans"}
    known = real | set(settings.CANDIDATES) | set(settings.REMEDIES)
    for name, setting in settings.SETTINGS.items():
        assert set(setting.close) <= known
        rows = json.loads((BENCHMARKS / "results" / f"photographs_{name}.json").read_text())["rows"]
        chosen = {key.split(" | ")[1] for key in rows if key.startswith("choose | ")}
        assert chosen <= known, name
        made = {key.split(" | ")[2] for key in rows if key.startswith("worth | ")}
        second = {f"{method}{settings.SECOND}" for method in setting.second}
        averages = {*settings.MIDDLES, scripts["photograph_files"].CENTRES}
        assert made <= known | second | averages | {"dap-paper", "full"}, name


@pytest.mark.parametrize(
    ("theirs", "enough", "expected"),
    [
        ({0: 20.0, 1: 22.0}, False, "holds +9.0 (2.0; 2 sets)"),
        ({0: 29.0, 1: 31.0}, False, "level +0.0 (2.0; 2 sets)°"),
        ({0: 29.0, 1: 31.0}, True, "holds +0.0 (2.0; 2 sets)°"),
        ({0: 28.0, 1: 30.0}, False, "level +1.0 (2.0; 2 sets)"),
        ({0: 31.0, 1: 32.0}, True, "level -1.5 (1.5; 2 sets)°"),
        ({0: 32.0, 1: 34.0}, True, "**missed** -3.0 (2.0; 2 sets)"),
        ({1: 20.0}, False, "one set: +10.0"),
        ({}, False, "not measured"),
    ],
)
def test_a_goal_holds_only_beyond_the_summed_errors(
    scripts: dict[str, ModuleType], theirs: dict[int, float], enough: bool, expected: str
) -> None:
    assert str(scripts["photograph_goals"].verdict({0: 29.0, 1: 31.0}, theirs, enough=enough)) == expected


def test_averages_are_those_of_the_class_and_centres_average_to_no_more_than_their_images(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    source, write = open_dataset("digits:train"), scripts["photograph_files"].write_averages
    write(source, "mean image", 1, 0, tmp_path / "mean")
    write(source, "median image", 1, 0, tmp_path / "median")
    write(source, "k-means centres", 3, 0, tmp_path / "centres")
    images = source.images(4).float()
    for name, expected in (("mean", images.mean(0)), ("median", images.median(0).values)):
        made = open_dataset(str(tmp_path / name)).with_format(mode=source.mode)
        assert made.counts == (1,) * 10
        assert torch.equal(made.images(4)[0].float(), expected.round())
    centres = open_dataset(str(tmp_path / "centres")).with_format(mode=source.mode)
    assert centres.counts == (3,) * 10
    gaps = torch.cdist(images.flatten(1), centres.images(4).float().flatten(1)).min(1).values
    assert gaps.square().sum() < (images - images.mean(0)).square().sum()
    assert not list(tmp_path.glob("*.part"))


def test_averages_are_judged_once_each(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = bench_on_digits(scripts, tmp_path / "work", "worth | * | m* image | 1 | *", "worth | * | *centres | 10 | 1")
    bench.averages()
    expected = {f"worth | convnet-3 | {name} image | 1 | 0" for name in ("mean", "median")}
    expected.add("worth | convnet-3 | k-means centres | 10 | 1")
    assert {key for key in bench.results.record["rows"] if key.startswith("worth")} == expected
    monkeypatch.setattr(scripts["photograph_sets"], "evaluate", None)  # called, it would raise
    monkeypatch.setattr(scripts["photograph_checks"], "write_averages", None)
    replace(bench, claims={}).averages()
    assert bench.average("mean image", 1, 0).exists()


def test_what_draws_nothing_stands_beside_all_sets_of_ours(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    bench = bench_on_digits(scripts, tmp_path / "work")
    for seed, last in ((0, 0.3), (1, 0.5)):
        bench.results[f"worth | convnet-3 | dap | 1 | {seed}"] = {"last": last, "best": last}
    bench.results["worth | convnet-3 | median image | 1 | 0"] = {"last": 0.2, "best": 0.2}
    about = {**bench.results.record, "setting": scripts["photographs"].as_record(bench.setting), "name": "digits"}
    text = scripts["photograph_tables"].table(about)
    assert "| median image | 20.0 (20.0) | +20.0 ± 10.0 (10.0) |" in text
    bench.results["unscaled | convnet-3 | dap | 1 | 0"] = {"last": 0.6, "best": 0.7}
    lines = scripts["photograph_tables"].spreadsheet(bench.results.record | {"setting": about["setting"]}).splitlines()
    assert "convnet-3,dap,1,0,0.001,0.3,0.3" in lines
    assert "convnet-3,dap,1,0,1.0,0.6,0.7" in lines


def test_one_image_a_class_is_judged_in_all_epochs_beside_the_rows_with_a_share_of_them(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = bench_on_digits(scripts, tmp_path / "work", "unscaled | *")
    monkeypatch.setattr(scripts["photograph_sets"].Compared, "the_set", lambda _, *about: about)
    asked: list[float] = []

    def judged(_: Any, *__: Any, config: Any, **___: Any) -> Any:
        asked.append(config.epochs_scale)
        return {"results": [{"last": {"values": [0.5]}, "best": {"values": [0.5]}, "seconds": 1.0}]}

    monkeypatch.setattr(scripts["photograph_sets"], "evaluate", judged)
    bench.unscaled()
    assert set(asked) == {1.0}
    rows = {key for key in bench.results.record["rows"] if key.startswith("unscaled")}
    assert {f"unscaled | convnet-3 | dap | 1 | {seed}" for seed in (0, 1)} <= rows
    assert "unscaled | convnet-3 | median image | 1 | 0" in rows
    assert all(" | 1 | " in key for key in rows)
    assert not [key for key in rows if "repulsion" in key]


def test_all_epochs_stand_beside_a_share_of_them_for_the_same_sets(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    bench = bench_on_digits(scripts, tmp_path / "work")
    for seed, last in ((0, 0.3), (1, 0.5)):
        bench.results[f"worth | convnet-3 | dap | 1 | {seed}"] = {"last": last, "best": last}
    bench.results["unscaled | convnet-3 | dap | 1 | 1"] = {"last": 0.6, "best": 0.7}
    about = {**bench.results.record, "setting": scripts["photographs"].as_record(bench.setting), "name": "digits"}
    text = scripts["photograph_tables"].table(about)
    assert "| dap (1) | 60.0 (70.0) | 50.0 |" in text
    assert "unguided (" not in text


def test_three_sets_are_no_few(scripts: dict[str, ModuleType]) -> None:
    theirs = {0: 10.0, 1: 11.0, 2: 12.0}
    found = scripts["photograph_goals"].verdict({0: 29.0, 1: 31.0, 2: 30.0}, theirs)
    assert str(found) == "holds +19.0 (1.2)"


def test_goals_are_those_of_the_committed_rows(scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    results, goals = BENCHMARKS / "results", scripts["photograph_goals"]
    monkeypatch.setattr(goals, "RESULTS", results)
    found, text = goals.all_goals(), goals.PAGE.read_text()
    assert (results / "photograph_goals.md").read_text() == goals.table(found)
    assert goals.page(text, found) == text


def test_the_short_form_says_of_each_goal_what_is_known(
    scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    goals = scripts["photograph_goals"]

    def place(ipc: int, backbone: str = "", former: bool = False, **found: Any) -> Any:
        return goals.Place(data="here", backbone=backbone, network="net", ipc=ipc, former=former, goals=found)

    holds, level = (goals.Verdict(word=w, difference=9.0, errors=2.0, sets=3, open=True) for w in ("holds", "level"))
    enough = goals.Verdict(word="holds", difference=0.5, errors=1.0, sets=2)
    one, missed = (goals.Verdict(word=word, difference=-0.5, errors=0.2, sets=1) for word in ("one", "missed"))
    nothing = goals.Verdict(word="not")
    every = [
        place(1, unguided=holds, random=holds),
        place(10, unguided=missed, random=one, kmeans=enough),
        place(50, unguided=nothing, random=nothing),
        place(50, backbone=", again", unguided=holds, random=level),
    ]
    text = goals.short(every)
    assert (
        "| here, net | all hold | above k-means (2 sets) (level, which is enough); **below unguided** (-0.5);"
        " -0.5 over random (one set) | not measured |"
    ) in text
    assert "| here, again, net | – | – | above unguided; level with random (+9.0) |" in text
    assert goals.summary(place(1, former=True, random=holds)) == "former preset: all hold"
    monkeypatch.setattr(goals, "NAMED", {"here": "here"})
    lost = [place(2, random=missed), place(5, former=True, random=missed, unguided=holds)]
    assert goals.count(every + lost).endswith(
        "here (10): 4 hold (3 of them level by the 95 % interval), 1 level, 2 missed, 1 with one set, 2 not measured"
        " (1 of them missed by the former preset)."
    )


def test_a_place_without_our_sets_is_not_measured_and_of_the_published_method_the_better_gamma_counts(
    scripts: dict[str, ModuleType],
) -> None:
    worth = {"former dap": 0.5, "random": 0.5, "dap-paper": 0.3, "dap-paper, gamma 0.1": 0.4}
    rows = {
        f"worth | convnet-3 | {name} | 10 | {seed}": {"last": last + seed / 100}
        for seed in (0, 1)
        for name, last in worth.items()
    }
    goals = scripts["photograph_goals"]
    setting = replace(scripts["photograph_settings"].SETTINGS["cifar10-cpu"], networks={"convnet-3": 1.0}, ipcs=(1, 10))
    first, second = goals.goals("cifar10-cpu", rows, setting)
    assert {goal.word for goal in first.goals.values()} == {"not"}
    assert not first.former
    assert second.former
    assert str(second.goals["random"]) == "level +0.0 (1.0; 2 sets)°"
    assert second.goals["dap-paper"].difference == pytest.approx(10.0)
    assert second.goals["unguided"].word == "not"
