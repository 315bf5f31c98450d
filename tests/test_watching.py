"""Watching a guidance changes nothing and costs no forward pass."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from dap.guidance import Representativeness
from dap.watching import Watch

PULL = Representativeness(strength=0.3, repulsion=1.0)


def test_the_distance_is_that_of_the_last_class_at_the_last_guided_step(
    bench: Callable[..., Any], units: Callable[..., Any]
) -> None:
    b = bench()
    reference = b.reference()
    rows: list[int] = []
    reference.on_extract = rows.append
    guidance = PULL.resolved(b.sampler.backbone)
    watch = Watch(reference)
    seen: list[Any] = []
    guided = b.guided(guidance, reference)
    shift = guided.shift
    guided = replace(guided, shift=lambda step: seen.append(step) or shift(step))
    plain = b.sample(units([0, 1], 2), b.guided(guidance))
    assert watch.distance is None
    watched = b.sample(units([0, 1], 2), watch.around(guided))
    assert torch.equal(plain, watched)
    assert sum(rows) == 3 * 2 * 5, "three guided steps, two classes of five real images, each once"
    last = seen[-1]
    real = reference.features(1, last.index)
    expected = torch.cdist(last.features[2:].flatten(1), real).mean()
    assert watch.distance is not None
    assert abs(watch.distance - float(expected)) < 1e-3


def test_without_a_guidance_or_a_tap_there_is_nothing_to_see(bench: Callable[..., Any]) -> None:
    assert Watch(None).around(None) is None
    guided = bench().guided(PULL)
    assert Watch(None).around(guided) is guided
    assert Watch(bench().reference()).around(replace(guided, tap=None)).tap is None  # type: ignore[union-attr]
