"""DiT pipelines: in memory, on disk, damaged, incomplete, malicious."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dap.backbones import default_micro_batch, open_backbone, pick_device
from dap.backbones.dit import DiTBackbone
from dap.errors import BackboneError, ConfigError
from dap.testing import check_backbone, save_tiny_dit, tiny_dit, tiny_latent_dit
from dap.types import Prediction

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("dit")
    pixels = tiny_dit(class_names=("a b", "ü/c", "d"))
    return {
        "pixels": save_tiny_dit(root / "pixels", pixels, cfg_scale=1.5, tap="block.2"),
        "latents": save_tiny_dit(root / "latents", tiny_latent_dit()),
    }


@pytest.fixture
def copy(saved: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    return lambda which="pixels": Path(shutil.copytree(saved[which], tmp_path / which))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(directory: Path | str, **options: Any) -> str:
    with pytest.raises(BackboneError) as caught:
        open_backbone(str(directory), device="cpu", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- round trip -------------------------------------------------------------------------------------------------------


def test_a_saved_pipeline_comes_back_as_it_was(saved: dict[str, Path]) -> None:
    here, back = tiny_dit(class_names=("a b", "ü/c", "d")), open_backbone(str(saved["pixels"]), device="cpu")
    assert back.class_names == here.class_names
    assert (back.latent_shape, back.image_size, back.image_mode) == ((1, 8, 8), 8, "L")
    assert (back.cfg_scale, back.default_tap, back.name) == (1.5, "block.2", str(saved["pixels"]))
    x, condition = torch.randn(2, 1, 8, 8), here.condition([0, 2])
    assert torch.equal(here.predict(x, 300, condition).eps, back.predict(x, 300, condition).eps)
    for scheduler in ("ddpm", "ddim"):
        assert here.chain(scheduler, 7, 0.0).timesteps == back.chain(scheduler, 7, 0.0).timesteps
    one, other = (b.chain("ddim", 4, 0.0).step(x, 500, x, [torch.Generator()] * 2) for b in (here, back))
    assert torch.equal(one, other)


def test_a_saved_latent_pipeline_brings_its_vae(saved: dict[str, Path]) -> None:
    here, back = tiny_latent_dit(), open_backbone(str(saved["latents"]), device="cpu")
    assert isinstance(back, DiTBackbone)
    assert (back.latent_shape, back.image_size, back.image_mode) == ((4, 4, 4), 8, "RGB")
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(here.encode(images), back.encode(images))
    assert torch.equal(here.decode(here.encode(images)), back.decode(back.encode(images)))
    check_backbone(back)


def test_the_digest_names_the_weights(saved: dict[str, Path], copy: Any) -> None:
    digest = open_backbone(str(saved["pixels"])).weights_digest()
    assert open_backbone(str(copy())).weights_digest() == digest  # and not the place
    assert tiny_dit(seed=1).weights_digest() != tiny_dit(seed=2).weights_digest() == tiny_dit(seed=2).weights_digest()
    other = save_tiny_dit(copy("latents"), tiny_latent_dit(seed=1))
    assert open_backbone(str(other)).weights_digest() != open_backbone(str(saved["latents"])).weights_digest()


def test_the_digest_names_what_is_loaded_and_nothing_beside_it(copy: Any) -> None:
    from safetensors.torch import load_file

    there = copy("latents")
    digest = open_backbone(str(there), device="cpu").weights_digest()
    for part in ("transformer", "vae"):
        torch.save(load_file(there / part / WEIGHTS), there / part / "diffusion_pytorch_model.bin")
        shutil.copy(there / part / WEIGHTS, there / part / "diffusion_pytorch_model.non_ema.safetensors")
        (there / part / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"another")
    assert open_backbone(str(there), device="cpu").weights_digest() == digest


def test_a_directory_of_fp16_files_alone_is_read(copy: Any) -> None:
    from safetensors.torch import load_file, save_file

    there, x = copy("latents"), torch.randn(1, 4, 4, 4)
    whole = open_backbone(str(there), device="cpu")
    digest = whole.weights_digest()
    for part in ("transformer", "vae"):
        state = {key: value.half() for key, value in load_file(there / part / WEIGHTS).items()}
        save_file(state, there / part / "diffusion_pytorch_model.fp16.safetensors", metadata={"format": "pt"})
        (there / part / WEIGHTS).unlink()
    back = open_backbone(str(there), device="cpu")
    assert isinstance(back, DiTBackbone)
    assert {p.dtype for p in (*back.transformer.parameters(), *back.vae.parameters())} == {torch.float32}
    one, other = (b.predict(x, 500, b.condition([1])).eps for b in (whole, back))
    assert 0 < float((one - other).abs().max()) < 0.05
    assert back.weights_digest() != digest


def test_half_precision_weights_compute_in_float32(copy: Any) -> None:
    from dap.train.model import save_pipeline

    there, backbone = copy(), tiny_dit(class_names=("a", "b"))
    save_pipeline(there, backbone.transformer, backbone.class_names, record={}, dtype=torch.float16)
    assert next(backbone.transformer.parameters()).dtype == torch.float32  # the model in memory is left as it was
    full = save_tiny_dit(there / "full", backbone) / "transformer" / WEIGHTS
    assert (there / "transformer" / WEIGHTS).stat().st_size < 0.6 * full.stat().st_size
    back = open_backbone(str(there), device="cpu")
    assert {p.dtype for p in back.transformer.parameters()} == {torch.float32}
    x = torch.randn(1, 1, 8, 8)
    one, other = (b.predict(x, 500, b.condition([1])).eps for b in (back, backbone))
    assert 0 < float((one - other).abs().max()) < 0.05


# --- what it computes -------------------------------------------------------------------------------------------------


def test_learned_variance_channels_are_dropped() -> None:
    backbone = tiny_dit(channels=3, learned_variance=True)
    x, condition = torch.randn(2, 3, 8, 8), backbone.condition([0, 1])
    full = backbone.transformer(x, timestep=torch.full((2,), 500), class_labels=condition).sample
    assert full.shape == (2, 6, 8, 8)
    assert torch.equal(backbone.predict(x, 500, condition).eps, full[:, :3])
    assert torch.equal(backbone.predict(x, 500, condition, "block.0").eps, full[:, :3])


def test_pixels_are_scaled_to_minus_one_and_one_and_back() -> None:
    backbone, images = tiny_dit(), torch.rand(3, 1, 8, 8)
    x = backbone.encode(images)
    torch.testing.assert_close(x, images * 2 - 1)
    torch.testing.assert_close(backbone.decode(x), images)
    assert torch.equal(backbone.decode(torch.full_like(x, 9.0)), torch.ones_like(x))


def test_a_vae_gives_the_mode_scaled() -> None:
    backbone, images = tiny_latent_dit(), torch.rand(2, 3, 8, 8)
    mode = backbone.vae.encode(images * 2 - 1).latent_dist.mode()
    torch.testing.assert_close(backbone.encode(images), 0.5 * mode)
    assert torch.equal(backbone.encode(images), backbone.encode(images))


def test_images_are_encoded_one_by_one() -> None:
    """A GPU sees 200 real images at once, and a VAE's activations at 256 px are 170 MB an image."""
    backbone, images, rows = tiny_latent_dit(), torch.rand(3, 3, 8, 8), []
    backbone.vae.encoder.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    together = backbone.encode(images)
    assert rows == [1, 1, 1]
    assert torch.equal(together[:1], backbone.encode(images[:1]))


def test_the_null_row_is_the_one_behind_the_last_class() -> None:
    for classes in (2, 10):
        backbone = tiny_dit(classes)
        assert backbone.null_condition(3).tolist() == [classes] * 3
        assert backbone.condition([1, 0]).tolist() == [1, 0]


def test_taps_are_the_blocks_and_the_default_is_early() -> None:
    assert tiny_dit(depth=3).taps() == ("block.0", "block.1", "block.2")
    assert tiny_dit(depth=28).default_tap == "block.8"  # the middle of what the paper found best for DiT-XL/2
    assert tiny_dit(depth=1).default_tap == "block.0"
    backbone = tiny_dit(depth=12)
    with pytest.raises(BackboneError, match=r"unknown tap .*'block.12'; did you mean 'block.\d+'.*Known: block.0, "):
        backbone.tap_features(torch.zeros(1, 1, 8, 8), 0, backbone.condition([0]), "block.12")
    whole = tiny_dit(depth=28, width=4)
    with pytest.raises(BackboneError, match=re.escape(f"Known: {', '.join(whole.taps())}") + "$"):  # in their order
        whole.predict(torch.zeros(1, 1, 8, 8), 0, whole.condition([0]), "block.28")


def test_the_default_micro_batch_depends_on_the_model_alone() -> None:
    assert default_micro_batch(tiny_dit()) == 50
    backbone = tiny_dit()
    for cost, expected in ((256 * 1152, 3), (2**20, 1), (2**30, 1)):  # DiT-XL/2 at 256 px; larger ones
        backbone.row_cost = cost
        assert default_micro_batch(backbone) == expected


class Broken(DiTBackbone):
    """A DiT that breaks the contract in one way."""

    def __init__(self, how: str) -> None:
        whole = tiny_dit()
        super().__init__(whole.transformer, whole.schedule, whole.class_names)
        self.how = how
        if how == "trainable":
            self.transformer.requires_grad_(True)
        if how == "tap":
            self.default_tap = "block.7"

    def null_condition(self, rows: int) -> torch.Tensor:
        return self.condition([0] * rows) if self.how == "null" else super().null_condition(rows)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return latents if self.how == "range" else super().decode(latents)

    def predict(self, x: torch.Tensor, t: int, condition: torch.Tensor, tap: str | None = None) -> Prediction:
        given = super().predict(x, t, condition, tap)
        if self.how == "graph":
            return Prediction(self._output(x, t, condition), given.features)
        if self.how == "other eps" and tap:
            return Prediction(given.eps + 1e-4, given.features)
        if self.how == "detached" and given.features is not None:
            return Prediction(given.eps, given.features.detach())
        return given

    def tap_features(self, x: torch.Tensor, t: int, condition: torch.Tensor, tap: str) -> torch.Tensor:
        if self.how == "state":
            torch.set_grad_enabled(not torch.is_grad_enabled())
        return super().tap_features(x, t, condition, tap) * (2 if self.how == "other features" else 1)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("trainable", "tensors besides x: freeze the weights"),
        ("tap", "default_tap 'block.7' is not one of taps"),
        ("null", "the null condition gives the same eps as a class"),
        ("range", "decode leaves"),
        ("graph", "eps has a graph"),
        ("other eps", "is not eps without"),
        ("detached", "does not reach x"),
        ("other features", "are not the features that predict gives"),
        ("state", "autograd switched"),
    ],
)
def test_the_check_finds_a_backbone_that_breaks_its_contract(how: str, said: str) -> None:
    with torch.enable_grad(), pytest.raises(AssertionError, match=said):
        check_backbone(Broken(how))
    torch.set_grad_enabled(True)


# --- parts that do not fit --------------------------------------------------------------------------------------------


def test_class_names_and_label_table_must_agree(copy: Any) -> None:
    there = copy()
    edit(there / "dap.json", class_names=["a", "b"])
    assert "2 class names for a label table of 3 classes" in refused(there)
    (there / "dap.json").unlink()
    assert open_backbone(str(there)).class_names == ("a b", "ü/c", "d")  # from id2label
    edit(there / "model_index.json", id2label={"0": "a", "1": "b", "3": "c"})
    assert "id2label" in refused(there)
    edit(there / "model_index.json", id2label=None)
    assert "names no classes (id2label)" in refused(there)


def test_a_latent_dit_needs_its_vae(copy: Any, saved: dict[str, Path]) -> None:
    there = copy("latents")
    shutil.rmtree(there / "vae")
    assert "works on 4 latent channels but has no VAE; name one: --vae DIR" in refused(there)
    for vae in (saved["latents"], saved["latents"] / "vae"):
        assert open_backbone(str(there), vae=str(vae)).image_size == 8
    assert "not a diffusers pipeline" in refused(there, vae=str(there / "transformer" / ".." / ".."))
    three = save_tiny_dit(there.parent / "three", tiny_dit(channels=3))
    assert "works on 3 channels, its VAE gives 4" in refused(three, vae=str(saved["latents"]))


def test_missing_parts(copy: Any) -> None:
    there = copy()
    shutil.rmtree(there / "scheduler")
    assert "scheduler_config.json: No such file" in refused(there)
    shutil.rmtree(there / "transformer")
    assert "has no config.json" in refused(there)
    (there / "model_index.json").unlink()
    assert "no model_index.json" in refused(there)


def test_damaged_parts(copy: Any, saved: dict[str, Path]) -> None:
    there = copy()
    weights = there / "transformer" / WEIGHTS
    whole = weights.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"\xff" * 100, whole[:8] + b"{" * 200):
        weights.write_bytes(content)
        said = refused(there)
        assert str(there / "transformer") in said
        assert "damaged" in said
    weights.unlink()
    assert "cannot load" in refused(there)
    weights.write_bytes(whole)
    for name in ("transformer/config.json", "scheduler/scheduler_config.json", "dap.json", "model_index.json"):
        path = there / name
        before = path.read_text()
        path.write_text(before[: len(before) // 2])
        refused(there)
        path.write_text(before)
    open_backbone(str(there))


def test_weights_of_another_shape_are_refused(copy: Any) -> None:
    from safetensors.torch import load_file, save_file

    there = copy()
    weights = there / "transformer" / WEIGHTS
    whole = load_file(weights)
    key = "transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight"
    save_file({**whole, key: whole[key][:-1].clone()}, weights)  # no null row
    assert "embedding_table" in refused(there) or "shape" in refused(there)
    save_file({k: v for k, v in whole.items() if k != key}, weights)
    assert "1 weights missing" in refused(there)
    save_file({**whole, "more": torch.zeros(1)}, weights)
    assert "more" in refused(there)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_pickle_is_never_executed(copy: Any, tmp_path: Path) -> None:
    there, fuse = copy(), tmp_path / "executed"
    weights = there / "transformer" / WEIGHTS
    weights.unlink()
    torch.save({"pos_embed.proj.weight": Bomb(fuse)}, there / "transformer" / "diffusion_pytorch_model.bin")
    said = refused(there)
    assert not fuse.exists()
    assert "cannot load" in said
    torch.load(there / "transformer" / "diffusion_pytorch_model.bin", weights_only=False)
    assert fuse.exists()  # the bomb is a real one


def test_plain_weights_in_a_pickle_are_read_and_named_by_the_digest(copy: Any, capfd: Any) -> None:
    """Some published pipelines have only .bin files; `weights_only` makes them harmless."""
    from safetensors.torch import load_file

    digests = []
    for scale in (1.0, 2.0):
        there = copy("latents")
        capfd.readouterr()
        weights = there / "transformer" / WEIGHTS
        state = {k: scale * v for k, v in load_file(weights).items()}
        weights.unlink()
        torch.save(state, there / "transformer" / "diffusion_pytorch_model.bin")
        digests.append(open_backbone(str(there)).weights_digest())
        assert capfd.readouterr() == ("", "")  # diffusers would speak of errors and unsafe files
        shutil.rmtree(there)
    assert digests[0] != digests[1]


# --- names ------------------------------------------------------------------------------------------------------------


def test_what_is_no_pipeline(tmp_path: Path, copy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").mkdir()
    assert "unknown backbone 'digts'; did you mean 'digits'" in refused("digts")
    assert "Known: digits; or a pipeline" in refused("digts"), "not every folder that happens to lie here"
    assert "or a hub id like owner/name" in refused("./nothing/here")
    (tmp_path / "empty").mkdir()
    assert "is not a diffusers pipeline: no model_index.json; found nothing" in refused(tmp_path / "empty")
    (tmp_path / "begun" / "training").mkdir(parents=True)
    assert "is not a diffusers pipeline" in refused(tmp_path / "begun"), "a dataset may have such a folder, too"
    (tmp_path / "begun" / "training" / "config.json").write_text("{}")
    assert "is a training that has not finished: type its `dap train` again" in refused(tmp_path / "begun")
    (tmp_path / "file").write_text("x")
    assert "unknown backbone" in refused(tmp_path / "file")
    there = copy()
    edit(there / "model_index.json", _class_name="FluxPipeline")
    assert "is a FluxPipeline; dap knows DiTPipeline" in refused(there)


def test_a_hub_id_without_network_says_what_to_do() -> None:
    said = refused("facebook/DiT-XL-2-256-nowhere")
    assert "cannot fetch 'facebook/DiT-XL-2-256-nowhere' from the hub" in said
    assert "directory" in said


def test_offline_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = refused("facebook/DiT-XL-2-256")
    assert "HF_HUB_OFFLINE is set and it is not in the cache" in said
    assert "hf download facebook/DiT-XL-2-256 --local-dir DIR" in said
    assert "HF_HUB_OFFLINE" in refused("digits", vae="stabilityai/sd-vae-ft-mse")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def gone(*_: Any, **__: Any) -> str:
        raise OSError("404 Client Error\nlong")

    monkeypatch.setattr("huggingface_hub.snapshot_download", gone)
    said = refused("a/b")
    assert "cannot fetch 'a/b' from the hub (404 Client Error); check the name" in said
    assert "hf download a/b --local-dir DIR" in said


def test_a_missing_file_is_named_with_how_to_get_it(copy: Any) -> None:
    there = copy("latents")
    for part in ("transformer", "vae"):
        weights = there / part / WEIGHTS
        moved = weights.rename(there / "elsewhere")
        said = refused(there)
        assert f"cannot load {there / part}: {WEIGHTS} is missing; copy it there" in said
        assert "hf download OWNER/NAME" in said
        moved.rename(weights)
    index = {"weight_map": {"a": "diffusion_pytorch_model-00001-of-00002.safetensors", "b": WEIGHTS}}
    (there / "transformer" / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    assert "diffusion_pytorch_model-00001-of-00002.safetensors is missing" in refused(there)


def test_a_vae_that_is_none_is_refused(copy: Any, saved: dict[str, Path]) -> None:
    said = refused(copy("latents"), vae=str(saved["pixels"] / "transformer"))
    assert "holds a DiTTransformer2DModel, not an AutoencoderKL; name the VAE's directory" in said


def test_a_pipeline_in_the_published_format_opens(copy: Any) -> None:
    """As facebook/DiT-XL-2-256 lies on the hub: an older class name and settings, a DDIM scheduler, only .bin files."""
    from safetensors.torch import load_file

    there = copy("latents")
    for part in ("transformer", "vae"):
        weights = there / part / WEIGHTS
        torch.save(load_file(weights), there / part / "diffusion_pytorch_model.bin")
        weights.unlink()
    old = {"cross_attention_dim": None, "num_vector_embeds": None, "only_cross_attention": False}
    config = json.loads((there / "transformer" / "config.json").read_text())
    del config["norm_eps"]
    config |= {"_class_name": "Transformer2DModel", "_diffusers_version": "0.12.0.dev0", "use_linear_projection": False}
    (there / "transformer" / "config.json").write_text(json.dumps({**config, **old}))
    schedule = {"_class_name": "DDIMScheduler", "beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02}
    schedule |= {"clip_sample": False, "num_train_timesteps": 1000, "set_alpha_to_one": True, "steps_offset": 0}
    (there / "scheduler" / "scheduler_config.json").write_text(json.dumps({**schedule, "trained_betas": None}))
    (there / "dap.json").unlink()
    index = json.loads((there / "model_index.json").read_text())
    parts = {"scheduler": ["diffusers", "DDIMScheduler"], "transformer": ["diffusers", "Transformer2DModel"]}
    (there / "model_index.json").write_text(json.dumps({**index, **parts}))
    backbone = open_backbone(str(there), device="cpu")
    assert isinstance(backbone, DiTBackbone)
    assert backbone.cfg_scale == 4.0
    assert backbone.transformer.config.norm_eps == 1e-5  # diffusers' own default, as published
    x = torch.randn(2, 4, 4, 4)
    ours = tiny_latent_dit()
    off = backbone.predict(x, 500, ours.condition([0, 1])).eps - ours.predict(x, 500, ours.condition([0, 1])).eps
    assert float(off.abs().max()) < 1e-3
    check_backbone(backbone)


def test_devices() -> None:
    assert pick_device("cpu") == "cpu"
    assert pick_device("auto") in ("cpu", "cuda", "mps")
    for name in ("cuda:99", "gpu", "warp"):
        with pytest.raises(ConfigError, match=f"device '{name}' cannot be used here"):
            pick_device(name)


def test_a_label_table_may_hold_a_name_twice() -> None:
    """ImageNet has two cranes."""
    check_backbone(tiny_dit(class_names=("crane", "crane", "ant")))
