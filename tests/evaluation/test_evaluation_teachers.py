"""Teachers: trained here, from a file or by name; matched by class name, checked for class order, resumable."""

from __future__ import annotations

import io
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_sets import NAMES, folder
from safetensors.torch import load_file, save_file
from torch import nn

from dap.config import EvaluationConfig
from dap.data import open_dataset
from dap.data.imagenet import imagenet_wnids, subset_wnids, synset
from dap.errors import ConfigError, DapError, DataError, StoreError
from dap.evaluation import build_network, evaluate, get_protocol
from dap.evaluation.protocol import IMAGENET
from dap.evaluation.teachers import match_outputs, open_teacher
from dap.evaluation.teachers import training as training_module
from dap.evaluation.teachers import weights as weights_module
from dap.evaluation.teachers.check import check_classes
from dap.evaluation.teachers.training import train_teacher

HALF = get_protocol("hard-tiny").normalise
SOFT = """
base = "soft-rded"
network = "convnet-2w64"
size = 8
temperature = 2
crop = false
shuffle = 0
rate = 0.01
test_crop = 1
"""


def made(data: Path, out: Path, scale: float = 0.05, **options: Any) -> dict[str, Any]:
    given = {"network": "convnet-2w64", "protocol": get_protocol("hard-tiny"), "scale": scale, "device": "cpu"}
    return train_teacher(open_dataset(data), out, **{**given, **options})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, real: Path, held_out: Path) -> Path:
    out = tmp_path_factory.mktemp("teacher") / "T"
    made(real, out, test=open_dataset(held_out))
    return out


def opened(spec: str | Path, names: tuple[str, ...] = NAMES, **options: Any) -> Any:
    return open_teacher(str(spec), names, **{"size": 8, "normalise": HALF, **options})


def soft(tmp_path: Path, **settings: Any) -> EvaluationConfig:
    labels = settings.pop("labels", "online")
    path = tmp_path / f"mine-{labels}.toml"
    path.write_text(SOFT + f'labels = "{labels}"\n')
    return EvaluationConfig(**{"protocol": str(path), "repeats": 1, "epochs_scale": 0.1, **settings})


def test_a_teacher_holds_what_a_reader_must_know(trained: Path, real: Path, held_out: Path) -> None:
    assert sorted(p.name for p in trained.iterdir()) == ["teacher.json", "teacher.safetensors"]
    record = json.loads((trained / "teacher.json").read_text())
    assert (record["network"], record["class_names"], record["size"]) == ("convnet-2w64", list(NAMES), 8)
    assert record["normalise"] == [list(row) for row in HALF]
    assert record["accuracy"]["train"] > 0.9
    assert record["accuracy"]["test"] > 0.9
    assert record["data"][str(held_out)] == {"digest": open_dataset(held_out).digest, "counts": [5, 6, 7]}
    assert {"torch", "dap"} <= set(record["versions"])
    assert (record["protocol"]["name"], record["steps"]) == ("hard-tiny", 75)


def test_the_same_command_leaves_a_finished_teacher_and_refuses_another(
    trained: Path, real: Path, held_out: Path
) -> None:
    before = (trained / "teacher.safetensors").read_bytes()
    made(real, trained, test=open_dataset(held_out))
    assert (trained / "teacher.safetensors").read_bytes() == before
    with pytest.raises(StoreError, match=r"holds another teacher \(seed: 0 there, 1 asked\)"):
        made(real, trained, test=open_dataset(held_out), seed=1)
    (trained.parent / "full").mkdir()
    (trained.parent / "full" / "thesis.tex").write_text("mine")
    with pytest.raises(StoreError, match="is no teacher"):
        made(real, trained.parent / "full")


@pytest.mark.parametrize("protocol", ["hard-tiny", "hard-small"])
def test_an_interrupted_teacher_goes_on_to_the_same_weights(
    tmp_path: Path, real: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    monkeypatch.setattr(training_module, "SAVE_SECONDS", 0.0)
    options = {"protocol": get_protocol(protocol), "scale": 0.02}
    made(real, tmp_path / "whole", **options)

    def stop(done: int, total: int) -> None:
        if done == total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(real, tmp_path / "T", progress=stop, **options)
    assert (tmp_path / "T" / "training" / "state.pt").exists()
    assert not (tmp_path / "T" / "teacher.json").exists()
    with pytest.raises(StoreError, match="is not finished"):
        opened(tmp_path / "T")
    steps: list[int] = []
    made(real, tmp_path / "T", progress=lambda done, total: steps.append(done), **options)
    assert steps[0] > 1
    whole, resumed = (load_file(tmp_path / name / "teacher.safetensors") for name in ("whole", "T"))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    (tmp_path / "T" / "teacher.json").unlink()


def test_a_damaged_teacher_is_refused(trained: Path, tmp_path: Path) -> None:
    for name, said in (("teacher.safetensors", "has changed"), ("teacher.json", "is damaged, or was edited")):
        copy = tmp_path / name
        copy.mkdir()
        for file in trained.iterdir():
            data = bytearray(file.read_bytes())
            if file.name == name:
                data[-5] ^= 1
            (copy / file.name).write_bytes(data)
        with pytest.raises(StoreError, match=said):
            opened(copy)


def test_classes_are_matched_by_name_and_images_read_as_the_teacher_was_trained(trained: Path) -> None:
    images = torch.rand(4, 3, 8, 8)
    mean, sd = (torch.tensor(row).view(1, 3, 1, 1) for row in IMAGENET)
    straight = opened(trained).network((images - 0.5) / 0.5)
    turned = opened(trained, ("plum", "apple", "pear"), normalise=IMAGENET).network((images - mean) / sd)
    assert torch.allclose(straight[:, [2, 0, 1]], turned, atol=1e-4)
    assert opened(trained).digest != opened(trained, ("plum", "apple", "pear")).digest
    large = torch.nn.functional.interpolate(images, (16, 16), mode="nearest")
    small = torch.nn.functional.interpolate(large, (8, 8), mode="bilinear", antialias=True)
    teacher = opened(trained)
    assert torch.allclose(teacher.network(large), teacher.network(small), atol=1e-5)
    assert not any(p.requires_grad for p in teacher.network.parameters())
    assert not teacher.network.training


def test_a_teacher_of_all_thousand_answers_for_the_subset() -> None:
    wnids = imagenet_wnids()
    nette = subset_wnids("imagenette")
    outputs = match_outputs(wnids, nette, "T")
    assert outputs == (0, 217, 482, 491, 497, 566, 569, 571, 574, 701)
    assert match_outputs(wnids, [synset(wnid) for wnid in nette], "T") == outputs
    assert match_outputs(tuple(reversed(wnids)), nette, "T")[0] == 999
    with pytest.raises(DataError, match="knows ImageNet's 1,000 classes, the data have 'apple tree'; name the class"):
        match_outputs(wnids, ["apple tree", "tench"], "T")


@pytest.mark.parametrize("names", [("apple", "pear"), ("apple", "pear", "plum", "fig"), ("apple", "pear", "plam")])
def test_a_teacher_of_other_classes_is_refused(trained: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=rf"knows 3 classes, the data have {len(names)}.*use one of the same classes"):
        opened(trained, names)


@pytest.mark.parametrize("kind", ["safetensors", "pt", "wrapped"])
def test_bare_weights_need_their_network_and_their_classes(tmp_path: Path, kind: str) -> None:
    network = build_network("convnet-2w64", 3, size=8).eval()
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    if kind == "safetensors":
        save_file(network.state_dict(), path)
    else:
        weights = {f"module.{key}": value for key, value in network.state_dict().items()}
        torch.save({"state_dict": weights, "epoch": 3} if kind == "wrapped" else network.state_dict(), path)
    (tmp_path / "classes.txt").write_text("plum\napple\npear\n")
    classes = str(tmp_path / "classes.txt")
    with pytest.raises(ConfigError, match=r"say of which network, e\.g\. --teacher-network"):
        opened(path, classes=classes)
    with pytest.raises(ConfigError, match="has 3 outputs; say which class each output is: --teacher-classes FILE"):
        opened(path, network="convnet-2w64")
    with pytest.raises(DataError, match=r"does not fit convnet-3|fit resnet-18"):
        opened(path, network="resnet-18", classes=classes)
    teacher = opened(path, network="convnet-2w64", classes=classes)
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(teacher.network(x), network(x)[:, [1, 2, 0]])


def test_bad_class_files_and_bad_weights_are_named(tmp_path: Path) -> None:
    network = build_network("convnet-2w64", 3, size=8)
    torch.save(network.state_dict(), tmp_path / "w.pt")
    torch.save(network, tmp_path / "whole.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "junk.pt").write_bytes(b"junk")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    (tmp_path / "two.txt").write_text("apple\npear\n")
    (tmp_path / "twice.txt").write_text("apple\npear\napple\n")
    for path, classes, said in (
        ("w.pt", "two.txt", "has 3 outputs, --teacher-classes names 2"),
        ("w.pt", "twice.txt", "names 'apple' twice"),
        ("w.pt", "none.txt", "cannot read the classes"),
        ("whole.pt", "two.txt", "holds more than weights and is not opened"),
        ("list.pt", "two.txt", "is no state dict"),
        ("junk.pt", "two.txt", "holds more than weights|cannot read"),
        ("junk.safetensors", "two.txt", "cannot read"),
        ("nothing.pt", "two.txt", "there is no teacher"),
    ):
        with pytest.raises(DapError, match=said):
            opened(tmp_path / path, network="convnet-2w64", classes=str(tmp_path / classes))


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet18"])
def test_pretrained_weights_that_are_not_cached_are_not_fetched_offline(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(
        ConfigError, match=r"are not in the cache \(HF_HUB_OFFLINE is set\): (fetch http|run `hf download)"
    ):
        opened(name, subset_wnids("imagenette"))
    with pytest.raises(ConfigError, match=r"unknown (torchvision|timm) network"):
        opened(f"{name}x", subset_wnids("imagenette"))


def test_what_torch_says_of_a_download_is_talk_and_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetch(url: str, **how: Any) -> Any:
        print(f"Downloading: {url}")
        raise OSError("no network")

    monkeypatch.setattr(weights_module, "_offline", lambda: False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fetch)
    with pytest.raises(ConfigError, match=r"not in the cache \(no network\)"):
        opened("torchvision:resnet18", subset_wnids("imagenette"))
    out, talk = capsys.readouterr()
    assert (out, talk.startswith("Downloading: https://")) == ("", True)


def test_pretrained_weights_in_the_cache_are_read_and_restricted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = build_network("torchvision:mobilenet_v2", 1000, size=224).eval()
    (tmp_path / "checkpoints").mkdir()
    torch.save(network.state_dict(), tmp_path / "checkpoints" / "mobilenet_v2-b0353104.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    nette = subset_wnids("imagenette")
    teacher = opened("torchvision:mobilenet_v2", nette, size=224, normalise=IMAGENET)
    x = torch.rand(1, 3, 224, 224)
    assert torch.equal(teacher.network(x), network(x)[:, list(match_outputs(imagenet_wnids(), nette, "T"))])
    assert teacher.record["weights"] == "MobileNet_V2_Weights.IMAGENET1K_V1"


def test_weights_from_the_hub_are_safetensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    network = build_network("timm:mobilenetv3_small_050", 1000, size=224).eval()
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    asked: list[tuple[str, ...]] = []

    def download(*what: str) -> str:
        asked.append(what)
        return str(tmp_path / "model.safetensors")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    teacher = opened("timm:mobilenetv3_small_050", subset_wnids("imagenette"), size=224, normalise=IMAGENET)
    assert teacher.network(torch.rand(1, 3, 64, 64)).shape == (1, 10)
    assert asked[0][1] == "model.safetensors"


def test_below_twice_chance_a_teacher_is_refused_with_the_likely_cause() -> None:
    turned = torch.tensor([[0, 9, 1], [1, 0, 9], [9, 1, 0]])
    with pytest.raises(
        DataError, match=r"gets 0.0% on 'data', chance is 33.3%; with its classes in another order it"
    ) as e:
        check_classes(turned, NAMES, "T", "data")
    assert "would get 90.0% ('apple' is called 'pear', " in str(e.value)
    with pytest.raises(DataError, match="no order of its classes is much better: it was trained on other images"):
        check_classes(torch.full((3, 3), 5), NAMES, "T", "data")


def test_a_better_order_is_a_warning_and_the_right_one_is_none() -> None:
    swapped = torch.tensor([[9, 0, 0, 0], [0, 9, 0, 0], [0, 0, 3, 6], [0, 0, 6, 3]])
    with pytest.warns(
        UserWarning, match=r"66.7% on 'data', and 83.3% with classes in another order \('c' is called 'd'"
    ):
        got = check_classes(swapped, ("a", "b", "c", "d"), "T", "data")
    assert got["best_order"] == {"accuracy": pytest.approx(30 / 36), "moved": {"c": "d", "d": "c"}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = check_classes(torch.tensor([[8, 1], [2, 7]]), ("a", "b"), "T", "data")
    assert got == {"accuracy": 15 / 18, "chance": 0.5, "best_order": {"accuracy": 15 / 18, "moved": {}}}


@pytest.mark.parametrize("labels", ["online", "stored"])
def test_an_evaluation_with_a_teacher(
    labels: str, tmp_path: Path, trained: Path, real: Path, held_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAP_CACHE", str(tmp_path / "cache"))
    config = soft(tmp_path, labels=labels, teacher=str(trained), repeats=2)
    given = folder(tmp_path / "a", dict.fromkeys(NAMES, 4))
    first, again = (evaluate([given], held_out, config=config, device="cpu") for _ in range(2))
    assert first["protocol"] == f"mine-{labels}"
    assert first["settings"]["protocol_digest"] == get_protocol(config.protocol).digest
    assert first["teacher"]["accuracy"] > 0.9
    assert first["teacher"]["network"] == "convnet-2w64"
    row = first["results"][0]
    assert row["last"]["mean"] > 0.6
    assert row["confusion"] == again["results"][0]["confusion"]
    stored = list((tmp_path / "cache").rglob("epoch-*.safetensors"))
    assert len(stored) == (30 if labels == "stored" else 0)
    assert sorted(p.name for p in given.iterdir()) == list(NAMES)


def test_labels_of_a_distilled_dataset_lie_in_it(tmp_path: Path, trained: Path, real: Path, held_out: Path) -> None:
    from evaluation_sets import distilled

    from dap.store import Store

    out = distilled(tmp_path / "d", real)
    config = soft(tmp_path, labels="stored", teacher=str(trained), epochs_scale=0.01)
    evaluate([out], held_out, config=config, device="cpu")
    assert len(list((out / "labels").rglob("epoch-*.safetensors"))) == 3
    assert Store.open(out).verify() == []


def test_a_teacher_with_its_classes_in_another_order_stops_an_evaluation(
    tmp_path: Path, trained: Path, held_out: Path
) -> None:
    (tmp_path / "classes.txt").write_text("pear\nplum\napple\n")
    config = soft(
        tmp_path,
        teacher=str(trained / "teacher.safetensors"),
        teacher_network="convnet-2w64",
        teacher_classes=str(tmp_path / "classes.txt"),
    )

    def never(*done: Any) -> None:
        raise AssertionError("trained")

    with pytest.raises(DataError, match="the order is wrong, check --teacher-classes"):
        evaluate(
            [folder(tmp_path / "a", dict.fromkeys(NAMES, 2))], held_out, config=config, device="cpu", progress=never
        )


def test_a_teacher_is_needed_exactly_where_labels_are_soft(tmp_path: Path, trained: Path, held_out: Path) -> None:
    given = folder(tmp_path / "a", dict.fromkeys(NAMES, 1))
    for config, said in (
        (soft(tmp_path), "protocol 'mine-online' needs a teacher: --teacher torchvision:resnet18"),
        (EvaluationConfig(protocol="hard-tiny", teacher=str(trained)), "has hard labels; leave --teacher out"),
    ):
        with pytest.raises(ConfigError, match=said):
            evaluate([given], held_out, config=config, device="cpu")
    with pytest.raises(ConfigError, match="use 'fp32' or 'bf16'"):
        EvaluationConfig(dtype="fp8")
    with pytest.raises(ConfigError, match="a teacher learns from hard labels"):
        made(given, tmp_path / "T", protocol=get_protocol("soft-rded"))
    two = open_dataset(held_out).restrict(("apple", "pear"))
    with pytest.raises(DataError, match=r"differ in classes, e\.g\. 'plum'"):
        made(given, tmp_path / "T", test=two)
    assert not (tmp_path / "T").exists()


def test_a_network_that_cannot_be_built_is_found_before_any_training(
    tmp_path: Path, held_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision

    monkeypatch.setattr(torchvision.models, "get_model", lambda *a, **k: nn.Flatten())

    def never(*done: Any) -> None:
        raise AssertionError("trained")

    config = EvaluationConfig(protocol="hard-tiny", networks=("convnet-2w64", "torchvision:resnet18"))
    with pytest.raises(ConfigError, match="use a classifier"):
        evaluate([held_out], held_out, config=config, device="cpu", progress=never)


def test_nothing_but_weights_is_ever_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "boom",))

    stream = io.BytesIO()
    torch.save({"a": Bomb()}, stream)
    (tmp_path / "w.pt").write_bytes(stream.getvalue())
    with pytest.raises(DataError, match="holds more than weights"):
        opened(tmp_path / "w.pt", network="convnet-2w64")
    assert not (tmp_path / "boom").exists()
    assert weights_module.is_pretrained_name("timm:resnet18")
    assert replace(get_protocol("hard-tiny")).labels == "hard"
