"""What is decided before sampling: under which key the real images' features are kept."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from dap import resolution
from dap.backbones import Prompts
from dap.bank import Bank
from dap.config import Config, load_config
from dap.guidance import Representativeness, load_guidance
from dap.reference import Reference
from dap.resolution import reference_of, reference_sizes
from dap.sampling import Sampler
from dap.testing import tiny_dit, tiny_source


@dataclass
class Case:
    """All that a reference is made of, to be changed in one thing."""

    config: Config
    backbone: Any
    guidance: Representativeness
    sampler: Sampler
    source: Any

    def bank(self) -> Bank:
        made = reference_of(self.config, self.backbone, self.guidance, self.sampler, self.source)
        assert made.bank is not None
        return made.bank

    def of_backbone(self, **changes: Any) -> None:
        self.config = replace(self.config, backbone=replace(self.config.backbone, **changes))

    def of_sampler(self, **changes: Any) -> None:
        self.sampler = replace(self.sampler, **changes)


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setattr(resolution, "reference_rows", lambda backbone: 7)
    config = load_config(run={"ipc": 2, "reference_cache": str(tmp_path)})
    return _case(config, tiny_dit(), ("c0", "c1", "c2"))


def _case(config: Config, backbone: Any, names: tuple[str, ...]) -> Case:
    settings: dict[str, Any] = {"cfg_scale": 1.0, "cfg_channels": "all", "micro_batch": 4}
    chain, classes = backbone.chain("ddim", 4, 0.0), tuple(range(len(names)))
    sampler = Sampler(backbone=backbone, chain=chain, classes=classes, **settings)
    guidance = Representativeness(strength=0.1, tap="block.1")
    return Case(config, backbone, guidance, sampler, tiny_source(names, 5))


def _versions(case: Case, patch: pytest.MonkeyPatch, name: str) -> None:
    found = resolution.versions()
    patch.setattr(resolution, "versions", lambda: found | {name: "0"})


def _prompts(case: Case, text: str) -> None:
    case.backbone.prompts = Prompts(("c0", "c1", "c2"), text)


EVERY: dict[str, Callable[[Case, pytest.MonkeyPatch], object]] = {
    "weights": lambda case, patch: setattr(case, "backbone", tiny_dit(seed=1)),
    "device": lambda case, patch: setattr(case.backbone, "device", torch.device("meta")),
    "dtype": lambda case, patch: case.of_backbone(dtype="bf16"),
    "compile": lambda case, patch: case.of_backbone(compile=True),
    "vae_tiling": lambda case, patch: case.of_backbone(vae_tiling=True),
    "tap": lambda case, patch: setattr(case, "guidance", replace(case.guidance, tap="block.0")),
    "pool": lambda case, patch: setattr(case, "guidance", replace(case.guidance, pool="mean")),
    "projection": lambda case, patch: setattr(case, "guidance", replace(case.guidance, projection=9)),
    "timesteps": lambda case, patch: case.of_sampler(chain=case.backbone.chain("ddim", 5, 0.0)),
    "rows": lambda case, patch: patch.setattr(resolution, "reference_rows", lambda backbone: 8),
    "format": lambda case, patch: patch.setattr(resolution, "FORMAT", resolution.FORMAT + 1),
    "torch": lambda case, patch: _versions(case, patch, "torch"),
    "diffusers": lambda case, patch: _versions(case, patch, "diffusers"),
    "transformers": lambda case, patch: _versions(case, patch, "transformers"),
    "pillow": lambda case, patch: _versions(case, patch, "pillow"),
    "seed": lambda case, patch: patch.setattr(Reference, "of", partial(Reference.of, seed=1)),
    "classes": lambda case, patch: case.of_sampler(classes=(2, 0, 1)),
    "prompts": lambda case, patch: _prompts(case, "a drawing of a {name}"),
    "images": lambda case, patch: setattr(case, "source", tiny_source(("c0", "c1", "c2"), 5, seed=1)),
    "order": lambda case, patch: setattr(
        case, "source", replace(case.source, keys=tuple(keys[::-1] for keys in case.source.keys))
    ),
    "names": lambda case, patch: setattr(case, "source", replace(case.source, class_names=("a", "b", "c"))),
}


@pytest.mark.parametrize("name", EVERY)
def test_whatever_changes_the_features_is_in_the_key(name: str, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {case.bank().entry(label, 0) for label in range(3)}
    assert before == {case.bank().entry(label, 0) for label in range(3)}
    EVERY[name](case, monkeypatch)
    assert before.isdisjoint({case.bank().entry(label, 0) for label in range(3)})


@pytest.mark.parametrize(
    "change",
    [
        lambda case: setattr(case, "config", replace(case.config, run=replace(case.config.run, seed=9, ipc=7))),
        lambda case: case.of_sampler(cfg_scale=3.0, micro_batch=1),
        lambda case: setattr(case, "guidance", replace(case.guidance, strength="auto", repulsion=1.0, kernel="rbf")),
    ],
    ids=["ipc and seed", "sampler", "strength"],
)
def test_what_does_not_change_them_is_not(change: Any, case: Case) -> None:
    before = case.bank().entry(1, 0)
    change(case)
    assert case.bank().entry(1, 0) == before


def test_further_classes_leave_a_class_its_entry(case: Case) -> None:
    more = replace(_case(case.config, tiny_dit(), ("c2", "c0")), sampler=replace(case.sampler, classes=(2, 0)))
    assert more.bank().entry(0, 0) == case.bank().entry(2, 0)
    assert more.bank().entry(1, 0) == case.bank().entry(0, 0)


def test_a_text_backbones_class_is_what_it_is_told(case: Case) -> None:
    """Its classes are those of the dataset, so their numbers change with every further one."""
    _prompts(case, "a {name}")
    more = _case(case.config, tiny_dit(), ("c1", "c2"))
    more.backbone.prompts = Prompts(("c1", "c2"), "a {name}")
    assert more.bank().entry(0, 3) == case.bank().entry(1, 3)


def test_beyond_6_images_a_large_class_every_number_of_them_has_real_images_of_its_own() -> None:
    """Up to there one cache serves all, for small classes up to 24; `dap.bank` and the docs say so."""
    dap = load_guidance(load_config(guidance={"name": "dap"}).guidance)
    assert dap is not None
    sizes = [reference_sizes(dap, ipc) for ipc in (1, 6, 7, 24, 25)]
    assert sizes == [(96, 24), (96, 24), (96, 28), (96, 96), (100, None)], "many images share the whole class out"
    middle = load_guidance(load_config(guidance={"name": "dap", "reference_herded": 200}).guidance)
    assert middle is not None
    assert reference_sizes(middle, 50) == (200, 200), "what is named stays"
    paper = load_guidance(load_config(guidance={"name": "dap-paper"}).guidance)
    assert paper is not None
    assert reference_sizes(paper, 10) == (None, None)


def test_without_a_directory_nothing_is_kept(case: Case) -> None:
    config = replace(case.config, run=replace(case.config.run, reference_cache=None))
    assert reference_of(config, case.backbone, case.guidance, case.sampler, case.source).bank is None
