"""Learned-range variance: the chain against the respaced formulas of improved diffusion, written out in float64."""

from typing import Any

import pytest
import torch
from torch import Tensor

from dap.config import load_config
from dap.distillation import open_job
from dap.errors import ConfigError
from dap.testing import save_tiny_dit, tiny_dit, tiny_latent_dit


class Respaced:
    """The chain over every 20th of 1000 steps as a diffusion of its own: its betas follow from the kept alpha_bars."""

    def __init__(self, steps: int) -> None:
        alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
        self.timesteps = [round(k * 999 / (steps - 1)) for k in range(steps)]  # clean to noisy
        kept = [float(alpha_bar[t]) for t in self.timesteps]
        before = [1.0, *kept[:-1]]
        self.alpha_bar, self.before = kept, before
        self.beta = [1 - a / b for a, b in zip(kept, before, strict=True)]

    def step(self, k: int, x: Tensor, eps: Tensor, v: Tensor, noise: Tensor) -> Tensor:
        """x~_{k-1}: the posterior's mean at the x_0 that eps means, unclipped; log variance between beta~ and beta."""
        a, b, beta = self.alpha_bar[k], self.before[k], self.beta[k]
        x_0 = (x - (1 - a) ** 0.5 * eps) / a**0.5
        mean = (b**0.5 * beta * x_0 + (1 - beta) ** 0.5 * (1 - b) * x) / (1 - a)
        if k == 0:
            return mean
        low, high = torch.tensor((1 - b) / (1 - a) * beta).log(), torch.tensor(beta).log()
        share = (v + 1) / 2
        return mean + torch.exp((share * high + (1 - share) * low) / 2) * noise


def latent() -> Any:
    return tiny_latent_dit(learned_variance=True)


@pytest.mark.parametrize("cfg", [(1.0, "all"), (4.0, 3), (4.0, "all")])
@pytest.mark.parametrize("steps", [10, 50])
def test_a_trajectory_is_that_of_the_respaced_formulas(steps: int, cfg: Any, bench: Any, units: Any) -> None:
    backbone, chosen = latent(), units([0, 2], 2)
    scale, channels = cfg
    chain = backbone.chain("ddpm", steps, 0.0, "learned")
    ours = bench(backbone, steps=steps, cfg_scale=scale, cfg_channels=channels).sample(chosen, chain=chain)
    respaced = Respaced(steps)
    assert list(chain.timesteps) == respaced.timesteps[::-1]
    generators = [torch.Generator().manual_seed(unit.seed) for unit in chosen]

    def draw() -> Tensor:
        return torch.stack([torch.randn(4, 4, 4, generator=g) for g in generators]).double()

    backbone.transformer.double()
    x = draw()
    for k in range(steps - 1, -1, -1):
        t = torch.full((4,), respaced.timesteps[k])
        with torch.no_grad():
            out, null = (
                backbone.transformer(x, timestep=t, class_labels=torch.tensor(labels)).sample
                for labels in ([u.label for u in chosen], [3] * 4)
            )
        eps, v = out[:, :4].clone(), out[:, 4:]  # the variance is the conditional row's
        n = 4 if channels == "all" else channels
        eps[:, :n] = null[:, :n] + scale * (eps[:, :n] - null[:, :n])
        x = respaced.step(k, x, eps, v, draw() if k else torch.zeros_like(x))
    assert float(x.abs().max()) > 1  # nothing is clipped
    torch.testing.assert_close(ours.double(), x, rtol=2e-4, atol=2e-4 * float(x.std()))


@pytest.mark.parametrize("v", [-1.0, 0.0, 1.0])
def test_v_moves_the_noise_from_the_posteriors_to_the_forward_process(v: float) -> None:
    backbone, respaced = latent(), Respaced(50)
    learned, fixed = (backbone.chain("ddpm", 50, 0.0, variance) for variance in ("learned", "fixed"))
    k = 30
    x, t = torch.ones(1, 4, 4, 4), learned.timesteps[49 - k]

    def noise_of(chain: Any, **more: Any) -> Tensor:
        a, b = (chain.step(0.1 * x, t, x, [torch.Generator().manual_seed(seed)], **more) for seed in (1, 2))
        return a - b

    ratio = noise_of(learned, variance=torch.full_like(x, v)) / noise_of(fixed)
    a, b = respaced.alpha_bar[k], respaced.before[k]
    expected = ((1 - a) / (1 - b)) ** ((v + 1) / 4)  # sqrt of (beta / beta~) to the share
    torch.testing.assert_close(ratio, torch.full_like(ratio, expected), rtol=1e-3, atol=0)


def test_the_variance_changes_the_images_and_needs_the_model(bench: Any, units: Any) -> None:
    backbone, chosen = latent(), units([0], 2)
    b = bench(backbone, "ddpm", steps=5)
    fixed = b.sample(chosen)
    assert not torch.equal(fixed, b.sample(chosen, chain=backbone.chain("ddpm", 5, 0.0, "learned")))
    x = torch.ones(1, 4, 4, 4)
    with pytest.raises(ValueError, match="needs the model's learned variance"):
        backbone.chain("ddpm", 5, 0.0, "learned").step(x, 999, x, [torch.Generator()])
    with pytest.raises(ValueError, match="sampled by ddpm"):
        backbone.chain("ddim", 5, 0.0, "learned")


# --- the option -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, str]:
    root, names = tmp_path_factory.mktemp("v"), {"class_names": [str(d) for d in range(10)]}
    made = {learned: tiny_dit(learned_variance=learned, **names) for learned in (True, False)}
    return {learned: str(save_tiny_dit(root / str(learned), backbone)) for learned, backbone in made.items()}


def record_of(model: str, tmp_path: Any, **sampling: Any) -> tuple[str, str]:
    config = load_config(
        data={"source": "digits:train"}, backbone={"name": model}, sampling=sampling, guidance={"name": "none"}
    )
    record = open_job(config, tmp_path / "d").record
    return record["determines"]["sampling"]["variance"], record["digest"]


def test_learned_is_the_default_where_there_is_one_and_the_digest_knows(model: Any, tmp_path: Any) -> None:
    assert record_of(model[False], tmp_path)[0] == "fixed"
    assert record_of(model[True], tmp_path, scheduler="ddim")[0] == "fixed"
    left_open, named, fixed = (
        record_of(model[True], tmp_path, **options) for options in ({}, {"variance": "learned"}, {"variance": "fixed"})
    )
    assert left_open == named
    assert (left_open[0], fixed[0]) == ("learned", "fixed")
    assert left_open[1] != fixed[1]


def test_a_variance_that_is_not_there_is_refused(model: Any, tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match=r"has no learned variance; use --set sampling.variance=fixed"):
        record_of(model[False], tmp_path, variance="learned")
    with pytest.raises(ConfigError, match=r"sampling.variance is 'larned'; use 'fixed' or 'learned'"):
        load_config(sampling={"variance": "larned"})
    with pytest.raises(ConfigError, match=r"needs the ddpm scheduler: --set sampling.scheduler=ddpm"):
        load_config(sampling={"variance": "learned", "scheduler": "ddim"})
