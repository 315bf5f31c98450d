"""`tap = "auto"`: the criterion, and that it is asked of real images alone."""

from typing import Any

import pytest
import torch

from dap.guidance import Representativeness
from dap.guidance.taps import best_tap, candidates, margins, separability
from dap.testing import tiny_dit


def test_margins_are_the_formula_image_by_image() -> None:
    draw = torch.Generator().manual_seed(0)
    a, b, c = (torch.randn(n, 3, generator=draw) for n in (3, 4, 2))
    given = margins([a, b, c])
    own = torch.stack([(a[0] - a[j]).norm() for j in (1, 2)]).mean()
    nearest = min(float(torch.cdist(a[:1], other).mean()) for other in (b, c))
    torch.testing.assert_close(given[0], (nearest - own) / (nearest + own))
    assert given.shape == (9,)
    assert (given.abs() <= 1).all()


def test_classes_far_apart_have_large_margins_and_mixed_ones_none() -> None:
    draw = torch.Generator().manual_seed(0)
    far = margins([torch.randn(8, 4, generator=draw) + 100 * k for k in range(3)])
    mixed = margins([torch.randn(50, 4, generator=draw) for _ in range(3)])
    assert far.min() > 0.9
    assert abs(float(mixed.mean())) < 0.05


def test_candidates_are_spread_over_the_depth() -> None:
    taps = tuple(f"block.{k}" for k in range(28))
    assert candidates(taps[:5]) == taps[:5]
    some = candidates(taps)
    assert len(some) == 8
    assert (some[0], some[-1]) == (taps[0], taps[-1])


def test_auto_is_the_tap_of_largest_separability_and_is_recorded(bench: Any) -> None:
    b = bench(tiny_dit(depth=4), real=6)
    guidance = Representativeness(strength=0.1, tap="auto")
    reference = b.reference(interval=guidance.interval)
    scores = {tap: separability(reference, tap) for tap in b.sampler.backbone.taps()}
    chosen = guidance.resolved(b.sampler.backbone).decided(reference).tap
    assert scores[chosen] == max(scores.values())
    assert chosen == best_tap(reference)
    assert len(set(scores.values())) > 1


def test_one_class_alone_keeps_the_recommended_tap(bench: Any) -> None:
    b = bench(tiny_dit(classes=1))
    assert best_tap(b.reference()) == b.sampler.backbone.default_tap


def test_no_step_in_the_interval_keeps_the_recommended_tap(bench: Any) -> None:
    b = bench(steps=1)
    assert best_tap(b.reference(interval=(0.5, 1.0))) == b.sampler.backbone.default_tap


def test_the_class_label_is_not_shown(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backbone that knew the label would tell any images apart."""
    b, seen = bench(real=4), []
    tap_features = type(b.sampler.backbone).tap_features

    def spy(backbone: Any, x: Any, t: int, condition: Any, tap: str) -> Any:
        seen.append(condition)
        return tap_features(backbone, x, t, condition, tap)

    monkeypatch.setattr(type(b.sampler.backbone), "tap_features", spy)
    separability(b.reference(), "block.1")
    null = b.sampler.backbone.null_condition(1)
    assert seen
    assert all(str(condition) == str(null) for condition in seen)


def test_a_named_tap_stays(bench: Any) -> None:
    guidance = Representativeness(strength=0.1, tap="block.1")
    assert guidance.decided(bench().reference()) == guidance
