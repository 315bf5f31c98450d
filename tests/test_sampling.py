"""The loop's own arithmetic: chain, padding, noise, states, and what it hands to a guidance."""

from typing import Any

import pytest
import torch
from torch import Tensor

from dap.guidance import Representativeness
from dap.sampling import Guided, Start, trajectory
from dap.testing import tiny_dit, tiny_latent_dit
from dap.types import Prediction, Unit


class Oracle:
    """A model that knows the one clean image there is: eps = (x - sqrt(a) x_0) / sqrt(1 - a)."""

    def __init__(self, x_0: Tensor) -> None:
        self._inner, self.x_0 = tiny_latent_dit(), x_0
        self.alphas = self._inner.chain("ddim", 1, 0.0).alpha_bar

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def predict(self, x: Tensor, t: int, condition: Tensor, tap: str | None = None) -> Prediction:
        a = self.alphas[t]
        return Prediction((x - a.sqrt() * self.x_0) / (1 - a).sqrt())


@pytest.mark.parametrize("steps", [1, 3, 50])
@pytest.mark.parametrize(("scheduler", "eta"), [("ddpm", 0.0), ("ddim", 0.0), ("ddim", 1.0)])
def test_a_perfect_model_gives_the_one_image_there_is(
    scheduler: str, eta: float, steps: int, bench: Any, units: Any
) -> None:
    x_0 = torch.rand(4, 4, 4, generator=torch.Generator().manual_seed(0)) * 6 - 3  # latents beyond 1 are not clipped
    x = bench(Oracle(x_0), scheduler, steps=steps, eta=eta).sample(units([0], 3))
    torch.testing.assert_close(x, x_0.expand_as(x), rtol=0, atol=0.02)  # abar_0 is .9999, not 1


def test_pixels_stay_in_range_and_latents_are_not_cut_off() -> None:
    assert tiny_dit().chain("ddpm", 4, 0.0)._scheduler.config.clip_sample is True
    schedule = {**tiny_latent_dit().schedule, "clip_sample": True}  # diffusers' class default
    backbone = tiny_latent_dit()
    backbone.schedule = schedule
    assert backbone.chain("ddpm", 4, 0.0)._scheduler.config.clip_sample is False


def test_the_chain_is_the_respaced_one_of_the_original_dit() -> None:
    chain = tiny_dit().chain("ddpm", 50, 0.0)
    assert len(chain.timesteps) == 50
    assert (chain.timesteps[0], chain.timesteps[-1]) == (999, 0)
    gaps = {a - b for a, b in zip(chain.timesteps, chain.timesteps[1:], strict=False)}
    assert gaps <= {20, 21}


def test_a_learned_variance_schedule_is_sampled_with_the_fixed_one(bench: Any, units: Any) -> None:
    learned = tiny_dit(channels=3, learned_variance=True)
    learned.schedule = {**learned.schedule, "variance_type": "learned_range"}
    for scheduler in ("ddpm", "ddim"):
        x = bench(learned, scheduler).sample(units([0], 2))
        assert x.shape == (2, 3, 8, 8)
        assert torch.isfinite(x).all()


def test_noised_mixes_image_and_noise_by_alpha_bar() -> None:
    chain = tiny_dit().chain("ddim", 4, 0.0)
    x, noise = torch.ones(1, 1, 2, 2), 2 * torch.ones(1, 1, 2, 2)
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    a = (1 - beta).cumprod(0)
    for t in (0, 333, 999):
        expected = float(a[t] ** 0.5 + 2 * (1 - a[t]) ** 0.5)
        torch.testing.assert_close(chain.noised(x, noise, t), torch.full_like(x, expected), rtol=1e-4, atol=0)


def test_states_count_the_steps(bench: Any, units: Any) -> None:
    b = bench(steps=3)
    states = list(trajectory(b.sampler, units([0, 1], 2), None))
    assert [(s.index, s.count, tuple(s.x.shape)) for s in states] == [(i, 3, (4, 1, 8, 8)) for i in range(3)]
    assert len({s.x.data_ptr() for s in states}) == 3  # earlier states are not overwritten


def test_the_start_is_the_seeds_own_noise(bench: Any) -> None:
    first = []

    def shift(step: Any) -> Tensor:
        first.append(step.x_t)
        return torch.zeros_like(step.x_prev)

    chosen = [Unit(0, 0, 7), Unit(1, 0, 8), Unit(2, 5, 7)]
    bench(steps=2).sample(chosen, Guided(shift=shift, tap=None, interval=(0.0, 1.0)))
    for row, unit in zip(first[0], chosen, strict=True):
        assert torch.equal(row, torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(unit.seed)))


def test_a_label_is_mapped_to_the_backbones_own_class(bench: Any, units: Any) -> None:
    b = bench()
    straight = b.sample(units([0, 1], 1))
    crossed = b.sample([Unit(1, 0, 0), Unit(0, 0, 1000)], classes=(1, 0, 2))
    assert torch.equal(straight, crossed)  # the same conditions and seeds under exchanged labels
    assert not torch.equal(straight, b.sample(units([0, 1], 1), classes=(2, 1, 0)))


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 7, 20])
def test_every_micro_batch_gives_the_same_images_up_to_rounding(micro_batch: int, bench: Any, units: Any) -> None:
    b, chosen = bench(cfg_scale=2.0), units([0, 1], 3)
    guidance = Representativeness(strength=0.2, repulsion=1.0)
    one = b.sample(chosen, guidance, micro_batch=6)
    torch.testing.assert_close(b.sample(chosen, guidance, micro_batch=micro_batch), one, rtol=0, atol=2e-3)


def test_every_forward_has_as_many_rows_as_the_micro_batch(bench: Any, units: Any) -> None:
    b = bench(cfg_scale=2.0, micro_batch=4)
    rows = []
    b.sampler.backbone.transformer.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    b.sample(units([0, 1, 2], 3))
    assert set(rows) == {4}
    assert len(rows) == 4 * 3 * 2  # steps x micro-batches of 9 images x (conditional, null)


def test_what_a_guidance_sees(bench: Any, units: Any) -> None:
    b, chosen = bench(steps=3, cfg_scale=2.0), units([0, 2], 3)
    backbone = b.sampler.backbone
    seen = []

    def shift(step: Any) -> Tensor:
        condition = backbone.condition([u.label for u in chosen])
        assert step.units == tuple(chosen)
        assert step.count == 3
        assert step.t == b.sampler.chain.timesteps[step.index]
        assert step.features.shape == (6, 16, 16)
        assert not step.features.requires_grad
        assert not step.x_t.requires_grad
        expected = backbone.tap_features(step.x_t, step.t, condition, "block.1")  # of the conditional rows
        torch.testing.assert_close(step.features, expected, rtol=1e-4, atol=1e-5)
        x = step.x_t.clone().requires_grad_()
        features = backbone.predict(x, step.t, condition, "block.1").features
        weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(0))
        (slope,) = torch.autograd.grad(features, x, weights)
        torch.testing.assert_close(step.pull_back(weights), slope, rtol=1e-4, atol=1e-5)
        seen.append(step.index)
        return torch.zeros_like(step.x_prev)

    guided = Guided(shift=shift, tap="block.1", interval=(0.0, 1.0))
    assert torch.equal(b.sample(chosen, guided), b.sample(chosen))  # a shift of zero changes nothing
    assert seen == [0, 1]


def test_a_guidance_without_a_tap_gets_no_features_and_no_graph(bench: Any, units: Any) -> None:
    def shift(step: Any) -> Tensor:
        assert step.features is None
        return 0.1 * torch.ones_like(step.x_prev)

    b = bench(steps=3)
    x = b.sample(units([0], 2), Guided(shift=shift, tap=None, interval=(0.0, 1.0)))
    assert not torch.equal(x, b.sample(units([0], 2)))


def test_sampling_inside_no_grad_still_guides(bench: Any, units: Any) -> None:
    b = bench()
    expected = b.sample(units([0], 2), Representativeness(gamma=0.5))
    with torch.no_grad():
        assert torch.equal(b.sample(units([0], 2), Representativeness(gamma=0.5)), expected)


@pytest.mark.parametrize(
    ("count", "strength", "first"),
    [(3, 0.5, 1), (50, 0.7, 15), (4, 0.99, 0), (2, 0.5, 1), (10, 1.0, 0), (50, 1e-9, 49), (1, 0.5, 0)],
)
def test_a_start_takes_its_share_of_the_steps_rounded_up(count: int, strength: float, first: int) -> None:
    assert Start(x_0=torch.zeros(1, 1, 1, 1), strength=strength).first(count) == first
