"""The reverse chain: timesteps, the noise level that each step ends at, and the schedule that is the pipeline's own."""

from typing import Any

import pytest
import torch
from torch import Tensor

from dap.backbones.chain import Chain
from dap.errors import ConfigError
from dap.testing import tiny_dit, tiny_latent_dit

LINEAR = {"num_train_timesteps": 1000, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}


def levels() -> Tensor:
    return (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)


@pytest.mark.parametrize("steps", [2, 3, 4, 7, 50, 333])
@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("scheduler", ["ddim", "ddpm"])
def test_every_step_ends_at_the_level_that_the_model_is_told_next(scheduler: str, spacing: str, steps: int) -> None:
    """A perfect model tells x_0 and noise apart: the share of x_0 in what a step makes is its level."""
    chain = Chain({**LINEAR, "timestep_spacing": spacing}, scheduler, steps, 0.0, latent=True, spacing=None)
    a, x_0, noise = levels(), torch.full((1, 1, 2, 2), 1e4), torch.full((1, 1, 2, 2), 1.0)
    assert len(chain.timesteps) == len(set(chain.timesteps)) == steps
    for t, told_next in zip(chain.timesteps, [*chain.timesteps[1:], None], strict=True):
        x_t = a[t].sqrt().float() * x_0 + (1 - a[t]).sqrt().float() * noise
        x = chain.step(noise, t, x_t, [torch.Generator().manual_seed(0)])
        expected = 1.0 if told_next is None else float(a[told_next].sqrt())
        assert float(x.mean()) / 1e4 == pytest.approx(expected, abs=1e-3 if float(a[t]) > 1e-3 else 5e-3)
        if scheduler == "ddim" and told_next is not None:  # without noise of its own, exact to rounding
            torch.testing.assert_close(x, chain.noised(x_0, noise, told_next), rtol=2e-5, atol=0.05)


def test_ddpm_spans_the_schedule_and_ddim_keeps_the_pipelines_spacing() -> None:
    backbone = tiny_dit()
    assert backbone.chain("ddpm", 4, 0.0).timesteps == (999, 666, 333, 0)  # the original DiT's
    assert backbone.chain("ddim", 4, 0.0).timesteps == (750, 500, 250, 0)  # DiTPipeline's
    with pytest.raises(ConfigError, match=r"sampling.steps is 1000, but the schedule begins at its steps_offset"):
        Chain({**LINEAR, "steps_offset": 1}, "ddim", 1000, 0.0, latent=True, spacing=None)


def test_the_last_step_of_a_pipeline_that_ends_before_one_keeps_its_noise() -> None:
    """set_alpha_to_one False, as Stable Diffusion has it: the last level is that of timestep 0."""
    config, x = {**LINEAR, "set_alpha_to_one": False, "steps_offset": 1}, torch.ones(1, 1, 2, 2)
    chain = Chain(config, "ddim", 10, 0.0, latent=True, spacing=None)
    assert chain.timesteps[-1] == 1
    ended = chain.step(x, 1, chain.noised(0 * x, x, 1), [torch.Generator()])
    torch.testing.assert_close(ended, (1 - levels()[0]).sqrt().float() * x)


@pytest.mark.parametrize("config", [{}, {"variance_type": "fixed_small"}, {"variance_type": "learned_range"}])
def test_the_fixed_variance_is_the_posteriors(config: Any) -> None:
    """beta~ = (1 - a_prev) / (1 - a) beta, never beta: the two differ by a factor at the end of a chain."""
    chain = Chain({**LINEAR, **config}, "ddpm", 50, 0.0, latent=True, spacing="linspace")
    a, x, k = levels(), torch.zeros(64, 4, 8, 8), 47
    t, before = chain.timesteps[k], chain.timesteps[k + 1]
    noise = chain.step(x, t, x, [torch.Generator().manual_seed(i) for i in range(64)])
    beta = 1 - a[t] / a[before]
    assert float(noise.var()) == pytest.approx(float((1 - a[before]) / (1 - a[t]) * beta), rel=0.05)
    assert float(noise.var()) < 0.6 * float(beta)


def test_a_pipelines_own_fixed_large_variance_is_kept() -> None:
    backbone = tiny_latent_dit()
    large = Chain({**LINEAR, "variance_type": "fixed_large"}, "ddpm", 50, 0.0, latent=True, spacing="linspace")
    x, t = torch.zeros(1, 4, 4, 4), large.timesteps[47]
    one, other = (c.step(x, t, x, [torch.Generator().manual_seed(0)]) for c in (large, backbone.chain("ddpm", 50, 0.0)))
    assert float(one.norm()) > 1.2 * float(other.norm())
