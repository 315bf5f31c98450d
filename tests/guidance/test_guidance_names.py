"""Guidances by name: presets and what overrides them, import paths, and unknown names."""

from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
import torch

from dap.config import GuidanceConfig
from dap.errors import ConfigError
from dap.guidance import PRESETS, Representativeness, load_guidance
from dap.guidance.base import settled
from dap.testing import check_guidance, tiny_dit


@dataclass(frozen=True, kw_only=True)
class Pull:
    """The example of dap.guidance.base."""

    scale: float = 0.1
    interval: tuple[float, float] = (0.0, 1.0)
    tap = None
    couples = False

    def resolved(self, backbone: Any) -> Any:
        return self

    def prepare(self, backbone: Any, reference: Any) -> Any:
        return lambda step: -self.scale * step.x_prev


@dataclass(frozen=True, kw_only=True)
class Herd(Pull):
    """Looks at its neighbours without saying so."""

    def prepare(self, backbone: Any, reference: Any) -> Any:
        return lambda step: self.scale * (step.x_prev.mean(0, keepdim=True) - step.x_prev)


@dataclass(frozen=True, kw_only=True)
class Greedy(Pull):
    """Changes what it was lent."""

    def prepare(self, backbone: Any, reference: Any) -> Any:
        return lambda step: step.x_prev.mul_(0.5)


def load(name: str, **options: Any) -> Any:
    return load_guidance(GuidanceConfig(name=name, options=options))


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "my_guidances", sys.modules[__name__])


def test_the_presets() -> None:
    paper, recommended = load("dap-paper"), load("dap")
    assert (paper.gamma, paper.strength, paper.repulsion, paper.power) == (1.0, None, 0.0, 1)
    assert paper.reference_size is None
    assert paper.reference_spacing == 0
    assert (recommended.gamma, recommended.strength, recommended.power) == (None, "auto", 1)
    assert recommended.repulsion == "auto"
    assert (recommended.reference, recommended.reference_size, recommended.contrast) == ("cluster", 96, 0.8)
    assert (recommended.reference_herded, recommended.start) == (24, "auto")
    assert (paper.contrast, paper.reference_herded, paper.start) == (0, None, 1)
    assert load("none") is None


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_naming_one_length_replaces_the_presets_other(name: str) -> None:
    assert (load(name, gamma=2.0).gamma, load(name, gamma=2.0).strength) == (2.0, None)
    assert (load(name, strength=0.1).gamma, load(name, strength=0.1).strength) == (None, 0.1)
    assert load(name, gamma=2.0).repulsion == load(name).repulsion
    with pytest.raises(ConfigError, match="either gamma or strength"):
        load(name, gamma=1.0, strength=1.0)


def test_an_interval_that_begins_before_the_presets_start_takes_all_steps() -> None:
    assert [load("dap", interval=[a, 0.9]).start for a in (0, 0.4, 0.5, 0.7)] == [1, 1, 0.5, 0.5]
    assert load("dap", interval=[0, 1], start=0.7).start == 0.7
    with pytest.raises(
        ConfigError, match=r"guidance\.start=0\.5 no step before 0\.5 is taken; use --set guidance\.start=1"
    ):
        load("dap", interval=[0, 0.4], start=0.5)


@dataclass(frozen=True)
class Drawn:
    """A backbone of which `start_of` knows one thing."""

    from_scratch: bool


def test_of_a_backbone_trained_from_nothing_many_images_begin_late() -> None:
    auto, ipcs = load("dap"), (1, 10, 20, 50, 1000)

    def starts(guidance: Any, backbone: Any, steps: int = 50) -> list[float]:
        return [settled(guidance, backbone, ipc, steps).start for ipc in ipcs]

    assert starts(auto, Drawn(True)) == [0.5, 0.5, 0.25, 0.1, 0.1]
    assert starts(auto, Drawn(False)) == starts(auto, object()) == [0.5] * 5
    assert starts(auto, Drawn(True), steps=10) == [0.5, 0.5, 0.4, 0.4, 0.4], "four steps at least"
    assert starts(auto, Drawn(True), steps=3) == [0.5] * 5
    assert starts(load("dap", start=0.7), Drawn(True)) == [0.7] * 5
    assert starts(load("dap", interval=[0.7, 0.9]), Drawn(True)) == [0.5] * 5, "an interval that is named is guided"
    alone = load("dap", reference="class", repulsion=0)
    assert not alone.couples
    assert starts(alone, Drawn(True)) == [0.5] * 5, "so that IPC can grow in place"
    assert settled(auto, cast(Any, Drawn(True)), 50, 50) == replace(auto, start=0.1)
    own = Pull()
    assert settled(own, cast(Any, Drawn(True)), 50, 50) is own
    with pytest.raises(ConfigError, match=r"guidance.start is late; use above 0 to 1 .*, or auto"):
        load("dap", start="late")


def test_a_number_of_support_points_is_not_overruled_by_herding() -> None:
    assert (load("dap", reference_size=200).reference_herded, load("dap", reference_size="all").reference_herded) == (
        None,
        None,
    )
    assert load("dap", reference_size=200, reference_herded=50).reference_herded == 50
    with pytest.raises(ConfigError, match=r"guidance\.reference_herded is 0; use 1 or more, or leave it out"):
        load("dap", reference_herded=0)


def test_options_override_the_preset_and_are_typed() -> None:
    assert load("dap", repulsion=0, kernel="rbf", interval=[0, 0.5], strength=0.3) == Representativeness(
        strength=0.3,
        kernel="rbf",
        interval=(0.0, 0.5),
        beyond=4.0,
        contrast=0.8,
        reference="cluster",
        reference_size=96,
        reference_herded=24,
    )
    assert load("dap", gamma=0).off
    with pytest.raises(ConfigError, match=r"unknown key in \[guidance\] 'strenght'; did you mean 'strength'"):
        load("dap", strenght=0.1)
    for options in ({"power": "two"}, {"gamma": "big"}, {"interval": 0.5}, {"interval": [0.1]}, {"kernel": 3}):
        with pytest.raises(ConfigError, match=f"guidance.{next(iter(options))} is "):
            load("dap", **options)


def test_none_takes_no_options() -> None:
    with pytest.raises(ConfigError, match="'none' has no options, got strength"):
        load("none", strength=0.1)


def test_unknown_names_give_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown guidance 'dap-papr'; did you mean 'dap-paper'.*or an import path"):
        load("dap-papr")


def test_an_import_path_needs_no_registration() -> None:
    mine = load("my_guidances:Pull", scale=1)
    assert mine == Pull(scale=1.0)
    check_guidance(mine, tiny_dit(depth=1))
    with pytest.raises(ConfigError, match=r"unknown key.*'scael'; did you mean 'scale'"):
        load("my_guidances:Pull", scael=1)


@pytest.mark.parametrize("path", ["no.such:Name", "my_guidances:No", "my_guidances:", ":Pull", ".x:Pull", "math:pi"])
def test_an_import_path_that_leads_nowhere_is_said(path: str) -> None:
    with pytest.raises(ConfigError, match=f"guidance '{path}'"):
        load(path)


@pytest.mark.parametrize(("kind", "said"), [(Herd, "depend on another class"), (Greedy, "changes its Step")])
def test_the_check_finds_a_guidance_that_breaks_its_word(kind: Any, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_guidance(kind(scale=0.5), tiny_dit(depth=1))


def test_guidance_without_features_moves_the_trajectory_as_it_says(bench: Any, units: Any) -> None:
    b = bench(tiny_dit(depth=1), steps=2)
    guided, plain = (b.first(units([0], 2), g) for g in (b.guided(Pull(scale=0.25)), None))
    torch.testing.assert_close(guided, 0.75 * plain)
