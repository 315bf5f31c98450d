"""Stable Diffusion: equal to diffusers' own pipeline, a graph as far as the tap, prompts as conditions."""

import warnings
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dap.backbones import Prompts, default_micro_batch, open_backbone, read_prompts
from dap.backbones.computing import DTYPES, Computing, compile_blocks
from dap.backbones.stable_diffusion import StableDiffusionBackbone
from dap.errors import BackboneError, ConfigError, DapWarning, DataError
from dap.guidance import Representativeness
from dap.sampling import Guided, Start, trajectory
from dap.testing import check_backbone, check_guidance, save_tiny_stable_diffusion, tiny_stable_diffusion
from dap.types import Unit

TAPS = ("down.0", "down.1", "mid", "up.0", "up.1")
NAMES = ("ant", "bee", "cat")
# how far half precision may be off, as a share of the norm: eps, and the gradient through the tap
HALF_PRECISION = {"fp16": (0.005, 0.01), "bf16": (0.03, 0.06)}
UNITS = [Unit(0, 0, 11), Unit(2, 0, 12), Unit(2, 1, 13)]


@pytest.fixture(scope="module")
def tiny() -> StableDiffusionBackbone:
    return tiny_stable_diffusion(NAMES, prompts=read_prompts(NAMES, "a {name}!", negative="grey"))


def again(backbone: StableDiffusionBackbone, **changes: Any) -> StableDiffusionBackbone:
    """The same weights under another schedule, other prompts or in another precision."""
    b, parts = backbone, {}
    for part in ("unet", "vae", "text_encoder", "tokenizer"):
        parts[part] = changes.pop(part, getattr(b, part))
    schedule, prompts = {**b.schedule, **changes.pop("schedule", {})}, changes.pop("prompts", b.prompts)
    return StableDiffusionBackbone(**parts, scheduler=schedule, prompts=prompts, **changes)


def test_it_keeps_the_contract(tiny: StableDiffusionBackbone) -> None:
    check_backbone(tiny)
    check_guidance(Representativeness(strength=0.3, repulsion=1.0), tiny)
    assert tiny.taps() == TAPS
    assert (tiny.latent_shape, tiny.image_size, tiny.image_mode) == ((4, 8, 8), 16, "RGB")
    assert (tiny.class_names, tiny.cfg_scale, tiny.default_tap) == (NAMES, 7.5, "mid")
    assert default_micro_batch(tiny) == 50
    v = again(tiny, schedule={"prediction_type": "v_prediction"})
    check_backbone(v)
    assert v.weights_digest() != tiny.weights_digest()


# --- equal to diffusers -----------------------------------------------------------------------------------------------


def theirs(backbone: Any, kind: str, scheduler: str, **arguments: Any) -> Tensor:
    """x_0 of UNITS by a pipeline of diffusers with the same parts; its generators are ours, row by row."""
    import diffusers

    schedulers = {"ddim": diffusers.DDIMScheduler, "ddpm": diffusers.DDPMScheduler}
    pipeline = getattr(diffusers, kind)(
        vae=backbone.vae,
        text_encoder=backbone.text_encoder,
        tokenizer=backbone.tokenizer,
        unet=backbone.unet,
        scheduler=schedulers[scheduler].from_config(backbone.schedule),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pipeline(
            prompt=[f"a {NAMES[unit.label]}!" for unit in UNITS],
            negative_prompt=["grey"] * len(UNITS),
            generator=[torch.Generator().manual_seed(unit.seed) for unit in UNITS],
            output_type="latent",
            **arguments,
        ).images


@pytest.mark.parametrize("cfg_scale", [1.0, 7.5])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("scheduler", "eta"), [("ddim", 0.0), ("ddim", 0.7), ("ddpm", 0.0)])
def test_unguided_sampling_is_the_pipeline_of_diffusers(
    scheduler: str, eta: float, prediction_type: str, cfg_scale: float, tiny: Any, bench: Any
) -> None:
    backbone = again(tiny, schedule={"prediction_type": prediction_type})
    expected = theirs(
        backbone, "StableDiffusionPipeline", scheduler, num_inference_steps=6, eta=eta, guidance_scale=cfg_scale
    )
    ours = bench(backbone, scheduler, steps=6, eta=eta, cfg_scale=cfg_scale).sample(UNITS)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scheduler", ["ddim", "ddpm"])
def test_a_pipeline_of_the_second_family_is_that_of_diffusers_too(scheduler: str, bench: Any, tmp_path: Any) -> None:
    """Heads counted level by level, linear projections, v-prediction, prompts padded with "!"."""
    v = {"prediction_type": "v_prediction", "prompts": read_prompts(NAMES, "a {name}!", negative="grey")}
    backbone = tiny_stable_diffusion(NAMES, second=True, **v)
    check_backbone(backbone)
    assert (backbone.unet.config.attention_head_dim, backbone.unet.config.use_linear_projection) == ([2, 4], True)
    padded = backbone.tokenizer("a", padding="max_length", max_length=77).input_ids
    assert padded[-1] == backbone.tokenizer.convert_tokens_to_ids("!") == 0
    expected = theirs(backbone, "StableDiffusionPipeline", scheduler, num_inference_steps=4, guidance_scale=3.0)
    ours = bench(backbone, scheduler, steps=4, cfg_scale=3.0).sample(UNITS)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    there = save_tiny_stable_diffusion(tmp_path / "sd2", backbone)
    back = open_backbone(str(there), device="cpu", prompts=backbone.prompts)
    x = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    for t in (1, 500):
        one, other = (b.predict(x, t, b.condition([0, 1, 2])).eps for b in (backbone, back))
        assert torch.equal(one, other)


@pytest.mark.parametrize("strength", [0.3, 0.7, 1.0])
@pytest.mark.parametrize("scheduler", ["ddim", "ddpm"])
def test_image_to_image_is_the_pipeline_of_diffusers(scheduler: str, strength: float, tiny: Any, bench: Any) -> None:
    x_0 = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    expected = theirs(
        tiny,
        "StableDiffusionImg2ImgPipeline",
        scheduler,
        image=x_0,
        strength=strength,
        num_inference_steps=10,
        guidance_scale=2.0,
    )
    b = bench(tiny, scheduler, steps=10, cfg_scale=2.0)
    states = list(trajectory(b.sampler, UNITS, None, Start(x_0=x_0, strength=strength)))
    assert [(s.index, s.count) for s in states] == [(i, 10) for i in range(10 - round(10 * strength), 10)]
    torch.testing.assert_close(states[-1].x, expected, rtol=1e-5, atol=1e-5)


def test_a_start_leaves_a_guidances_interval_where_it_was(tiny: Any, bench: Any) -> None:
    b, seen = bench(tiny, steps=10), []

    def shift(step: Any) -> Tensor:
        seen.append((step.index, step.t))
        return torch.zeros_like(step.x_prev)

    guided, start = Guided(shift=shift, tap=None, interval=(0.0, 0.6)), Start(x_0=torch.zeros(3, 4, 8, 8), strength=0.7)
    list(trajectory(b.sampler, UNITS, guided, start))
    assert seen == [(i, b.sampler.chain.timesteps[i]) for i in (3, 4, 5)]


@pytest.mark.parametrize("strength", [-0.5, 0.0, 1.5, float("nan")])
def test_a_start_that_takes_no_step_or_too_many_is_refused(strength: float, tiny: Any, bench: Any) -> None:
    b = bench(tiny, steps=10)
    with pytest.raises(ConfigError, match=r"the share of steps to take is .*; use above 0 to 1"):
        next(trajectory(b.sampler, UNITS, None, Start(x_0=torch.zeros(3, 4, 8, 8), strength=strength)))


def test_the_chain_is_the_pipelines_own(tiny: Any) -> None:
    chain = tiny.chain("ddim", 50, 0.0)
    assert (chain.timesteps[0], chain.timesteps[-1]) == (981, 1)  # leading, offset 1
    assert chain._scheduler.config.clip_sample is False
    assert chain._scheduler.config.beta_schedule == "scaled_linear"
    clipped = again(tiny, schedule={"clip_sample": True, "timestep_spacing": "trailing"}).chain("ddpm", 10, 0.0)
    assert clipped._scheduler.config.clip_sample is False
    assert clipped.timesteps[0] == 999
    v = again(tiny, schedule={"prediction_type": "v_prediction"}).chain("ddim", 4, 0.0)
    assert v._scheduler.config.prediction_type == "epsilon"  # what predict gives
    with pytest.raises(ConfigError, match=r"sampling.steps is 1000"):
        tiny.chain("ddpm", 1000, 0.0)


def test_the_vae_gives_the_mode_scaled_and_one_image_does_not_depend_on_its_neighbours(tiny: Any) -> None:
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    mode = tiny.vae.encode(images * 2 - 1).latent_dist.mode()
    torch.testing.assert_close(tiny.encode(images), 0.18215 * mode)
    assert torch.equal(tiny.encode(images)[:1], tiny.encode(images[:1]))
    other = tiny_stable_diffusion(NAMES)
    other.vae.register_to_config(scaling_factor=0.3)
    torch.testing.assert_close(other.encode(images), 0.3 * mode)
    torch.testing.assert_close(other.decode(0.3 * mode), tiny.decode(0.18215 * mode), rtol=0, atol=1e-5)
    assert torch.equal(tiny.decode(tiny.encode(images))[:1], tiny.decode(tiny.encode(images[:1])))


# --- v-prediction -----------------------------------------------------------------------------------------------------


class SaysV(nn.Module):
    """The same denoiser as `unet`, telling v instead of eps: v = sqrt(a) eps - sqrt(1-a) x_0."""

    def __init__(self, unet: Any, alpha_bar: Tensor) -> None:
        super().__init__()
        self.unet, self.alpha_bar, self.config = unet, alpha_bar, unet.config

    def forward(self, x: Tensor, t: Tensor, encoder_hidden_states: Tensor) -> Any:
        a = self.alpha_bar[t].view(-1, 1, 1, 1)
        eps = self.unet(x, t, encoder_hidden_states=encoder_hidden_states).sample
        x_0 = (x - (1 - a).sqrt() * eps) / a.sqrt()
        return SimpleNamespace(sample=a.sqrt() * eps - (1 - a).sqrt() * x_0)


def test_v_and_eps_models_of_the_same_denoiser_agree(tiny: Any, bench: Any) -> None:
    alpha_bar = tiny.chain("ddim", 4, 0.0).alpha_bar
    v = again(tiny, unet=SaysV(tiny.unet, alpha_bar), schedule={"prediction_type": "v_prediction"})
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    for t in (1, 401, 981):
        a, eps, other = alpha_bar[t], *(b.predict(x, t, b.condition([0, 1])).eps for b in (tiny, v))
        x_0, x_0_of_v = ((x - (1 - a).sqrt() * e) / a.sqrt() for e in (eps, other))
        torch.testing.assert_close(x_0_of_v, x_0, rtol=1e-5, atol=1e-5 / float(a.sqrt()))
    for scheduler in ("ddim", "ddpm"):
        one, other = (bench(b, scheduler, steps=5, cfg_scale=3.0).sample(UNITS) for b in (tiny, v))
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ({"prediction_type": "sample"}, "prediction_type is 'sample'; dap knows 'epsilon' and 'v_prediction'"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
    ],
)
def test_other_schedules_are_refused(schedule: Any, said: str, tiny: Any) -> None:
    with pytest.raises(BackboneError, match=said):
        again(tiny, schedule=schedule)


# --- taps and the graph -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("tap", TAPS)
def test_the_gradient_through_the_tap_is_a_finite_difference(tap: str, prediction_type: str) -> None:
    tiny = tiny_stable_diffusion()
    b = again(tiny, schedule={"prediction_type": prediction_type}, unet=tiny.unet.double())
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64, generator=draw).requires_grad_()
    given = b.predict(x, 441, b.condition([0, 2]), tap)
    assert given.features is not None
    assert given.features.dtype == given.eps.dtype == torch.float64
    weights = torch.randn(given.features.shape, dtype=torch.float64, generator=draw)
    (slope,) = torch.autograd.grad(given.features, x, weights)

    def energy(at: Tensor) -> float:
        return float((b.tap_features(at, 441, b.condition([0, 2]), tap) * weights).sum())

    for _ in range(3):
        way = torch.randn(x.shape, dtype=torch.float64, generator=draw)
        step = 1e-5 * way
        change = (energy(x.detach() + step) - energy(x.detach() - step)) / 2e-5
        assert change == pytest.approx(float((slope * way).sum()), rel=1e-6)


class Saved:
    """Counts the bytes that autograd keeps for a backward pass."""

    def __init__(self) -> None:
        self.bytes = 0

    def __enter__(self) -> "Saved":
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)
        self._hooks.__enter__()
        return self

    def __exit__(self, *what: Any) -> None:
        self._hooks.__exit__(*what)

    def _pack(self, tensor: Tensor) -> Tensor:
        self.bytes += tensor.nbytes
        return tensor


@pytest.mark.parametrize("tap", TAPS)
def test_behind_the_tap_nothing_is_kept_not_even_through_the_skips(tap: str, tiny: Any) -> None:
    x, condition = torch.randn(2, 4, 8, 8).requires_grad_(), tiny.condition([0, 1])
    at_tap, behind = [], []

    def look(module: Any, args: Any, output: Any) -> None:
        at_tap.append(saved.bytes)

    first = tiny._layer(tap).register_forward_hook(look)
    last = tiny.unet.conv_out.register_forward_hook(lambda m, args, out: behind.append(out.requires_grad))
    try:
        with Saved() as saved:
            given = tiny.predict(x, 500, condition, tap)
    finally:
        first.remove()
        last.remove()
    assert saved.bytes == at_tap[0] > 0
    assert behind == [False]
    assert not given.eps.requires_grad
    with Saved() as full:
        tiny._eps(x, 500, condition)
    assert saved.bytes < full.bytes
    with Saved() as none:
        tiny.tap_features(x, 500, condition, tap)
        tiny.predict(x, 500, condition)
    assert none.bytes == 0


def test_blocks_behind_the_tap_do_not_run_for_the_features_alone(tiny: Any) -> None:
    ran: list[str] = []
    blocks = {**{f"down.{k}": b for k, b in enumerate(tiny.unet.down_blocks)}, "mid": tiny.unet.mid_block}
    blocks |= {f"up.{k}": b for k, b in enumerate(tiny.unet.up_blocks)}
    handles = [
        block.register_forward_pre_hook(lambda m, a, name=name: ran.append(name)) for name, block in blocks.items()
    ]
    try:
        for number, tap in enumerate(TAPS):
            ran.clear()
            tiny.tap_features(torch.randn(1, 4, 8, 8), 5, tiny.condition([0]), tap)
            assert tuple(ran) == TAPS[: number + 1]
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("tap", ["block.3", "down.2", "up", "middle", ""])
def test_an_unknown_tap_lists_the_taps(tap: str, tiny: Any) -> None:
    for read in (tiny.predict, tiny.tap_features):
        with pytest.raises(BackboneError, match=r"unknown tap of .*Known: down.0, down.1, mid, up.0, up.1"):
            read(torch.zeros(1, 4, 8, 8), 1, tiny.condition([0]), tap)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_stays_near_float32(dtype: str, tiny: Any) -> None:
    half = again(tiny_stable_diffusion(NAMES, prompts=tiny.prompts), computing=Computing(dtype=dtype))
    draw = torch.Generator().manual_seed(0)
    x, weights = torch.randn(2, 4, 8, 8, generator=draw), torch.randn(2, 16, 4, 4, generator=draw)
    assert half.unet.dtype == DTYPES[dtype]
    assert half.vae.dtype == half.text_encoder.dtype == torch.float32
    for t in (1, 500, 981):
        given = []
        for b in (half, tiny):
            leaf = x.clone().requires_grad_()
            prediction = b.predict(leaf, t, b.condition([0, 1]), "mid")
            assert prediction.features is not None
            slope = torch.autograd.grad(prediction.features, leaf, weights.to(prediction.features.dtype))[0]
            given.append((prediction.eps, slope))
        assert given[0][0].dtype == given[0][1].dtype == torch.float32
        for one, other, bound in zip(*given, HALF_PRECISION[dtype], strict=True):
            assert 0 < float((one - other).norm() / other.norm()) < bound


def test_tiles_change_pixels_and_slices_do_not(tiny: Any) -> None:
    tiled = again(tiny_stable_diffusion(NAMES), computing=Computing(vae_tiling=True))
    x = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(tiny.decode(x), torch.cat([tiny.decode(row[None]) for row in x]))
    tiled.vae.tile_latent_min_size, tiled.vae.tile_sample_min_size = 4, 8
    assert not torch.equal(tiled.decode(x), tiny.decode(x))


def test_compiled_blocks_guide_as_plain_ones(tiny: Any) -> None:
    """With a compiler that only traces: tapping, switching autograd off and leaving early must still work."""
    torch.compiler.reset()
    compiled, counted = again(tiny_stable_diffusion(NAMES), prompts=tiny.prompts), []

    def backend(graph: Any, example: Any) -> Any:
        counted.append(graph)
        return graph.forward

    compile_blocks(compiled.compiled_parts(), backend=backend)  # type: ignore[arg-type]
    check_backbone(compiled)
    assert counted
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for tap in TAPS:
        slopes = []
        for b in (tiny, compiled):
            leaf = x.clone().requires_grad_()
            given = b.predict(leaf, 500, b.condition([0, 1]), tap)
            slopes += [given.eps, *torch.autograd.grad(given.features.square().sum(), leaf)]
        torch.testing.assert_close(slopes[:2], slopes[2:], rtol=1e-4, atol=1e-4)
    torch.compiler.reset()


# --- prompts as conditions --------------------------------------------------------------------------------------------


def test_a_condition_is_the_prompts_embedding_encoded_once(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = Prompts(("ant", "bee"), of_image={("ant", 0): "one", ("ant", 1): "two"}, of_class={"ant": "any ant"})
    b, asked = again(tiny, prompts=prompts), []
    forward = b.text_encoder.forward
    monkeypatch.setattr(b.text_encoder, "forward", lambda *a, **k: (asked.append(len(a[0])), forward(*a, **k))[1])

    def of(text: str) -> Tensor:
        tokens = b.tokenizer(text, padding="max_length", max_length=77, return_tensors="pt")
        return forward(tokens.input_ids)[0]

    given = b.condition([0, 0, 0, 0], [0, 1, 0, 7])
    assert given.shape == (4, 77, 16)
    for row, text in zip(given, ("one", "two", "one", "any ant"), strict=True):
        torch.testing.assert_close(row[None], of(text))
    torch.testing.assert_close(b.condition([0, 1]), torch.cat([of("any ant"), of("a photo of a bee")]))
    torch.testing.assert_close(b.null_condition(2), torch.cat([of("")] * 2))
    assert asked == [1] * 5  # one, two, any ant, bee, the empty one: each alone and once
    assert not given.requires_grad


def test_an_image_without_a_prompt_is_named(tiny: Any) -> None:
    b = again(tiny, prompts=Prompts(("ant",), of_image={("ant", 0): "one"}))
    assert b.condition([0]).shape == b.condition([0], [0]).shape
    with pytest.raises(DataError, match="no line for image 3 of class 'ant'; add ant,3,PROMPT"):
        b.condition([0], [3])


def test_the_sampler_tells_the_backbone_which_image_it_makes(tiny: Any, bench: Any) -> None:
    told: list[tuple[Sequence[int], Sequence[int]]] = []

    class Listening:
        def __getattr__(self, name: str) -> Any:
            return getattr(tiny, name)

        def condition(self, classes: Sequence[int], indices: Sequence[int] | None = None) -> Tensor:
            assert indices is not None
            told.append((list(classes), list(indices)))
            return tiny.condition(classes, indices)

    bench(Listening(), steps=1, micro_batch=2).sample(UNITS)
    assert told == [([0, 2], [0, 0]), ([2, 2], [1, 1])]  # the last row again as padding


def test_prompts_that_are_too_long_are_cut_off_with_one_warning(tiny: Any) -> None:
    long = {name: f"{name} {'x' * 200}" for name in NAMES}
    prompts = Prompts(NAMES, of_class=long, of_image={("ant", 0): "x" * 75, ("ant", 1): "x" * 76, ("dog", 0): "x" * 99})
    with pytest.warns(
        DapWarning, match=r"4 of 6 prompts are cut off at 77 tokens, e.g. 'ant x{56}\.\.\.' with 205"
    ) as w:
        b = again(tiny, prompts=prompts)
    assert len(w) == 1
    assert b.condition([0]).shape == (1, 77, 16)
    whole = again(tiny, prompts=Prompts(("ant",), of_class={"ant": "x" * 75}))  # 75 and two ends
    assert torch.equal(whole.condition([0]), b.condition([0], [0]))


def test_a_missing_prompt_is_known_at_once(tiny: Any) -> None:
    with pytest.raises(DataError, match="'n99999999' is not one of the 1,000 classes"):
        again(tiny, prompts=read_prompts(["n99999999"]))


def test_no_more_prompts_are_kept_than_agreed(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    b, asked = again(tiny), []
    monkeypatch.setattr("dap.backbones.stable_diffusion.KEPT_PROMPTS", 2)
    forward = b.text_encoder.forward
    monkeypatch.setattr(b.text_encoder, "forward", lambda *a, **k: (asked.append(1), forward(*a, **k))[1])
    for label, encoded in ((0, 1), (1, 2), (0, 2), (2, 3), (0, 3), (1, 4)):  # the one unused for longest goes
        b.condition([label])
        assert len(asked) == encoded
    assert len(b._embeddings) == 2


def test_a_text_encoder_that_masks_its_padding_is_given_the_mask(tiny: Any) -> None:
    b = tiny_stable_diffusion(NAMES)
    plain = b.condition([0])
    b.text_encoder.config.use_attention_mask = True
    masked = again(b).condition([0])
    tokens = b.tokenizer("a photo of a ant", padding="max_length", max_length=77, return_tensors="pt")
    assert int(tokens.attention_mask.sum()) < 77
    with torch.no_grad():
        expected = b.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
    torch.testing.assert_close(masked, expected)
    assert not torch.allclose(masked, plain, atol=1e-4)


@pytest.mark.parametrize(
    ("part", "key", "value", "said"),
    [
        ("unet", "in_channels", 9, "works on 9 channels, its VAE gives 4; use its own VAE; inpainting models"),
        ("unet", "addition_embed_type", "text_time", "needs more than text .addition_embed_type is 'text_time'"),
        ("unet", "num_class_embeds", 10, "needs more than text"),
        ("unet", "class_embed_type", "timestep", "needs more than text .class_embed_type is 'timestep'"),
        ("unet", "time_cond_proj_dim", 256, "needs more than text .time_cond_proj_dim is 256"),
        ("unet", "cross_attention_dim", 32, "reads text of width 32, the text encoder gives 16"),
        ("unet", "sample_size", [8, 16], "sample_size is .8, 16.; dap needs one number"),
        ("unet", "sample_size", None, "sample_size is None"),
    ],
)
def test_parts_that_do_not_fit(part: str, key: str, value: Any, said: str) -> None:
    b = tiny_stable_diffusion()
    getattr(b, part).register_to_config(**{key: value})
    with pytest.raises(BackboneError, match=said):
        again(b)
