"""Stable Diffusion directories as they are published: old keys, pickles, fp16, parts missing, damaged or swapped."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load, save_file
from torch import Tensor

from dap.backbones import open_backbone, read_prompts
from dap.errors import BackboneError, ConfigError
from dap.testing import (
    check_backbone,
    save_tiny_dit,
    save_tiny_stable_diffusion,
    tiny_latent_dit,
    tiny_stable_diffusion,
)

NAMES = ("ant", "bee", "cat")
UNET, VAE = "unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model"
TEXT = "text_encoder/model"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_stable_diffusion(tmp_path_factory.mktemp("sd") / "tiny")


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Callable[[], Path]:
    return lambda: Path(shutil.copytree(saved, tmp_path / "copy"))


def opened(directory: Path, **options: Any) -> Any:
    return open_backbone(str(directory), device="cpu", prompts=read_prompts(NAMES), **options)


def load_file(path: str | Path) -> dict[str, Tensor]:
    return load(Path(path).read_bytes())  # safetensors' own maps the file, which these tests overwrite


def refused(directory: Path, **options: Any) -> str:
    with pytest.raises(BackboneError) as caught:
        opened(directory, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def equal(one: Any, other: Any) -> bool:
    """The same eps, latents and images."""
    draw = torch.Generator().manual_seed(0)
    x, images = torch.randn(2, 4, 8, 8, generator=draw), torch.rand(2, 3, 16, 16, generator=draw)
    eps = [b.predict(x, 300, b.condition([0, 2])).eps for b in (one, other)]
    latents = [b.encode(images) for b in (one, other)]
    return all(torch.equal(*pair) for pair in (eps, latents, [b.decode(latents[0]) for b in (one, other)]))


# --- as published -----------------------------------------------------------------------------------------------------


def test_a_published_directory_comes_back_as_it_was(saved: Path, capfd: Any) -> None:
    assert "CLIPFeatureExtractor" in (saved / "model_index.json").read_text()  # gone from transformers 5
    assert "text_model.embeddings.position_ids" in load_file(f"{saved / TEXT}.safetensors")
    assert "encoder.mid_block.attentions.0.query.weight" in load_file(f"{saved / VAE}.safetensors")
    back = opened(saved)
    check_backbone(back)
    assert equal(back, tiny_stable_diffusion(NAMES))
    assert not equal(back, tiny_stable_diffusion(NAMES, seed=1))
    assert (back.name, back.cfg_scale) == (str(saved), 7.5)
    assert capfd.readouterr() == ("", "")  # no progress bars, no advice


def test_weights_in_pickles_are_read(saved: Path, tmp_path: Path) -> None:
    there = save_tiny_stable_diffusion(tmp_path / "pickles", pickles=True)
    assert not list(there.glob("*/*.safetensors"))
    back = opened(there)
    assert equal(back, opened(saved))
    assert back.weights_digest() != opened(saved).weights_digest()  # of files, not of numbers


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    "weights",
    ["unet/diffusion_pytorch_model.bin", "vae/diffusion_pytorch_model.bin", "text_encoder/pytorch_model.bin"],
)
def test_a_pickle_is_never_executed(weights: str, tmp_path: Path) -> None:
    there, fuse = save_tiny_stable_diffusion(tmp_path / "pickles", pickles=True), tmp_path / "executed"
    state = torch.load(there / weights, weights_only=True)
    torch.save({**state, "more": Bomb(fuse)}, there / weights)
    assert "cannot load" in refused(there)
    assert not fuse.exists()


def test_half_precision_files_are_read_when_there_are_no_others(copy: Any) -> None:
    there = copy()
    digest = opened(there).weights_digest()
    for weights in (UNET, VAE, TEXT):
        state = {
            k: v.half() if v.is_floating_point() else v for k, v in load_file(f"{there / weights}.safetensors").items()
        }
        save_file(state, f"{there / weights}.fp16.safetensors", metadata={"format": "pt"})
    assert opened(there).weights_digest() == digest  # not loaded, not named
    for weights in (UNET, VAE, TEXT):
        Path(f"{there / weights}.safetensors").unlink()
    back = opened(there)
    assert {p.dtype for m in (back.unet, back.vae, back.text_encoder) for p in m.parameters()} == {torch.float32}
    x = torch.randn(1, 4, 8, 8)
    one, other = (b.predict(x, 300, b.condition([0])).eps for b in (back, tiny_stable_diffusion(NAMES)))
    assert 0 < float((one - other).abs().max()) < 0.02


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_weights_in_shards_are_read(variant: str | None, saved: Path, copy: Any) -> None:
    there, whole = copy(), opened(saved)
    for part, model in (("unet", whole.unet), ("vae", whole.vae), ("text_encoder", whole.text_encoder)):
        for file in (there / part).glob("*.safetensors"):
            file.unlink()
        model.save_pretrained(there / part, max_shard_size="20KB", variant=variant)
        assert len(list((there / part).glob("*-of-*.safetensors"))) > 1
    back = opened(there)
    assert equal(back, whole)
    digest = back.weights_digest()
    shard = sorted((there / "unet").glob("*-of-*.safetensors"))[-1]
    save_file({k: v + 0.01 for k, v in load_file(shard).items()}, shard, metadata={"format": "pt"})
    assert opened(there).weights_digest() != digest
    shard.unlink()
    assert f"{shard.name} is missing; copy it there" in refused(there)


def test_the_digest_names_weights_words_and_schedule(copy: Any) -> None:
    there = copy()
    digests = [opened(there).weights_digest()]
    for weights in (UNET, VAE, TEXT):
        path = Path(f"{there / weights}.safetensors")
        state = load_file(path)
        key = next(k for k, v in state.items() if v.is_floating_point())
        save_file({**state, key: state[key] + 0.01}, path, metadata={"format": "pt"})
        digests.append(opened(there).weights_digest())
    settings = {"scheduler/scheduler_config.json": {"beta_end": 0.013}, "vae/config.json": {"scaling_factor": 0.2}}
    settings |= {"unet/config.json": {"norm_eps": 1e-4}, "text_encoder/config.json": {"hidden_act": "gelu"}}
    for name, changes in settings.items():
        edit(there / name, **changes)
        digests.append(opened(there).weights_digest())
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        edit(there / "tokenizer" / name, pad_token="!</w>")
        digests.append(opened(there).weights_digest())
    assert len(set(digests)) == len(digests)


def test_it_opens_in_another_precision_with_tiles_and_compiled(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, half = opened(saved), opened(saved, dtype="bf16")
    assert half.unet.dtype == torch.bfloat16
    assert half.vae.dtype == half.text_encoder.dtype == torch.float32
    assert half.weights_digest() == plain.weights_digest()
    asked: list[bool] = []
    tiled = opened(saved, vae_tiling=True)
    monkeypatch.setattr(tiled.vae, "enable_tiling", lambda: asked.append(True))
    tiled.decode(torch.zeros(1, 4, 8, 8))
    assert asked == [True]
    blocks: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda forward, **_: blocks.append(forward) or forward)
    opened(saved, compile=True)
    assert len(blocks) == 1 + 5  # one to try the compiler out


def test_another_vae_may_be_named(saved: Path, tmp_path: Path) -> None:
    other = save_tiny_stable_diffusion(tmp_path / "other", tiny_stable_diffusion(seed=1))
    for vae in (other, other / "vae"):
        back = opened(saved, vae=str(vae))
        images = torch.rand(1, 3, 16, 16)
        assert torch.equal(back.encode(images), opened(other).encode(images))
    assert "holds a UNet2DConditionModel, not an AutoencoderKL" in refused(saved, vae=str(saved / "unet"))
    (tmp_path / "index").mkdir()
    shutil.copy(saved / "model_index.json", tmp_path / "index")
    assert f"{tmp_path / 'index'} has neither config.json nor vae/; name a VAE's directory" in refused(
        saved, vae=str(tmp_path / "index")
    )
    three = save_tiny_stable_diffusion(tmp_path / "three")
    edit(three / "unet" / "config.json", in_channels=3, out_channels=3)
    assert "weights missing, unexpected or of another shape" in refused(three) or "cannot load" in refused(three)


def test_a_vae_of_other_channels_is_refused(saved: Path, tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    AutoencoderKL(norm_num_groups=4, block_out_channels=(8,), latent_channels=16).save_pretrained(tmp_path / "vae")
    assert "works on 4 channels, its VAE gives 16; use its own VAE" in refused(saved, vae=str(tmp_path / "vae"))


# --- not usable -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    ["StableDiffusionXLPipeline", "StableDiffusionInpaintPipeline", "StableDiffusion3Pipeline", "LatentConsistency"],
)
def test_another_pipeline_is_refused_by_name(kind: str, copy: Any) -> None:
    there = copy()
    edit(there / "model_index.json", _class_name=kind)
    said = refused(there)
    assert f"is a {kind}; dap knows DiTPipeline and StableDiffusionPipeline" in said
    assert said.endswith("give one of these, e.g. --backbone facebook/DiT-XL-2-256")


def test_a_part_of_another_kind_is_refused_by_name(copy: Any) -> None:
    there = copy()
    edit(there / "model_index.json", text_encoder=["transformers", "XLMRobertaModel"])
    assert "its text_encoder is a XLMRobertaModel; of Stable Diffusion 1.x and 2.x it is a CLIPTextModel" in refused(
        there
    )
    edit(
        there / "model_index.json", text_encoder=["transformers", "CLIPTextModel"], tokenizer=["x", "CLIPTokenizerFast"]
    )
    opened(there)


def test_what_is_no_pipeline(tmp_path: Path) -> None:
    (tmp_path / "v1-5-pruned.ckpt").write_bytes(b"x")
    said = refused(tmp_path)
    assert "is not a diffusers pipeline: no model_index.json; found v1-5-pruned.ckpt" in said
    assert said.endswith("give a pipeline's directory, or a hub id like facebook/DiT-XL-2-256")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_single_file_of_stable_diffusion_is_told_what_to_give_instead(legacy: bool, tmp_path: Path) -> None:
    """The published ones hold a trainer's objects besides, which `weights_only` refuses to read."""
    state = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(2), "cond_stage_model.x": torch.zeros(1)}
    content = {"callbacks": Bomb(tmp_path / "executed"), "state_dict": state}
    torch.save(content, tmp_path / "v1-5-pruned.ckpt", _use_new_zipfile_serialization=not legacy)
    said = refused(tmp_path / "v1-5-pruned.ckpt")
    assert "is a Stable Diffusion single file; give the diffusers directory or hub id" in said
    assert not (tmp_path / "executed").exists()
    (tmp_path / "v1-5.safetensors").write_bytes(b"x")
    assert "is a single file of weights; give a diffusers directory" in refused(tmp_path / "v1-5.safetensors")


def test_a_part_of_a_pipeline_is_told_to_give_its_parent(saved: Path, tmp_path: Path) -> None:
    said = refused(saved / "unet")
    assert f"holds a UNet2DConditionModel, one part of a pipeline; give its parent: --backbone {saved}" in said
    vae = shutil.copytree(saved / "vae", tmp_path / "vae")
    assert "AutoencoderKL, one part of a pipeline; give its parent: --backbone a pipeline's directory" in refused(vae)
    assert "and this one by --vae" in refused(vae)


@pytest.mark.parametrize("kind", [["a"], {"a": 1}, 3, None])
def test_a_class_name_that_is_none_is_refused(kind: Any, copy: Any) -> None:
    there = copy()
    edit(there / "model_index.json", _class_name=kind)
    assert "is a pipeline of no class; dap knows" in refused(there)
    edit(there / "model_index.json", _class_name="StableDiffusionPipeline", unet=kind, text_encoder={"a": 1})
    if not isinstance(kind, list):
        opened(there)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_named(part: str, copy: Any) -> None:
    there = copy()
    shutil.rmtree(there / part)
    assert str(there / part) in refused(there)


@pytest.mark.parametrize(
    "file", ["tokenizer/vocab.json", "tokenizer/merges.txt", f"{UNET}.safetensors", f"{TEXT}.safetensors"]
)
def test_a_missing_file_is_named(file: str, copy: Any) -> None:
    there = copy()
    (there / file).unlink()
    said = refused(there)
    assert str(Path(file).parent) in said
    assert Path(file).name in said
    assert "fetch the pipeline again" in said


@pytest.mark.parametrize("weights", [UNET, VAE, TEXT])
def test_damaged_and_incomplete_weights(weights: str, copy: Any) -> None:
    there = copy()
    path = Path(f"{there / weights}.safetensors")
    whole, state = path.read_bytes(), load_file(path)
    for content in (b"", whole[: len(whole) // 2], b"\xff" * 100):
        path.write_bytes(content)
        said = refused(there)
        assert str(path.parent) in said
        assert "damaged" in said
    key = next(k for k, v in sorted(state.items()) if v.dim() == 2 and v.is_floating_point())
    for wrong in ({k: v for k, v in state.items() if k != key}, {**state, key: torch.zeros(3, 5)}):
        save_file(wrong, path, metadata={"format": "pt"})
        assert str(path.parent) in refused(there)
    save_file({**state, "more": torch.zeros(1)}, path, metadata={"format": "pt"})
    assert "more" in refused(there)
    path.write_bytes(whole)
    for config in ("unet", "vae", "text_encoder"):
        (there / config / "config.json").rename(there / config / "away")
        assert str(there / config) in refused(there)
        (there / config / "away").rename(there / config / "config.json")
    opened(there)


def test_a_damaged_tokenizer(copy: Any) -> None:
    there = copy()
    (there / "tokenizer" / "vocab.json").write_text('{"a": ')
    assert str(there / "tokenizer") in refused(there)
    edit_vocab = {f"token{k}": k for k in range(900)}
    (there / "tokenizer" / "vocab.json").write_text(json.dumps(edit_vocab))
    assert "the text encoder knows 514" in refused(there)


# --- prompts and classes ----------------------------------------------------------------------------------------------


def test_without_prompts_it_says_what_to_give(saved: Path) -> None:
    with pytest.raises(BackboneError, match=r"is a text-to-image model and has no classes of its own; give prompts="):
        open_backbone(str(saved), device="cpu")


def test_a_dit_has_no_use_for_prompts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"DiT.pt is told classes, not text"):
        open_backbone("DiT.pt", arch="DiT-XL/2", device="cpu", prompts=read_prompts(NAMES, "a {name}"))
    there = save_tiny_dit(tmp_path / "dit", tiny_latent_dit())
    open_backbone(str(there), device="cpu", prompts=read_prompts(NAMES))
    for chosen in ({"template": "a {name}"}, {"negative": "blurry"}):
        with pytest.raises(ConfigError, match=r"is told classes, not text; leave out backbone.prompt"):
            open_backbone(str(there), device="cpu", prompts=read_prompts(NAMES, **chosen))


# --- from the hub -----------------------------------------------------------------------------------------------------


class Hub:
    """A repository `owner/sd` and what `snapshot_download` fetches of it."""

    def __init__(self, root: Path, cache: Path) -> None:
        self.root, self.cache = root, cache

    def files(self, of: Path) -> set[str]:
        return {path.relative_to(of).as_posix() for path in of.rglob("*") if path.is_file()}

    def snapshot_download(self, name: str, **patterns: Any) -> str:
        from huggingface_hub.utils import filter_repo_objects

        assert name == "owner/sd"
        for file in filter_repo_objects(self.files(self.root), **patterns):
            (self.cache / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.root / file, self.cache / file)
        return str(self.cache)


@pytest.mark.parametrize("pickles", [False, True])
@pytest.mark.parametrize("parts", [("unet",), ("unet", "vae", "text_encoder")])
def test_a_hub_id_that_has_only_fp16_files_is_read_all_the_same(
    parts: tuple[str, ...], pickles: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = save_tiny_stable_diffusion(tmp_path / "hub", pickles=pickles)
    for part in parts:
        for file in [*(root / part).glob("*.bin"), *(root / part).glob("*.safetensors")]:
            file.rename(file.with_suffix(f".fp16{file.suffix}"))
    (root / "safety_checker").mkdir()
    (root / "safety_checker" / "model.fp16.safetensors").write_text("x")
    (root / "unet" / "diffusion_pytorch_model.non_ema.bin").write_text("x")
    hub = Hub(root, tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    assert equal(open_backbone("owner/sd", device="cpu", prompts=read_prompts(NAMES)), tiny_stable_diffusion(NAMES))
    unwanted = {"safety_checker/model.fp16.safetensors", "unet/diffusion_pytorch_model.non_ema.bin"}
    assert hub.files(hub.cache) == hub.files(root) - unwanted


@pytest.mark.parametrize("pickles", [False, True])
def test_a_hub_id_fetches_what_is_loaded_and_no_more(
    pickles: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = save_tiny_stable_diffusion(tmp_path / "hub", pickles=pickles)
    extra = ["safety_checker/config.json", "safety_checker/model.safetensors", "safety_checker/pytorch_model.bin"]
    extra += ["unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.non_ema.safetensors"] * (
        not pickles
    )
    extra += [
        "unet/diffusion_pytorch_model.non_ema.bin",
        "v1-5-pruned.ckpt",
        "feature_extractor/preprocessor_config.json",
    ]
    for name in extra:
        (hub / name).parent.mkdir(exist_ok=True)
        (hub / name).write_text("x")
    there = Hub(hub, tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", there.snapshot_download)
    assert equal(open_backbone("owner/sd", device="cpu", prompts=read_prompts(NAMES)), opened(hub))
    assert there.files(there.cache) == there.files(hub) - set(extra)
