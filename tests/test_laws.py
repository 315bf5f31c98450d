"""The laws of the loop: what guidance may and may not change, and that unguided sampling is the diffusers pipeline."""

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from dap.config import load_config
from dap.distillation import open_job
from dap.errors import SamplingError
from dap.guidance import Representativeness, acts
from dap.guidance.clusters import clusters_of
from dap.kernels import KERNELS, SHIFT_INVARIANT, make_kernel
from dap.sampling import Guided
from dap.testing import check_backbone, check_guidance, save_tiny_dit, tiny_dit, tiny_latent_dit
from dap.types import Prediction

PAPER = Representativeness(gamma=0.5)
SET = Representativeness(strength=0.3, repulsion=1.0)


@dataclass
class Call:
    rows: int
    t: int
    tap: str | None
    null: bool
    graph: bool


class Watched:
    """A backbone that writes down every `predict`."""

    def __init__(self, backbone: Any) -> None:
        self._inner, self.calls = backbone, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def predict(self, x: Tensor, t: int, condition: Tensor, tap: str | None = None) -> Prediction:
        given = self._inner.predict(x, t, condition, tap)
        null = torch.equal(condition, self._inner.null_condition(len(condition)))
        graph = given.eps.requires_grad or (given.features is not None and given.features.requires_grad)
        self.calls.append(Call(len(x), t, tap, null, graph))
        return given


# --- guidance: when it acts and what it costs -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(class folders of 8 x 8 images, a pipeline directory that knows these classes in another order)."""
    root = tmp_path_factory.mktemp("laws")
    for name in ("ant", "bee", "cat"):
        (root / "images" / name).mkdir(parents=True)
        for i in range(3):
            grey = torch.randint(0, 256, (8, 8), generator=torch.Generator().manual_seed(i), dtype=torch.uint8)
            Image.fromarray(grey.numpy()).save(root / "images" / name / f"{i}.png")
    return root / "images", save_tiny_dit(root / "dit", tiny_dit(class_names=("cat", "bee", "ant")))


@pytest.mark.parametrize("options", [{"name": "dap", "strength": 0}, {"name": "dap-paper", "gamma": 0.0}])
def test_scale_zero_is_no_guidance_bit_for_bit(options: dict[str, Any], folder: Any, tmp_path: Path) -> None:
    images, dit = folder
    tables = {
        "data": {"source": str(images), "mode": "L"},
        "backbone": {"name": str(dit), "cfg_scale": 2.0},
        "sampling": {"steps": 4},
        "run": {"ipc": 2},
    }
    plain = open_job(load_config(**tables, guidance={"name": "none"}), tmp_path / "a")
    zero = open_job(load_config(**tables, guidance=options), tmp_path / "b")
    some = open_job(load_config(**tables, guidance={"name": "dap", "strength": 0.1}), tmp_path / "c")
    assert zero.guidance is None
    assert zero.guided is None
    assert zero.record["digest"] == plain.record["digest"] != some.record["digest"]
    x, y, z = (list(job.sample(job.chunks[0]))[-1].x for job in (plain, zero, some))
    assert torch.equal(x, y)
    assert not torch.equal(x, z)


INTERVALS = [
    ((0.0, 1.0), [0, 1, 2, 3]),
    ((0.0, 0.25), [0]),
    ((0.25, 0.75), [1, 2]),
    ((0.5, 1.0), [2, 3]),
    ((0.9, 1.0), []),
    ((0.0, 1.1), [0, 1, 2, 3, 4]),
]


@pytest.mark.parametrize(("interval", "expected"), INTERVALS)
def test_outside_the_interval_nothing_is_called_and_no_tap_is_asked(
    interval: Any, expected: list[int], bench: Any, units: Any
) -> None:
    b = bench(Watched(tiny_dit()), steps=5)
    seen = []

    def shift(step: Any) -> Tensor:
        assert step.features is not None
        seen.append(step.index)
        return torch.ones_like(step.x_prev)

    b.sample(units([0], 3), Guided(shift=shift, tap="block.1", interval=interval))
    assert seen == expected == [i for i in range(5) if acts(interval, i, 5)]
    tapped = [b.sampler.chain.timesteps.index(call.t) for call in b.sampler.backbone.calls if call.tap]
    assert tapped == expected
    assert [call.graph for call in b.sampler.backbone.calls] == [i in expected for i in range(5)]


def test_the_default_interval_leaves_out_the_last_step_also_when_it_is_the_only_one() -> None:
    assert not acts((0.0, 1.0), 0, 1)
    assert not acts((0.0, 1.0), 1, 2)
    assert acts((0.0, 1.0), 0, 2)


@pytest.mark.parametrize("cfg_scale", [1.0, 3.0])
@pytest.mark.parametrize("guidance", [PAPER, SET])
def test_a_guided_step_forwards_no_more_rows_than_an_unguided_one(
    guidance: Any, cfg_scale: float, bench: Any, units: Any
) -> None:
    b = bench(Watched(tiny_dit()), cfg_scale=cfg_scale, real=5)
    watched, chosen = b.sampler.backbone, units([0, 2], 3)
    b.sample(chosen)
    unguided = [(call.rows, call.t, call.null) for call in watched.calls]
    assert sum(rows for rows, _, null in unguided if not null) == 4 * 8  # 6 images, padded to two micro-batches
    assert sum(null for _, _, null in unguided) == (0 if cfg_scale == 1 else 4 * 2)  # scale 1 runs no null rows
    watched.calls.clear()
    reference, real = b.reference(rows=3), []
    reference.on_extract = real.append
    b.sample(chosen, b.guided(guidance, reference))
    assert [(call.rows, call.t, call.null) for call in watched.calls] == unguided
    assert not any(call.graph or call.tap for call in watched.calls if call.null)
    assert real == [3, 2] * 2 * 3  # each real image of two classes once a guided step, whatever the number of images


# --- guidance: what it adds -------------------------------------------------------------------------------------------


class Exact(Watched):
    """The same backbone computing in float64, so that finite differences are exact to many digits."""

    def __init__(self, backbone: Any) -> None:
        super().__init__(backbone)
        backbone.transformer.double()

    def predict(self, x: Tensor, t: int, condition: Tensor, tap: str | None = None) -> Prediction:
        given = self._inner.predict(x.double(), t, condition, tap)
        return Prediction(given.eps.float(), given.features)

    def tap_features(self, x: Tensor, t: int, condition: Tensor, tap: str) -> Tensor:
        return self._inner.tap_features(x.double(), t, condition, tap)


def energy_by_hand(
    s: Tensor, r: Tensor, guidance: Representativeness, seen: list[list[int]], far: Tensor | None = None
) -> float:
    """E(S) of a set as it is (1/I), written out in float64 with its own loops; image i sees the real rows seen[i]."""
    shift = r.mean(0) if guidance.kernel in SHIFT_INVARIANT else 0
    s, r = s - shift, r - shift
    kernel = make_kernel(guidance.kernel, r)

    def d(x: Tensor, y: Tensor) -> float:
        a, b = x[None], y[None]
        square = float(kernel(a, a) + kernel(b, b) - 2 * kernel(a, b))
        return max(square, 0.0) ** (guidance.power / 2)

    total = 0.0
    for i, s_i in enumerate(s):
        total += sum(d(s_i, r[j]) for j in seen[i]) / len(seen[i])
        apart = sum(d(s_i, s_j) for j, s_j in enumerate(s) if j != i)
        total -= guidance.repulsion / 2 * apart / len(s)
        if far is not None:
            u = far.double() - shift
            alike = len(s) if guidance.couples else 1  # images that do not couple are sets of one
            total -= guidance.contrast / alike * sum(d(s_i, u_l) for u_l in u) / len(u)
    return total


@pytest.fixture(scope="module")
def exact() -> Exact:
    return Exact(tiny_dit(size=4, depth=2))


@pytest.mark.parametrize("pool", ["flatten", "mean"])
@pytest.mark.parametrize("repulsion", [0.0, 1.0])
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("kernel", sorted(KERNELS))
def test_shift_is_the_finite_difference_of_the_energy(
    kernel: str, power: int, repulsion: float, pool: str, exact: Exact, bench: Any, units: Any
) -> None:
    b = bench(exact, steps=3, real=3, micro_batch=2)
    guidance = Representativeness(gamma=1.0, kernel=kernel, power=power, repulsion=repulsion, pool=pool, tap="block.1")
    check_shift(guidance, b, exact, units, [[0, 1, 2]] * 3)


@pytest.mark.parametrize("repulsion", [0.0, 1.0])
@pytest.mark.parametrize("power", [1, 2])
def test_with_clusters_too_and_image_i_sees_cluster_i(
    power: int, repulsion: float, exact: Exact, bench: Any, units: Any
) -> None:
    b = bench(exact, steps=3, real=8, micro_batch=2)
    guidance = Representativeness(gamma=1.0, power=power, repulsion=repulsion, reference="cluster", tap="block.1")
    given = clusters_of(b.reference(ipc=3), 1)
    seen = [row.nonzero().flatten().tolist() for row in given]
    assert sorted(itertools.chain(*seen)) == list(range(8))
    assert min(map(len, seen)) > 1
    check_shift(guidance, b, exact, units, seen)


def test_a_class_of_fewer_real_images_than_synthetic_ones_is_seen_whole(exact: Exact, bench: Any, units: Any) -> None:
    b = bench(exact, steps=3, real=2, micro_batch=2)
    guidance = Representativeness(gamma=1.0, repulsion=1.0, reference="cluster", tap="block.1")
    check_shift(guidance, b, exact, units, [[0, 1]] * 3)


@pytest.mark.parametrize("kernel", sorted(KERNELS))
@pytest.mark.parametrize("repulsion", [0.0, 1.0])
def test_with_contrast_too_of_a_set_or_of_each_image_alone(
    kernel: str, repulsion: float, exact: Exact, bench: Any, units: Any
) -> None:
    b = bench(exact, steps=3, real=3, micro_batch=2)
    guidance = Representativeness(gamma=1.0, kernel=kernel, repulsion=repulsion, contrast=0.8, tap="block.1")
    check_shift(guidance, b, exact, units, [[0, 1, 2]] * 3)


def check_shift(guidance: Representativeness, b: Any, exact: Exact, units: Any, seen: list[list[int]]) -> None:
    """The shift of three images of class 1, along a random direction, is minus the slope of E."""
    pool = guidance.pool
    reference = b.reference(pooling=guidance.pooling, ipc=3, negative_rows=4 if guidance.contrast else 0)
    chosen, draw = units([1], 3), torch.Generator().manual_seed(0)
    shift, condition = guidance.prepare(exact, reference), exact.condition([1] * 3)
    looked = []

    def rows(features: Tensor) -> Tensor:
        return features.flatten(1) if pool == "flatten" else features.mean(1)

    def energy(x: Tensor, step: Any) -> float:
        real = reference.features(1, step.index).double()
        far = reference.negatives(1, step.index)
        return energy_by_hand(rows(exact.tap_features(x, step.t, condition, "block.1")), real, guidance, seen, far)

    def checked(step: Any) -> Tensor:
        moved = shift(step)
        direction = torch.randn(moved.shape, generator=draw, dtype=torch.float64)
        h, x = 1e-6, step.x_t.double()
        slope = (energy(x + h * direction, step) - energy(x - h * direction, step)) / (2 * h)
        scale = float(moved.double().norm())  # the slope along the steepest direction
        assert scale > 0
        assert float((moved * direction).sum()) == pytest.approx(-slope, rel=1e-3, abs=1e-3 * scale)
        looked.append(step.index)
        return torch.zeros_like(moved)

    b.sample(chosen, Guided(shift=checked, tap="block.1", interval=(0.0, 0.9)))
    assert looked == [0, 1]


@contextmanager
def steps_of(guidance: Any, b: Any) -> Iterator[tuple[Guided, list[tuple[Any, Tensor]]]]:
    """A guided that also keeps (step, shift) pairs."""
    kept: list[tuple[Any, Tensor]] = []
    inner = b.guided(guidance)

    def shift(step: Any) -> Tensor:
        kept.append((step, inner.shift(step)))
        return kept[-1][1]

    yield Guided(shift=shift, tap=inner.tap, interval=inner.interval), kept


def test_gamma_is_exactly_x_prev_plus_gamma_times_g(bench: Any, units: Any) -> None:
    b = bench(steps=2)
    chosen = units([0], 2)
    with steps_of(Representativeness(gamma=1.0), b) as (guided, kept):
        first = b.first(chosen, guided)
    step, g_t = kept[0]
    assert torch.equal(first, step.x_prev + g_t)
    for gamma in (0.25, 3.0):
        other = b.first(chosen, b.guided(Representativeness(gamma=gamma)))
        assert torch.equal(other, step.x_prev + gamma * g_t)


@pytest.mark.parametrize("guidance", [SET, Representativeness(strength=1.5, kernel="rbf", power=2)])
def test_strength_is_the_shifts_length_as_a_share_of_each_images_own_move(
    guidance: Any, bench: Any, units: Any
) -> None:
    b = bench(steps=4)
    with steps_of(guidance, b) as (guided, kept):
        b.sample(units([0, 1], 3), guided)
    assert len(kept) == 3
    for step, shift in kept:
        move = (step.x_prev - step.x_t).flatten(1).norm(dim=1)
        torch.testing.assert_close(shift.flatten(1).norm(dim=1), guidance.strength * move, rtol=1e-5, atol=0)


def test_guidance_lowers_the_energy_it_descends(bench: Any, units: Any) -> None:
    b = bench(steps=3)
    reference = b.reference()
    guidance = Representativeness(gamma=1e-3, tap="block.1")
    with steps_of(guidance, b) as (guided, kept):
        b.sample(units([0], 3), guided)
    step, shift = kept[0]
    condition = b.sampler.backbone.condition([0] * 3)
    real = reference.features(0, step.index)
    near, far = (
        torch.cdist(b.sampler.backbone.tap_features(x, step.t, condition, "block.1").flatten(1), real).mean()
        for x in (step.x_t + shift, step.x_t)
    )
    assert near < far


# --- images do not know each other ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "guidance",
    [
        None,
        PAPER,
        Representativeness(strength=0.2, kernel="laplace", pool="mean"),
        Representativeness(strength="auto", contrast=0.8),
    ],
    ids=["unguided", "paper", "laplace", "contrast"],
)
@pytest.mark.parametrize("scheduler", ["ddpm", "ddim"])
def test_an_image_depends_on_no_other_sampled_class_chunk_order_or_ipc(
    scheduler: str, guidance: Any, bench: Any, units: Any
) -> None:
    b = bench(scheduler=scheduler, eta=0.5 if scheduler == "ddim" else 0.0, cfg_scale=2.0)
    everything = units([0, 1, 2], 3)
    of = dict(zip(everything, b.sample(everything, guidance), strict=True))
    chunkings = [
        [[unit] for unit in everything],  # each alone
        [everything[::-1]],  # another order
        [everything[:5], everything[5:]],  # a class cut in two
        [units([1], 3)],  # one class only
        [units([0, 2], 5)],  # more images a class
    ]
    for chunks in chunkings:
        for chunk in chunks:
            for unit, x in zip(chunk, b.sample(chunk, guidance), strict=True):
                if unit in of:
                    assert torch.equal(x, of[unit]), f"{unit} in {chunk}"


def test_repulsion_couples_the_images_of_a_class_and_no_others(bench: Any, units: Any) -> None:
    b = bench()
    assert SET.couples
    assert not PAPER.couples
    two = b.sample(units([0], 2), SET)
    assert torch.equal(two, b.sample(units([0, 1], 2), SET)[:2])
    assert torch.equal(two, b.sample(units([2, 0], 2), SET)[2:])
    assert not torch.equal(two, b.sample(units([0], 3), SET)[:2])
    alone = Representativeness(strength=0.3)
    assert torch.equal(b.sample(units([0], 1), SET), b.sample(units([0], 1), alone))  # one image has none to repel


def test_ddim_eta_0_is_deterministic_and_the_global_generator_is_not_used(bench: Any, units: Any) -> None:
    b = bench(steps=5)
    before = torch.random.get_rng_state()
    one = b.sample(units([0, 1], 2), SET)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(99)
    assert torch.equal(one, b.sample(units([0, 1], 2), SET))


def test_only_noisy_chains_draw_noise_after_the_start(bench: Any, units: Any) -> None:
    for scheduler, eta, noisy in (("ddpm", 0.0, True), ("ddim", 0.0, False), ("ddim", 1.0, True)):
        chain = bench(scheduler=scheduler, eta=eta).sampler.chain
        x, eps = torch.ones(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)
        generators = [torch.Generator().manual_seed(k) for k in (1, 2)]
        a, b = chain.step(eps, chain.timesteps[0], x, generators)
        assert torch.equal(a, b) is not noisy


# --- classifier-free guidance -----------------------------------------------------------------------------------------


def test_cfg_channels_mixes_the_first_channels_and_leaves_the_others_conditional(bench: Any, units: Any) -> None:
    b = bench(tiny_dit(channels=3))
    chosen = units([0, 1], 2)

    def first(**changes: Any) -> Tensor:
        return b.first(chosen, **changes)

    off, every, one = first(), first(cfg_scale=3.0), first(cfg_scale=3.0, cfg_channels=1)
    assert torch.equal(one[:, :1], every[:, :1])
    assert torch.equal(one[:, 1:], off[:, 1:])
    assert not torch.allclose(every, off)
    assert torch.equal(first(cfg_scale=3.0, cfg_channels=3), every)


@pytest.mark.parametrize("cfg_scale", [1.0, 4.0])
@pytest.mark.parametrize("scheduler", ["ddpm", "ddim"])
def test_unguided_sampling_is_the_diffusers_pipeline(scheduler: str, cfg_scale: float, bench: Any, units: Any) -> None:
    from diffusers import DDIMScheduler, DDPMScheduler, DiTPipeline

    backbone = tiny_latent_dit(1000)  # the pipeline's null label is the literal 1000
    chosen = units([3, 777], 2)
    x = bench(backbone, scheduler, steps=6, cfg_scale=cfg_scale).sample(chosen)
    generators = [torch.Generator().manual_seed(unit.seed) for unit in chosen]
    kind = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler}[scheduler]

    class Fed(kind):  # type: ignore[misc, valid-type]
        """The pipeline hands its generator to no step, and steps the doubled batch: feed each image its own noise."""

        def step(self, model_output: Tensor, t: Any, sample: Tensor, **_: Any) -> Any:
            n = len(chosen)
            result = super().step(model_output[:n], t, sample[:n], generator=generators)
            result.prev_sample = torch.cat([result.prev_sample] * (len(sample) // n))
            return result

    # ddim as the pipeline stands; ddpm over the original DiT's timesteps
    spacing = {"timestep_spacing": "linspace"} if scheduler == "ddpm" else {}
    pipe = DiTPipeline(backbone.transformer, backbone.vae, Fed.from_config({**backbone.schedule, **spacing}))
    pipe.set_progress_bar_config(disable=True)
    given = pipe(
        [unit.label for unit in chosen],
        guidance_scale=cfg_scale,
        generator=generators,
        num_inference_steps=6,
        output_type="np",
    )
    theirs = torch.from_numpy(given.images).permute(0, 3, 1, 2)
    torch.testing.assert_close(backbone.decode(x), theirs, rtol=0, atol=1e-5)
    assert float(theirs.std()) > 0.01


# --- failing ----------------------------------------------------------------------------------------------------------


def test_numbers_that_are_not_finite_name_the_image_and_the_step(bench: Any, units: Any) -> None:
    def shift(step: Any) -> Tensor:
        out = torch.zeros_like(step.x_prev)
        if step.index == 2:
            out[4, 0, 0, 0] = float("nan")
        return out

    b = bench(steps=5)
    with pytest.raises(SamplingError, match=re.escape("image 1:1 is not finite after step 3 of 5")) as caught:
        b.sample(units([0, 1], 3), Guided(shift=shift, tap=None, interval=(0.0, 1.0)))
    assert "lower guidance.strength" in str(caught.value)
    assert "bf16" not in str(caught.value)
    backbone = tiny_dit()
    backbone.transformer.proj_out_2.bias.data.fill_(float("inf"))
    with pytest.raises(SamplingError, match=r"image 0:0 .* step 1 of 4 .*2 of 2 images.*check the checkpoint"):
        bench(backbone).sample(units([0], 2))
    with pytest.raises(SamplingError, match=r"step 1 of 4 .*check the checkpoint"):  # and not the guidance
        bench(backbone).sample(units([0], 2), SET)
    for guidance in (None, SET):  # what fp16 cannot hold is no fault of the guidance
        with pytest.raises(SamplingError, match=r"use --dtype bf16, whose range is that of fp32$"):
            bench(backbone, dtype="fp16").sample(units([0], 2), guidance)
    with pytest.raises(SamplingError, match=r"use --dtype bf16, .* or lower guidance.strength"):
        b.sample(units([0, 1], 3), Guided(shift=shift, tap=None, interval=(0.0, 1.0)), dtype="fp16")


# --- the contracts hold for what ships --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [tiny_dit, tiny_latent_dit, lambda: tiny_dit(channels=3, learned_variance=True)],
    ids=["pixels", "latents", "learned variance"],
)
def test_the_backbones_keep_their_contract(make: Any) -> None:
    check_backbone(make())


@pytest.mark.parametrize("kernel", sorted(KERNELS))
@pytest.mark.parametrize("repulsion", [0.0, 1.0, "auto"])
def test_the_guidance_keeps_its_contract(kernel: str, repulsion: float | str) -> None:
    for contrast in (0.0, 0.8):
        guidance = Representativeness(strength=0.2, kernel=kernel, repulsion=repulsion, contrast=contrast)
        check_guidance(guidance, tiny_dit(depth=2))
