"""Precision, slices, tiles, compilation, and what the autograd graph keeps."""

import json
import warnings
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from dap.backbones import computing, open_backbone
from dap.backbones.computing import Computing, compile_blocks, decode_slices
from dap.backbones.dit import DiTBackbone
from dap.cli import app
from dap.config import load_config
from dap.distillation import open_job
from dap.errors import BackboneError, ConfigError
from dap.guidance import Representativeness
from dap.sampling import Guided
from dap.testing import check_backbone, save_tiny_dit, tiny_dit, tiny_latent_dit

# how far half precision may be off, as a share of the norm: eps, and the gradient through two of three blocks
BOUNDS = {"fp16": (0.005, 0.01), "bf16": (0.03, 0.06)}


def in_precision(dtype: str, **options: Any) -> DiTBackbone:
    whole = tiny_dit(**options)
    return DiTBackbone(whole.transformer, whole.schedule, whole.class_names, computing=Computing(dtype=dtype))


def off(there: Tensor, here: Tensor) -> float:
    return float((there.double() - here.double()).norm() / here.double().norm())


# --- precision --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", BOUNDS)
def test_half_precision_stays_within_its_bounds(dtype: str) -> None:
    full, half, x = tiny_dit(channels=3), in_precision(dtype, channels=3), torch.randn(2, 3, 8, 8)
    weights = torch.randn(2, 16, 16)
    eps, gradient = BOUNDS[dtype]
    for t in (999, 500, 0):
        given = []
        for backbone in (full, half):
            leaf = x.clone().requires_grad_()
            prediction = backbone.predict(leaf, t, backbone.condition([0, 1]), "block.1")
            features = prediction.features
            assert features is not None
            (slope,) = torch.autograd.grad(features, leaf, weights.to(features.dtype))
            given.append((prediction.eps, slope))
        assert half.predict(x, t, half.condition([0, 1])).eps.dtype == slope.dtype == torch.float32
        assert 0 < off(given[1][0], given[0][0]) < eps
        assert 0 < off(given[1][1], given[0][1]) < gradient


@pytest.mark.parametrize("dtype", BOUNDS)
def test_a_half_precision_backbone_keeps_the_contract(dtype: str) -> None:
    backbone = in_precision(dtype)
    assert {p.dtype for p in backbone.transformer.parameters()} == {computing.DTYPES[dtype]}
    check_backbone(backbone)


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("dtype", BOUNDS)
def test_a_gradient_survives_half_precision_whatever_the_size_of_the_energys(
    dtype: str, size: float, bench: Any, units: Any
) -> None:
    """fp16 knows nothing between 0 and 6e-8, and nothing above 65504; each image has a size of its own."""
    pulled, sizes = [], torch.tensor([1.0, 1e-9, 1e9]).view(3, 1, 1)
    for backbone in (tiny_dit(), in_precision(dtype)):

        def shift(step: Any) -> Tensor:
            slope = size * sizes * torch.randn(step.features.shape, generator=torch.Generator().manual_seed(0))
            assert step.features.dtype == torch.float32
            pulled.append(step.pull_back(slope))
            return torch.zeros_like(step.x_prev)

        bench(backbone).first(units([0], 3), Guided(shift=shift, tap="block.1", interval=(0.0, 1.0)))
    assert pulled[1].dtype == torch.float32
    for half, full in zip(pulled[1], pulled[0], strict=True):
        assert off(half, full) < BOUNDS[dtype][1]


@pytest.mark.parametrize("dtype", BOUNDS)
def test_guided_samples_in_half_precision(dtype: str, bench: Any, units: Any) -> None:
    guidance = Representativeness(strength=0.1, repulsion=1.0)
    one, two = (bench(b, cfg_scale=2.0).sample(units([0, 1], 2), guidance) for b in (tiny_dit(), in_precision(dtype)))
    assert two.dtype == torch.float32
    assert off(two, one) < 0.1


def test_precision_and_tiles_are_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match=r"unknown dtype 'fp8'; did you mean .*'fp16'.* Known: bf16, fp16, fp32"):
        open_backbone("digits", dtype="fp8")
    with pytest.raises(BackboneError, match="digits has no VAE to tile"):
        open_backbone("digits", device="cpu", vae_tiling=True)

    def cannot(*_: Any, **__: Any) -> None:
        raise RuntimeError("\"slow_conv2d_cpu\" not implemented for 'Half'\nmore")

    # forwards, and the backward pass that guidance needs
    for where, name in ((torch.nn.functional, "conv2d"), (torch.nn.functional, "linear"), (torch.autograd, "grad")):
        for dtype in BOUNDS:
            said = rf"{dtype} cannot be computed on cpu here \(.*Half'\); use --dtype fp32$"
            with monkeypatch.context() as patched:
                patched.setattr(where, name, cannot)
                with pytest.raises(ConfigError, match=said) as caught:
                    open_backbone("digits", device="cpu", dtype=dtype)
            assert "\n" not in str(caught.value)
    monkeypatch.setattr(computing, "_try_out", cannot)
    assert open_backbone("digits", device="cpu").name == "digits"  # fp32 is not tried out


# --- decoding ---------------------------------------------------------------------------------------------------------


def test_an_image_is_decoded_alike_whatever_is_decoded_with_it() -> None:
    backbone = tiny_latent_dit()
    latents = torch.randn(5, 4, 4, 4)
    together = backbone.decode(latents)
    for k in range(5):
        assert torch.equal(backbone.decode(latents[k : k + 1])[0], together[k])
    whole = (backbone.vae.decode(latents / 0.5).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(together, whole, rtol=0, atol=1e-5)


def test_tiles_only_on_request_and_never_left_on() -> None:
    vae = tiny_latent_dit().vae
    vae.tile_latent_min_size, vae.tile_sample_min_size = 4, 8  # so that these latents are large
    latents = torch.randn(2, 4, 8, 8)
    plain, tiled = (decode_slices(vae, latents, tiling=tiling) for tiling in (False, True))
    assert plain.shape == tiled.shape
    assert not torch.allclose(plain, tiled, atol=1e-3)
    assert vae.use_tiling is False
    backbone = tiny_latent_dit()
    other = DiTBackbone(
        backbone.transformer, backbone.schedule, backbone.class_names, vae=vae, computing=Computing(vae_tiling=True)
    )
    torch.testing.assert_close(other.decode(0.5 * latents), (tiled / 2 + 0.5).clamp(0, 1))


# --- compilation ------------------------------------------------------------------------------------------------------


def test_compiled_blocks_guide_as_plain_ones(bench: Any, units: Any) -> None:
    """With a compiler that only traces: tapping, switching autograd off and leaving early must still work."""
    torch.compiler.reset()
    plain, compiled = tiny_dit(), tiny_dit()
    counted = []

    def backend(graph: Any, example: Any) -> Any:
        counted.append(graph)
        return graph.forward

    compile_blocks(compiled.transformer.transformer_blocks, backend=backend)  # type: ignore[arg-type]
    check_backbone(compiled)
    assert counted
    guidance = Representativeness(strength=0.2, repulsion=1.0)
    one, two = (bench(b, cfg_scale=2.0).sample(units([0, 1], 2), guidance) for b in (plain, compiled))
    torch.testing.assert_close(one, two, rtol=0, atol=1e-4)
    assert set(compiled.transformer.state_dict()) == set(plain.transformer.state_dict())
    torch.compiler.reset()


def test_blocks_that_share_their_code_are_all_compiled_none_left_to_the_interpreter() -> None:
    """As the levels of Stable Diffusion, with and without gradient: the compiler's own limit of 8 would not do."""
    import torch._dynamo.config as dynamo

    class Block(torch.nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(width), requires_grad=False)

        def forward(self, x: Tensor) -> Tensor:
            return (x * self.weight).relu()

    torch.compiler.reset()
    blocks, compiled = [Block(width) for width in range(2, 14)], []

    def backend(graph: Any, example: Any) -> Any:
        compiled.append(graph)
        return graph.forward

    compile_blocks(blocks, backend=backend)  # type: ignore[arg-type]
    with dynamo.patch(fail_on_recompile_limit_hit=True):
        for block in blocks:
            for graph in (True, False):
                x = torch.ones(2, len(block.weight), requires_grad=graph)
                with torch.set_grad_enabled(graph):
                    assert torch.equal(block(x), x)
    assert len(compiled) > 8
    torch.compiler.reset()


def test_where_nothing_can_be_compiled_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("InvalidCxxCompiler: no working C++ compiler found\nlong")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(ConfigError, match=r"compile cannot work on cpu here \(Inv.* found\); leave --compile out"):
        open_backbone("digits", device="cpu", compile=True)


# --- memory -----------------------------------------------------------------------------------------------------------


class Kept:
    """What autograd saves for the backward pass: how many tensors, and their bytes."""

    def __init__(self) -> None:
        self.tensors, self.bytes = 0, 0

    def of(self, run: Any) -> tuple[int, int]:
        def pack(tensor: Tensor) -> Tensor:
            self.tensors += 1
            self.bytes += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            run()
        return self.tensors, self.bytes


@pytest.mark.parametrize("k", [0, 2])
def test_behind_the_tap_nothing_is_kept_whatever_the_depth(k: int) -> None:
    kept = []
    for depth in (3, 12):
        backbone, x = tiny_dit(depth=depth), torch.randn(2, 1, 8, 8).requires_grad_()
        condition = backbone.condition([0, 1])
        kept.append(Kept().of(lambda b=backbone, x=x, c=condition: b.predict(x, 500, c, f"block.{k}")))
        assert Kept().of(lambda b=backbone, x=x, c=condition: b.predict(x, 500, c)) == (0, 0)
        assert Kept().of(lambda b=backbone, x=x, c=condition: b.tap_features(x, 500, c, f"block.{k}")) == (0, 0)
    assert kept[0] == kept[1]
    assert kept[0][0] > 0


def test_each_block_before_the_tap_costs_the_same() -> None:
    backbone, x = tiny_dit(depth=6), torch.randn(2, 1, 8, 8).requires_grad_()
    condition = backbone.condition([0, 1])
    kept = [Kept().of(lambda k=k: backbone.predict(x, 500, condition, f"block.{k}"))[1] for k in range(6)]
    steps = {b - a for a, b in pairwise(kept)}
    assert len(steps) == 1
    full = Kept().of(lambda: backbone.transformer(x, timestep=torch.full((2,), 500), class_labels=condition).sample)
    assert kept[1] < full[1] / 2


def test_a_saved_pipeline_opens_in_any_precision(tmp_path: Any) -> None:
    there = str(save_tiny_dit(tmp_path / "dit", tiny_latent_dit()))
    for dtype in ("fp32", "fp16", "bf16"):
        backbone = open_backbone(there, device="cpu", dtype=dtype)
        assert isinstance(backbone, DiTBackbone)
        assert next(backbone.vae.parameters()).dtype == torch.float32
        assert backbone.weights_digest() == open_backbone(there, device="cpu").weights_digest()


def test_precision_and_tiles_are_part_of_the_digest_and_compilation_is_not(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda forward, **_: forward)
    there = save_tiny_dit(tmp_path / "dit", tiny_latent_dit(class_names=[str(d) for d in range(10)]))
    digests = []
    for options in ({}, {"dtype": "bf16"}, {"vae_tiling": True}, {"compile": True}):
        config = load_config(
            data={"source": "digits:train"}, backbone={"name": str(there), **options}, guidance={"name": "none"}
        )
        job = open_job(config, tmp_path / "d")
        record = job.record
        assert job.sampler.dtype == options.get("dtype", "fp32")
        assert {k: record["config"]["backbone"][k] for k in options} == options
        digests.append(record["digest"])
    assert digests[0] == digests[3]
    assert len(set(digests)) == 3


def test_a_set_is_distilled_in_half_precision(tmp_path: Any) -> None:
    command = ["distill", "digits:train", "--dtype", "bf16", "--ipc", "1", "--out", str(tmp_path / "d"), "--json"]
    more = ["--set", "sampling.steps=2", "--set", "guidance.reference_size=4"]
    done = CliRunner().invoke(app, [*command, *more])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["images"] == 10


def test_what_the_compiler_says_of_itself_is_no_warning_to_a_user() -> None:
    said = "TensorFloat32 tensor cores for float32 matrix multiplication available but not enabled."  # on an H100
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compile_blocks([])
        warnings.warn(said, stacklevel=1)
        with pytest.raises(UserWarning, match="another"):
            warnings.warn("another", stacklevel=1)
