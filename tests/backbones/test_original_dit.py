"""Original DiT checkpoints: what the converted model computes, forms of the file, what is refused, conversion."""

import json
import shutil
from argparse import Namespace
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from original_layout import State, original_output, original_state
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from dap import resolution
from dap.backbones import open_backbone
from dap.backbones.checkpoint import read_state
from dap.backbones.dit import DiTBackbone, time_embedding
from dap.backbones.original_dit import ARCHITECTURES, Architecture, class_names, to_diffusers
from dap.cli import app
from dap.data.imagenet import imagenet_index
from dap.errors import BackboneError, ConfigError
from dap.testing import check_backbone, save_tiny_dit, tiny_dit, tiny_latent_dit

ARCH = "DiT-T/2"
WIDTH, DEPTH = 16, 3
TOLERANCE = 5e-6  # of float32 against float64; a swap of any two parts gives more than 1e-4


@pytest.fixture(autouse=True)
def _tiny_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, ARCH, Architecture(DEPTH, WIDTH, 2, 2))
    monkeypatch.setitem(ARCHITECTURES, "DiT-T/4", Architecture(DEPTH, WIDTH, 2, 4))


def state_of(**options: Any) -> State:
    """An original state dict with random weights, none of them zero: latents 4 x 8 x 8, learned variance."""
    return original_state(
        tiny_dit(**{"channels": 4, "size": 8, "learned_variance": True, "vae": vae(), **options}).transformer
    )


def vae() -> Any:
    return tiny_latent_dit().vae


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """file(content) -> a checkpoint with names for its three classes beside it."""

    def write(content: Any, name: str = "DiT.pt") -> Path:
        torch.save(content, tmp_path / name)
        (tmp_path / "classes.txt").write_text("ant\nbee\ncat\n")
        return tmp_path / name

    return write


@pytest.fixture(scope="module")
def vae_directory(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_dit(tmp_path_factory.mktemp("vae") / "latents", tiny_latent_dit()) / "vae")


def computed(model: Any, x: Tensor, t: int, labels: list[int]) -> Tensor:
    with torch.no_grad():
        return model(x, timestep=torch.full((len(x),), t), class_labels=torch.tensor(labels)).sample.double()


def refused(state: State, arch: str | None = ARCH) -> str:
    with pytest.raises(BackboneError) as caught:
        to_diffusers(state, arch, "DiT.pt")
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what it computes -------------------------------------------------------------------------------------------------

X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
TIMES = (999, 500, 20, 0)


@pytest.mark.parametrize("learned", [True, False])
def test_the_converted_model_computes_the_original_equations(learned: bool) -> None:
    state = state_of(learned_variance=learned)
    model = to_diffusers(state, ARCH, "DiT.pt").eval()
    for t in TIMES:
        theirs = original_output(state, 2, X, t, [0, 3])  # 3 is the null class
        assert theirs.shape == (2, 8 if learned else 4, 8, 8)
        torch.testing.assert_close(computed(model, X, t, [0, 3]), theirs, rtol=0, atol=TOLERANCE)
        assert float(theirs.std()) > 0.05


def test_another_patch_size() -> None:
    from diffusers import DiTTransformer2DModel

    torch.manual_seed(0)
    small = DiTTransformer2DModel(2, 8, 4, 8, DEPTH, sample_size=16, patch_size=4, num_embeds_ada_norm=3)
    state, x = original_state(small), torch.randn(2, 4, 16, 16)
    model = to_diffusers(state, "DiT-T/4", "DiT.pt").eval()
    assert (model.config.sample_size, model.config.norm_eps) == (16, 1e-6)
    torch.testing.assert_close(
        computed(model, x, 700, [1, 2]), original_output(state, 2, x, 700, [1, 2]), rtol=0, atol=TOLERANCE
    )


def exchanged(state: State, name: str, a: int, b: int, of: int) -> State:
    """`state` with two of the `of` equal runs of rows of a layer exchanged."""
    changed = dict(state)
    for key in (k for k in state if k.startswith(name)):
        parts = list(state[key].chunk(of))
        parts[a], parts[b] = parts[b], parts[a]
        changed[key] = torch.cat(parts)
    return changed


def blocks_exchanged(state: State, a: int, b: int) -> State:
    names = {f"blocks.{a}.": f"blocks.{b}.", f"blocks.{b}.": f"blocks.{a}."}
    return {
        next((new + k[len(old) :] for old, new in names.items() if k.startswith(old)), k): v for k, v in state.items()
    }


def turned_patches(state: State) -> State:
    """Rows and columns inside each patch exchanged, on the way in."""
    return {**state, "x_embedder.proj.weight": state["x_embedder.proj.weight"].transpose(2, 3).contiguous()}


def turned_output(state: State) -> State:
    """The same on the way out."""
    kinds = {
        key: value.unflatten(0, (2, 2, 8)).transpose(0, 1).flatten(0, 2)
        for key, value in state.items()
        if key.startswith("final_layer.linear")
    }
    return {**state, **kinds}


SWAPS: dict[str, Callable[[State], State]] = {
    **{f"blocks {a} and {b}": lambda s, a=a, b=b: blocks_exchanged(s, a, b) for a, b in combinations(range(DEPTH), 2)},
    **{
        f"modulation {a} and {b} of block {n}": lambda s, n=n, a=a, b=b: exchanged(s, f"blocks.{n}.adaLN", a, b, 6)
        for n in range(DEPTH)
        for a, b in combinations(range(6), 2)
    },
    **{
        f"qkv {a} and {b}": lambda s, a=a, b=b: exchanged(s, "blocks.1.attn.qkv", a, b, 3)
        for a, b in combinations(range(3), 2)
    },
    "heads": lambda s: exchanged(s, "blocks.0.attn.qkv", 0, 1, 6),
    "shift and scale at the end": lambda s: exchanged(s, "final_layer.adaLN", 0, 1, 2),
    "pixels of a patch, in": turned_patches,
    "pixels of a patch, out": turned_output,
    "eps and variance": lambda s: exchanged(s, "final_layer.linear", 0, 1, 8),
    "time embedding": lambda s: exchanged(s, "t_embedder.mlp.2", 0, 1, 2),
    "labels": lambda s: exchanged(s, "y_embedder", 0, 3, 4),
}


@pytest.mark.parametrize("what", SWAPS)
def test_a_swap_of_any_two_parts_would_be_seen(what: str) -> None:
    """The comparison above has the power to see it: with a swap, eps is off by far more than its tolerance."""
    state = state_of()
    model = to_diffusers(SWAPS[what](state), ARCH, "DiT.pt").eval()
    off = max(
        float((computed(model, X, t, [0, 3]) - original_output(state, 2, X, t, [0, 3])).abs().max()) for t in TIMES
    )
    assert off > 1e-4


def test_diffusers_own_time_embedding_would_be_seen_too() -> None:
    state = state_of()
    model = to_diffusers(state, ARCH, "DiT.pt").eval()
    assert {b.norm1.emb.time_proj.downscale_freq_shift for b in model.transformer_blocks} == {0}
    for block in model.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 1
    assert float((computed(model, X, 500, [0, 3]) - original_output(state, 2, X, 500, [0, 3])).abs().max()) > 1e-4


# --- the file ---------------------------------------------------------------------------------------------------------


def test_ema_is_preferred_and_a_training_checkpoint_is_read(file: Any, vae_directory: str) -> None:
    ema, model = state_of(seed=1), state_of(seed=2)
    training = {"model": model, "ema": ema, "opt": {"state": {}}, "args": Namespace(model="DiT-T/2", lr=1e-4)}
    for content, expected in ((training, ema), ({"model": model}, model), (ema, ema)):
        backbone = open_backbone(str(file(content)), arch=ARCH, vae=vae_directory, device="cpu")
        theirs = original_output(expected, 2, X, 500, [0, 1])[:, :4]
        torch.testing.assert_close(
            backbone.predict(X, 500, torch.tensor([0, 1])).eps.double(), theirs, rtol=0, atol=TOLERANCE
        )


def test_a_checkpoint_is_a_backbone(file: Any, vae_directory: str) -> None:
    path = file(state_of())
    backbone = open_backbone(str(path), arch=ARCH, vae=vae_directory, device="cpu")
    check_backbone(backbone)
    assert (backbone.latent_shape, backbone.image_size, backbone.cfg_scale) == ((4, 8, 8), 16, 4.0)
    assert backbone.class_names == ("ant", "bee", "cat")
    assert backbone.learned_variance
    assert backbone.chain("ddpm", 5, 0.0, "learned").timesteps == (999, 749, 500, 250, 0)
    other = open_backbone(str(file(state_of(seed=1), "other.pt")), arch=ARCH, vae=vae_directory, device="cpu")
    assert other.weights_digest() != backbone.weights_digest()


def test_the_schedule_is_the_published_one(file: Any, vae_directory: str) -> None:
    """beta from 1e-4 to 0.02 in 1000 equal steps, nothing clipped."""
    backbone = open_backbone(str(file(state_of())), arch=ARCH, vae=vae_directory, device="cpu")
    expected = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    chain = backbone.chain("ddpm", 50, 0.0)
    torch.testing.assert_close(chain.alpha_bar.double(), expected, rtol=1e-4, atol=0)
    big = torch.full((1, 4, 8, 8), 5.0)
    assert float(chain.step(torch.zeros_like(big), 0, big, [torch.Generator()]).min()) > 4.9


def test_how_to_compute_reaches_the_model(file: Any, vae_directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda forward, **_: compiled.append(forward) or forward)
    how = {"dtype": "bf16", "compile": True, "vae_tiling": True}
    backbone = open_backbone(str(file(state_of())), arch=ARCH, vae=vae_directory, device="cpu", **how)
    assert isinstance(backbone, DiTBackbone)
    assert {p.dtype for p in backbone.transformer.parameters()} == {torch.bfloat16}
    assert len(compiled) == 1 + DEPTH
    asked: list[bool] = []
    monkeypatch.setattr(backbone.vae, "enable_tiling", lambda: asked.append(True))
    backbone.decode(torch.zeros(1, 4, 8, 8))
    assert asked == [True]


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_is_mapped_where_it_can_be(legacy: bool, file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training checkpoint of DiT-XL/2 has 10 GB, of which a quarter is wanted."""
    path, load, mapped = file({}), torch.load, []
    torch.save(state_of(), path, _use_new_zipfile_serialization=not legacy)
    monkeypatch.setattr(torch, "load", lambda *a, **k: (mapped.append(k["mmap"]), load(*a, **k))[1])
    assert "pos_embed" in read_state(path)[0]
    assert mapped == [not legacy]


def test_half_precision_weights_become_float32_and_the_file_may_go(file: Any) -> None:
    state = {key: value.half() for key, value in state_of().items()}
    path = file(state)
    backbone = open_backbone(
        str(path), arch=ARCH, vae=str(save_tiny_dit(path.parent / "l", tiny_latent_dit())), device="cpu"
    )
    assert isinstance(backbone, DiTBackbone)
    path.unlink()  # nothing is left in the file
    assert {p.dtype for p in backbone.transformer.parameters()} == {torch.float32}
    exact = {**state, "pos_embed": state_of()["pos_embed"]}  # the computed table, not its rounded copy
    off = computed(backbone.transformer, X, 3, [0, 1]) - original_output(exact, 2, X, 3, [0, 1])
    assert float(off.abs().max()) < TOLERANCE


def test_imagenets_classes_are_the_synset_strings_in_wnid_order(tmp_path: Path) -> None:
    names = class_names(tmp_path / "DiT.pt", 1000)
    assert len(names) == 1000
    assert (names[0], names[217], names[701]) == (
        "tench, Tinca tinca",
        "English springer, English springer spaniel",
        "parachute, chute",
    )
    assert imagenet_index("n02102040") == 217


def test_a_tensor_file_of_another_kind_is_refused(file: Any, tmp_path: Path) -> None:
    def said(path: Path, **options: Any) -> str:
        with pytest.raises((BackboneError, ConfigError)) as caught:
            open_backbone(str(path), device="cpu", **{"arch": ARCH, **options})
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no such file; get DiT-XL-2-256x256.pt" in said(tmp_path / "none.pt")
    for content in (b"", b"PK\x03\x04 half", b"\x80\x02garbage"):
        (tmp_path / "broken.pt").write_bytes(content)
        assert "runs no pickled code" in said(tmp_path / "broken.pt")
    assert "no state dict of tensors" in said(file([1, 2]))
    assert "no state dict of tensors" in said(file({"ema": {"a": 1}}))
    assert "no original DiT: it has no x_embedder.proj.weight; found a" in said(file({"a": torch.zeros(1)}))
    good = file(state_of())
    assert "works on 4 latent channels but has no VAE; name one: --vae DIR" in said(good)
    (tmp_path / "classes.txt").write_text("ant\n")
    assert "names 1 classes, the label table of" in said(
        good, vae=str(save_tiny_dit(tmp_path / "l", tiny_latent_dit()))
    )
    (tmp_path / "classes.txt").unlink()
    assert "has 3 classes besides the null one, and no names: write them into" in said(good)
    with pytest.raises(ConfigError, match=r"--arch DiT-T/2 belongs to an original DiT checkpoint"):
        open_backbone("digits", arch=ARCH)


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_pickle_is_never_executed(file: Any, tmp_path: Path) -> None:
    path = file({"ema": state_of(), "args": Bomb(tmp_path / "executed")})
    with pytest.raises(BackboneError, match="runs no pickled code"):
        open_backbone(str(path), arch=ARCH)
    assert not (tmp_path / "executed").exists()


# --- keys and shapes --------------------------------------------------------------------------------------------------


def test_every_missing_or_unexpected_key_is_named() -> None:
    whole = state_of()
    for key in whole:
        if key not in ("x_embedder.proj.weight",):
            assert key in refused({k: v for k, v in whole.items() if k != key})
    assert "it has no x_embedder.proj.weight" in refused({"pos_embed": whole["pos_embed"]})
    said = refused({**whole, "blocks.1.extra.weight": torch.zeros(1), "head.bias": torch.zeros(1)})
    assert "has unexpected blocks.1.extra.weight, head.bias" in said


def test_another_depth_width_or_patch_is_named_with_what_fits() -> None:
    state = state_of(depth=2)
    said = refused(state)
    assert said == "DiT.pt has 2 blocks, DiT-T/2 has 3; none of the published architectures is like that"
    said = refused(state_of(), "DiT-XL/2")
    assert said == "DiT.pt has 3 blocks, DiT-XL/2 has 28; use --arch DiT-T/2"
    assert "has 2 latents a token's side, DiT-T/4 has 4; use --arch DiT-T/2" in refused(state_of(), "DiT-T/4")
    assert "needs its architecture: use --arch DiT-T/2" in refused(state_of(), None)
    assert "unknown arch 'DiT-XL'; did you mean 'DiT-XL/" in refused(state_of(), "DiT-XL")
    shape = state_of()
    shape["blocks.2.mlp.fc1.weight"] = shape["blocks.2.mlp.fc1.weight"][:5]
    assert "blocks.2.mlp.fc1.weight gives (5, 16) for transformer_blocks.2.ff.net.0.proj.weight" in refused(shape)


def test_another_position_embedding_is_refused() -> None:
    state = state_of()
    turned = state["pos_embed"].unflatten(1, (4, 4)).transpose(1, 2).flatten(1, 2)
    assert "pos_embed differs by" in refused({**state, "pos_embed": turned})
    assert "pos_embed differs by" in refused({**state, "pos_embed": state["pos_embed"] * float("nan")})
    assert "not (1, 9, 16) for square images" in refused({**state, "pos_embed": state["pos_embed"][:, :10]})


def test_minimax_checkpoints_are_told_what_their_keys_are() -> None:
    state = state_of()
    for n in range(2):
        state |= {f"blocks.{n}.gamma1": torch.ones(WIDTH), f"blocks.{n}.gamma2": torch.ones(WIDTH)}
        state |= {f"blocks.{n}.attn.gamma1": torch.ones(3 * WIDTH), f"blocks.{n}.attn.gamma2": torch.ones(WIDTH)}
    said = refused(state)
    assert "has 8 DiffFit scales (blocks.0.attn.gamma1, ...)" in said
    assert "Minimax" in said


# --- as a user types it ---------------------------------------------------------------------------------------------


def test_every_option_reaches_the_backbone(
    file: Any, tmp_path: Path, vae_directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("my ants", "bee", "cat"):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(tmp_path / "images" / name / "0.png")
    (tmp_path / "map.csv").write_text("dataset_class,backbone_class\nmy ants,ant\n")
    made, opened = [], resolution.open_backbone
    monkeypatch.setattr(resolution, "open_backbone", lambda *a, **k: made.append(opened(*a, **k)) or made[0])
    compiled: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda forward, **_: compiled.append(forward) or forward)
    words = ["distill", str(tmp_path / "images"), "--backbone", str(file(state_of())), "--arch", ARCH]
    words += ["--vae", vae_directory, "--class-map", str(tmp_path / "map.csv"), "--dtype", "bf16", "--compile"]
    words += ["--ipc", "1", "--device", "cpu", "--guidance", "none", "--out", str(tmp_path / "d")]
    words += ["--set", "sampling.steps=1", "--set", "backbone.vae_tiling=true"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    (backbone,) = made
    assert {p.dtype for p in backbone.transformer.parameters()} == {torch.bfloat16}
    assert len(compiled) == 1 + DEPTH
    assert backbone._tiling is True
    record = json.loads((tmp_path / "d" / "config.json").read_text())
    assert record["determines"]["backbone"]["classes"] == [1, 2, 0]  # bee, cat, my ants
    said = {"arch": ARCH, "vae": vae_directory, "dtype": "bf16", "compile": True, "vae_tiling": True}
    assert {key: record["config"]["backbone"][key] for key in said} == said
    assert record["config"]["backbone"]["time_embedding"] == "original"


# --- conversion -------------------------------------------------------------------------------------------------------


def convert(path: Path, out: Path, *more: str) -> Any:
    return CliRunner().invoke(app, ["convert", str(path), "--arch", ARCH, "--out", str(out), *more])


def test_the_converted_directory_is_the_same_backbone(file: Any, tmp_path: Path, vae_directory: str) -> None:
    path, out = file({"ema": state_of()}), tmp_path / "dit"
    done = convert(path, out, "--vae", vae_directory, "--json")
    assert done.exit_code == 0, done.output
    assert "plain diffusers computes another time embedding" in " ".join(done.stderr.split())
    record = json.loads(done.stdout)
    assert {k: record[k] for k in ("arch", "state", "classes", "latent_shape", "time_embedding", "vae")} == {
        "arch": ARCH,
        "state": "ema",
        "classes": 3,
        "latent_shape": [4, 8, 8],
        "time_embedding": "original",
        "vae": True,
    }
    about = json.loads((out / "dap.json").read_text())
    assert about["time_embedding"] == "original"
    assert about["converted"]["file"] == "DiT.pt"
    one = open_backbone(str(path), arch=ARCH, vae=vae_directory, device="cpu")
    two = open_backbone(str(out), device="cpu")
    for t in TIMES:
        a, b = (backbone.predict(X, t, torch.tensor([0, 2])) for backbone in (one, two))
        assert torch.equal(a.eps, b.eps)
        assert torch.equal(a.variance, b.variance)
    assert (one.class_names, one.cfg_scale, one.default_tap) == (two.class_names, two.cfg_scale, two.default_tap)
    assert not list(tmp_path.glob(".dap-*"))


def test_plain_diffusers_loads_it_with_its_own_time_embedding(file: Any, tmp_path: Path, vae_directory: str) -> None:
    from diffusers import DiTPipeline

    assert convert(file(state_of()), tmp_path / "dit", "--vae", vae_directory, "-q").exit_code == 0
    pipe = DiTPipeline.from_pretrained(str(tmp_path / "dit"))
    ours = open_backbone(str(tmp_path / "dit"), device="cpu")
    assert isinstance(ours, DiTBackbone)
    assert time_embedding(pipe.transformer) == "diffusers"
    assert time_embedding(ours.transformer) == "original"
    off = computed(pipe.transformer, X, 500, [0, 1]) - computed(ours.transformer, X, 500, [0, 1])
    assert float(off.abs().max()) > 1e-4  # what the command warns of


def test_the_time_embedding_is_part_of_the_digest_and_a_strange_one_is_refused(
    file: Any, tmp_path: Path, vae_directory: str
) -> None:
    out = tmp_path / "dit"
    assert convert(file(state_of()), out, "--vae", vae_directory, "-q").exit_code == 0
    digest = open_backbone(str(out), device="cpu").weights_digest()
    about = json.loads((out / "dap.json").read_text())
    (out / "dap.json").write_text(json.dumps({k: v for k, v in about.items() if k != "time_embedding"}))
    assert open_backbone(str(out), device="cpu").weights_digest() != digest
    (out / "dap.json").write_text(json.dumps({**about, "time_embedding": "orginal"}))
    with pytest.raises(BackboneError, match=r"unknown time_embedding 'orginal'; did you mean 'original'"):
        open_backbone(str(out), device="cpu")


def test_saving_it_again_keeps_the_time_embedding(file: Any, tmp_path: Path, vae_directory: str) -> None:
    assert convert(file(state_of()), tmp_path / "dit", "--vae", vae_directory, "-q").exit_code == 0
    backbone = open_backbone(str(tmp_path / "dit"), device="cpu")
    assert isinstance(backbone, DiTBackbone)
    again = save_tiny_dit(tmp_path / "again", backbone)  # as dap train saves what it has fine-tuned
    back = open_backbone(str(again), device="cpu")
    assert torch.equal(back.predict(X, 5, torch.tensor([0, 1])).eps, backbone.predict(X, 5, torch.tensor([0, 1])).eps)


def test_without_a_vae_it_needs_one_later(file: Any, tmp_path: Path, vae_directory: str) -> None:
    done = convert(file(state_of()), tmp_path / "dit")
    assert "name one when you use it: --vae DIR" in " ".join(done.stderr.split())
    with pytest.raises(BackboneError, match="has no VAE; name one: --vae DIR"):
        open_backbone(str(tmp_path / "dit"))
    assert open_backbone(str(tmp_path / "dit"), vae=vae_directory, device="cpu").image_size == 16


def test_conversion_into_the_directory_one_stands_in(
    file: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vae_directory: str
) -> None:
    path = file(state_of())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    done = convert(path, Path("."), "--vae", vae_directory)
    assert done.exit_code == 0, done.output
    assert (Path.cwd() / "model_index.json").exists()  # it is still the same directory
    assert open_backbone(str(tmp_path / "here"), device="cpu").class_names == ("ant", "bee", "cat")
    assert not list(tmp_path.rglob(".dap-*"))
    assert "exists already" in convert(path, Path(".")).stderr


def test_conversion_refuses_in_one_line_and_leaves_nothing(file: Any, tmp_path: Path, vae_directory: str) -> None:
    path = file(state_of())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    done = convert(path, tmp_path / "full")
    assert (done.exit_code, "exists already; choose another --out" in done.stderr) == (1, True)
    three = file(original_state(tiny_dit(channels=3, size=8).transformer), "three.pt")
    done = convert(three, tmp_path / "new", "--vae", vae_directory)
    assert done.exit_code == 1
    assert "works on 3 channels, its VAE gives 4; use its own VAE" in " ".join(done.stderr.split())
    assert not (tmp_path / "new").exists()
    shutil.rmtree(tmp_path / "full")
    assert {p.name for p in tmp_path.iterdir()} == {"DiT.pt", "three.pt", "classes.txt"}
