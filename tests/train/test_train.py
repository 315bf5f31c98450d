"""Training: it learns, it goes on where it stopped with the same bits, and it refuses what is another training."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dap.backbones import open_backbone
from dap.config import TrainConfig
from dap.data import open_dataset
from dap.errors import BackboneError, ConfigError, DataError, SamplingError, StoreError
from dap.testing import (
    check_backbone,
    save_tiny_dit,
    save_tiny_stable_diffusion,
    tiny_dit,
    tiny_latent_dit,
    tiny_source,
)
from dap.train import Progress, train
from dap.train.diffusion import Trainer, ema_decay, learning_rate
from dap.train.model import new_dit, with_label_table

TINY = TrainConfig(
    steps=40,
    batch=8,
    rate=3e-3,
    warmup=5,
    width=16,
    depth=1,
    heads=2,
    save_every=10,
    sample_every=1000,
    ema=0.9,
    flip=False,
)
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
DATA = tiny_source(["ant", "bee", "cat"], 4)


def finish(out: Path, config: TrainConfig = TINY, data: Any = DATA, **options: Any) -> list[Progress]:
    return list(train(data, out, config, device="cpu", **options))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Progress]]:
    out = tmp_path_factory.mktemp("train") / "whole"
    return out, finish(out)


def trainer(config: TrainConfig = TINY, classes: int = 3) -> Trainer:
    torch.manual_seed(0)
    x_0 = torch.cat([DATA.images(label) for label in range(3)])
    labels = torch.arange(3).repeat_interleave(4)
    model = new_dit(config, channels=1, size=8, classes=classes)
    return Trainer(model, x_0, labels, config, torch.linspace(0.999, 0.01, 1000), "cpu")


# --- a whole training -------------------------------------------------------------------------------------------------


def test_it_learns_and_leaves_a_pipeline(trained: tuple[Path, list[Progress]]) -> None:
    out, progress = trained
    assert [p.step for p in progress] == [10, 20, 30, 40]
    assert all(p.steps == 40 and p.images_per_second > 0 and math.isfinite(p.loss) for p in progress)
    assert progress[-1].loss < 0.9 * progress[0].loss
    backbone = open_backbone(str(out), device="cpu")
    assert backbone.from_scratch
    assert backbone.class_names == ("ant", "bee", "cat")
    check_backbone(backbone)
    record = json.loads((out / "dap.json").read_text())
    assert record["training"]["images"] == 12
    assert record["training"]["train"]["steps"] == 40
    assert record["training"]["train"]["size"] == 8  # what was left open is recorded as it was decided
    assert not (out / "training" / "state.pt").exists()
    assert (out / "training" / "loss.csv").read_text().count("\n") == 4
    assert progress[-1].samples is not None
    assert progress[-1].samples.stat().st_size > 0


def test_diffusers_reads_what_was_trained(trained: tuple[Path, list[Progress]]) -> None:
    from diffusers import DiTPipeline

    pipe = DiTPipeline.from_pretrained(str(trained[0]), vae=None)
    assert type(pipe.transformer).__name__ == "DiTTransformer2DModel"
    assert pipe.labels == {"ant": 0, "bee": 1, "cat": 2}


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_an_interrupted_training_ends_with_the_same_bits(
    stop_after: int, trained: tuple[Path, list[Progress]], tmp_path: Path
) -> None:
    out, running = tmp_path / "out", train(DATA, tmp_path / "out", TINY, device="cpu")
    for _ in range(stop_after):
        next(running)
    running.close()
    assert not (out / "model_index.json").exists()
    with pytest.raises(BackboneError):
        open_backbone(str(out))
    torch.manual_seed(123)  # nothing hangs on the global generator
    rest = finish(out)
    assert [p.step for p in rest] == [10 * k for k in range(stop_after + 1, 5)]
    assert (out / WEIGHTS).read_bytes() == (trained[0] / WEIGHTS).read_bytes()
    assert [p.loss for p in rest] == [p.loss for p in trained[1][stop_after:]]


def test_the_averaged_weights_are_what_is_saved(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    running = train(DATA, tmp_path / "out", TINY, device="cpu")
    for _ in range(4):
        next(running)  # the last step is done and saved, the pipeline is not yet written
    state = torch.load(tmp_path / "out" / "training" / "state.pt", weights_only=True)
    assert list(running) == []
    saved, key = load_file(tmp_path / "out" / WEIGHTS), "proj_out_2.weight"
    assert torch.equal(saved[key], state["ema"][key])
    assert not torch.equal(saved[key], state["model"][key])


def test_steps_since_the_last_saved_state_are_done_again(trained: tuple[Path, list[Progress]], tmp_path: Path) -> None:
    config = replace(TINY, save_every=20)
    running = train(DATA, tmp_path / "out", config, device="cpu")
    for _ in range(3):
        next(running)
    running.close()
    assert [p.step for p in finish(tmp_path / "out", config)] == [30, 40]
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (trained[0] / WEIGHTS).read_bytes()


def test_looking_at_samples_changes_no_weight(trained: tuple[Path, list[Progress]], tmp_path: Path) -> None:
    progress = finish(tmp_path / "out", replace(TINY, sample_every=10))
    assert all(p.samples is not None for p in progress)
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (trained[0] / WEIGHTS).read_bytes()


def test_a_finished_training_is_left_alone(trained: tuple[Path, list[Progress]]) -> None:
    out = trained[0]
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert finish(out) == []
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_the_seed_decides(trained: tuple[Path, list[Progress]], tmp_path: Path) -> None:
    finish(tmp_path / "again")
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (trained[0] / WEIGHTS).read_bytes()
    finish(tmp_path / "other", replace(TINY, seed=1))
    assert (tmp_path / "other" / WEIGHTS).read_bytes() != (trained[0] / WEIGHTS).read_bytes()


def test_half_writes_half_the_bytes(trained: tuple[Path, list[Progress]], tmp_path: Path) -> None:
    finish(tmp_path / "half", half=True)
    size, full = (path.stat().st_size for path in (tmp_path / "half" / WEIGHTS, trained[0] / WEIGHTS))
    assert size < 0.6 * full
    open_backbone(str(tmp_path / "half"))


# --- what is refused --------------------------------------------------------------------------------------------------


def test_another_configuration_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    out, short = tmp_path / "out", replace(TINY, steps=10)
    finish(out, short)
    with pytest.raises(
        StoreError,
        match=r"\(train.batch: 8 there, 4 asked; train.rate: 0.003 there, 0.001 asked\).*another --out, .*--from .* on",
    ):
        finish(out, replace(short, rate=1e-3, batch=4))
    with pytest.raises(StoreError, match=r"another training \(other images\)"):
        finish(out, short, tiny_source(["ant", "bee", "cat"], 5))
    with pytest.raises(StoreError, match=r"another training \(from: null there, .* asked\)"):
        finish(out, short, start=str(out))


def test_an_unfinished_training_is_not_offered_to_train_on_from(tmp_path: Path) -> None:
    for _ in zip(range(2), train(DATA, tmp_path / "out", TINY, device="cpu"), strict=False):
        pass
    with pytest.raises(StoreError, match=r"another --out, or the same settings$"):
        finish(tmp_path / "out", replace(TINY, steps=TINY.steps - 1))


def test_when_to_save_and_to_look_may_change_on_the_way(tmp_path: Path, trained: tuple[Path, list[Progress]]) -> None:
    for _ in zip(range(2), train(DATA, tmp_path / "out", TINY, device="cpu"), strict=False):
        pass
    finish(tmp_path / "out", replace(TINY, save_every=7, sample_every=20))
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (trained[0] / WEIGHTS).read_bytes()
    assert finish(tmp_path / "out", replace(TINY, sample_every=3)) == []


def test_a_training_that_is_asked_to_stop_is_saved_at_that_step(
    tmp_path: Path, trained: tuple[Path, list[Progress]]
) -> None:
    asked = iter([False] * 12 + [True])
    seen = list(train(DATA, tmp_path / "out", TINY, device="cpu", stop=lambda: next(asked)))
    assert [(p.step, p.stopped) for p in seen] == [(10, False), (13, True)]
    assert not (tmp_path / "out" / "model_index.json").exists()
    assert finish(tmp_path / "out")[0].step == 20
    state = (tmp_path / "out" / "training" / "loss.csv").read_text().splitlines()
    assert [int(line.split(",")[0]) for line in state] == [10, 13, 20, 30, 40]
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (trained[0] / WEIGHTS).read_bytes()


def test_a_directory_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "full", tmp_path / "file"):
        with pytest.raises(StoreError, match="is not an unfinished training; choose another --out"):
            finish(out)
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.txt"]
    with pytest.raises(StoreError, match="choose another --out"):
        finish(tmp_path / "file" / "below")


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no", None])
def test_a_damaged_state_is_named(damage: bytes | None, tmp_path: Path) -> None:
    running = train(DATA, tmp_path / "out", TINY, device="cpu")
    next(running)
    running.close()
    state = tmp_path / "out" / "training" / "state.pt"
    state.write_bytes(state.read_bytes()[:2000] if damage is None else damage)
    with pytest.raises(StoreError, match=r"state.pt is damaged; delete it"):
        finish(tmp_path / "out")
    state.unlink()
    finish(tmp_path / "out", TINY)


def test_a_loss_that_is_no_number_stops_the_training(tmp_path: Path) -> None:
    config = replace(TINY, rate=1e30, clip=1e30, warmup=1)
    with pytest.raises(SamplingError, match=r"the loss is (nan|inf) at step \d+; lower --set train.rate="):
        finish(tmp_path / "out", config)
    assert not (tmp_path / "out" / "model_index.json").exists()


def test_where_compiled_bf16_may_be_to_blame_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dap.train.diffusion.Computing.checked", lambda self: self)
    monkeypatch.setattr("dap.train.diffusion.compile_blocks", lambda blocks: None)
    config = replace(TINY, rate=1e30, clip=1e30, warmup=1, dtype="bf16", compile=True)
    with pytest.raises(SamplingError, match=r"use --set train.dtype=fp32; or lower --set train.rate="):
        finish(tmp_path / "out", config)


def test_a_patch_that_does_not_divide_the_side(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train.patch 3 does not divide the side 8"):
        finish(tmp_path / "out", replace(TINY, patch=3))


def test_images_that_are_not_square_need_a_size(tmp_path: Path) -> None:
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.new("L", (12, 8)).save(out, "PNG")
    wide = replace(DATA, read_bytes=lambda label, key: out.getvalue(), size=None)
    with pytest.raises(DataError, match="has 12x8 px: say the training size"):
        finish(tmp_path / "out", TINY, wide)
    assert finish(tmp_path / "out", replace(TINY, size=8, steps=1), wide)


# --- going on from another model --------------------------------------------------------------------------------------


def table(model: Any, block: int = 0) -> torch.Tensor:
    return model.transformer_blocks[block].norm1.emb.class_embedder.embedding_table.weight.data


def test_known_classes_keep_their_rows_by_name_and_new_ones_start_at_the_mean() -> None:
    old = ("ant", "bee", "cat")
    for block in (0, 1):
        model = tiny_dit(class_names=old, depth=2).transformer
        before = table(model, block).clone()
        after = table(with_label_table(model, old, ["dog", "cat", "ant", "eel"]), block)
        assert torch.equal(after[1], before[2])
        assert torch.equal(after[2], before[0])
        torch.testing.assert_close(after[0], before[:3].mean(0))
        torch.testing.assert_close(after[3], before[:3].mean(0))
        assert torch.equal(after[4], before[3])  # the null row
        assert len(after) == 5
        assert model.config.num_embeds_ada_norm == 4


def test_training_goes_on_from_a_pipeline_with_other_classes(tmp_path: Path) -> None:
    base = save_tiny_dit(tmp_path / "base", tiny_dit(class_names=("cat", "dog")))
    still = replace(TINY, steps=1, rate=1e-12, ema=0.0)
    finish(tmp_path / "out", still, start=str(base))
    old, new = (open_backbone(str(path), device="cpu") for path in (base, tmp_path / "out"))
    assert not new.from_scratch
    finish(tmp_path / "own", still)
    finish(tmp_path / "more", still, start=str(tmp_path / "own"))
    assert open_backbone(str(tmp_path / "more"), device="cpu").from_scratch, (
        "a little more of the same is no pretraining"
    )
    assert new.class_names == ("ant", "bee", "cat")
    assert new.transformer.config.num_embeds_ada_norm == 3
    x = torch.randn(1, 1, 8, 8)
    was, now = (b.predict(x, 400, b.condition([b.class_names.index("cat")])).eps for b in (old, new))
    torch.testing.assert_close(now, was, rtol=1e-4, atol=1e-5)
    was, now = (b.predict(x, 400, b.null_condition(1)).eps for b in (old, new))
    torch.testing.assert_close(now, was, rtol=1e-4, atol=1e-5)


def test_going_on_needs_images_that_fit(tmp_path: Path) -> None:
    base = save_tiny_dit(tmp_path / "base", tiny_dit(channels=3))
    with pytest.raises(DataError, match=r"works on \(3, 8, 8\), these images give \(3, 16, 16\)"):
        finish(tmp_path / "out", replace(TINY, size=16), start=str(base))
    with pytest.raises(BackboneError):
        finish(tmp_path / "out", start=str(tmp_path / "nowhere"))


def test_going_on_from_stable_diffusion_is_refused_by_what_it_is(tmp_path: Path) -> None:
    base = save_tiny_stable_diffusion(tmp_path / "sd")
    with pytest.raises(BackboneError, match="is a StableDiffusionPipeline; dap train goes on from a DiT pipeline"):
        finish(tmp_path / "out", start=str(base))
    assert not (tmp_path / "out").exists()


# --- latent space -----------------------------------------------------------------------------------------------------


def test_training_in_a_vaes_latent_space_keeps_the_vae(tmp_path: Path) -> None:
    vae = save_tiny_dit(tmp_path / "vae", tiny_latent_dit())
    data = tiny_source(["ant", "bee"], 3, size=8, mode="RGB")
    config = replace(TINY, steps=4, save_every=2)
    finish(tmp_path / "out", config, data, vae=str(vae))
    backbone = open_backbone(str(tmp_path / "out"), device="cpu")
    assert (backbone.latent_shape, backbone.image_size, backbone.image_mode) == ((4, 4, 4), 8, "RGB")
    assert json.loads((tmp_path / "out" / "model_index.json").read_text())["vae"] == ["diffusers", "AutoencoderKL"]
    check_backbone(backbone)
    finish(tmp_path / "on", config, data, start=str(tmp_path / "out"))  # and goes on from it with the VAE it has
    assert open_backbone(str(tmp_path / "on"), device="cpu").latent_shape == (4, 4, 4)
    images = torch.rand(1, 3, 8, 8)
    assert torch.equal(open_backbone(str(tmp_path / "on"), device="cpu").encode(images), backbone.encode(images))


def test_going_on_from_a_hub_id_finds_its_vae(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = save_tiny_dit(tmp_path / "cache", tiny_latent_dit(2))
    monkeypatch.setattr("dap.backbones.location._snapshot", lambda name: snapshot)
    data = tiny_source(["ant", "bee"], 2, size=8, mode="RGB")
    finish(tmp_path / "out", replace(TINY, steps=1), data, start="owner/name")
    assert open_backbone(str(tmp_path / "out"), device="cpu").latent_shape == (4, 4, 4)


def test_a_vae_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"nowhere"):
        finish(tmp_path / "out", vae=str(tmp_path / "nowhere"))


# --- the pieces -------------------------------------------------------------------------------------------------------


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    config = TrainConfig(steps=100, warmup=10, rate=1.0)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1, rel=0.01)
    assert max(rates) == rates[9] == pytest.approx(1, abs=0.03)
    assert rates[50] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.001
    constant = replace(config, schedule="constant")
    assert [learning_rate(constant, step) for step in (4, 9, 50, 99)] == [0.5, 1, 1, 1]
    assert learning_rate(replace(constant, warmup=0), 0) == 1


def test_the_average_forgets_the_first_weights_soon() -> None:
    config = TrainConfig(ema=0.999)
    assert ema_decay(config, 0) == 0.1
    assert ema_decay(config, 10**6) == 0.999
    t = trainer(replace(TINY, ema=0.0))
    t.advance()
    for key, value in t.model.state_dict().items():
        assert torch.equal(t.ema[key], value), key
    t = trainer(replace(TINY, ema=0.99))
    start = {k: v.clone() for k, v in t.ema.items()}
    t.advance()
    key = "proj_out_2.weight"
    torch.testing.assert_close(t.ema[key], 0.1 * start[key] + 0.9 * t.model.state_dict()[key])


def test_dropped_labels_make_whole_rows_unconditional() -> None:
    """diffusers would draw anew in every block: then no row is ever without its label in all of them."""
    t = trainer(replace(TINY, label_dropout=0.5, depth=3))
    seen: list[torch.Tensor] = []
    for block in t.model.transformer_blocks:
        embedder = block.norm1.emb.class_embedder
        assert embedder.dropout_prob == 0
        embedder.embedding_table.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
    t.model.train()
    t.advance()
    first, *others = seen
    assert len(others) == 3  # every block, and the output, which reads block 0's
    assert all(torch.equal(first, other) for other in others)
    assert 0 < int((first == t.null).sum()) < 8


def test_the_share_of_dropped_labels_is_what_was_asked() -> None:
    for share in (0.0, 0.25):
        t = trainer(replace(TINY, batch=4000, label_dropout=share))
        _, labels, _, _ = t._batch()
        assert float((labels == t.null).float().mean()) == pytest.approx(share, abs=0.03)


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    one, other = trainer(), trainer()
    torch.manual_seed(77)
    for a, b in zip(one._batch(), other._batch(), strict=True):
        assert torch.equal(a, b)
    other.step = 1
    assert not torch.equal(one._batch()[3], other._batch()[3])
    assert float(one._batch()[0].min()) >= -1
    assert float(one._batch()[0].max()) <= 1


def test_flipping_mirrors_about_half_of_the_images() -> None:
    config = replace(TINY, batch=400)
    plain, flipped = (trainer(replace(config, flip=flip)) for flip in (False, True))
    plain.x_0 = flipped.x_0 = torch.arange(8, dtype=torch.uint8).expand(12, 1, 8, 8).contiguous()
    assert bool((plain._batch()[0].diff(dim=-1) > 0).all())
    mirrored = (flipped._batch()[0].diff(dim=-1) < 0).all(-1).all(-1).all(-1)
    assert 0.4 < float(mirrored.float().mean()) < 0.6


def test_a_new_dit_starts_as_the_paper_says() -> None:
    model = new_dit(TINY, channels=1, size=8, classes=3)
    x = torch.randn(2, 1, 8, 8)
    out = model(x, timestep=torch.tensor([3, 500]), class_labels=torch.tensor([0, 3])).sample
    assert torch.equal(out, torch.zeros_like(out))


# --- when it saves, and what it trains on -----------------------------------------------------------------------------


def test_it_saves_and_samples_at_the_very_steps_that_were_asked_for(tmp_path: Path) -> None:
    config = replace(TINY, steps=16, save_every=7, sample_every=6)
    steps = train(DATA, tmp_path / "t", config, device="cpu")
    samples = []
    for progress in steps:
        samples += [progress.samples] if progress.samples else []
        if progress.step == 7:
            saved = torch.load(tmp_path / "t" / "training" / "state.pt", weights_only=True)
            assert saved["step"] == 7
    assert [path.stem for path in samples] == ["0000006", "0000012", "0000016"]


def test_bf16_trains_about_as_well_and_not_alike(tmp_path: Path, trained: tuple[Path, list[Progress]]) -> None:
    out = tmp_path / "bf16"
    losses = [p.loss for p in finish(out, replace(TINY, dtype="bf16"))]
    whole = [p.loss for p in trained[1]]
    assert losses != whole
    assert losses == pytest.approx(whole, rel=0.05)
    assert (out / WEIGHTS).stat().st_size == (trained[0] / WEIGHTS).stat().st_size  # the weights stay float32


def test_compiled_blocks_train_as_plain_ones(
    tmp_path: Path, trained: tuple[Path, list[Progress]], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled, seen = torch.compile, []

    def interpreted(forward: Any, **_: Any) -> Any:
        seen.append(forward)
        return compiled(forward, backend="eager")

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", interpreted)
    finish(tmp_path / "out", replace(TINY, compile=True, sample_every=20))
    torch.compiler.reset()
    assert len(seen) == 1 + TINY.depth  # one on trial
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (trained[0] / WEIGHTS).read_bytes()


def test_images_that_differ_in_size_ask_for_a_training_size(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "mine" / name / "0.png")
    Image.new("L", (40, 30)).save(tmp_path / "mine" / "bee" / "1.png")
    with pytest.raises(DataError, match=r"'ant/0.png' has 8x8 px, 'bee/1.png' 40x30.*--size"):
        finish(tmp_path / "t", data=open_dataset(tmp_path / "mine", mode="L"))


def test_a_finished_training_with_other_storage_is_another_training(trained: tuple[Path, list[Progress]]) -> None:
    with pytest.raises(StoreError, match="another training"):
        finish(trained[0], half=True)


def test_going_on_from_a_grey_model_reads_grey_images(tmp_path: Path, trained: tuple[Path, list[Progress]]) -> None:
    colour = tiny_source(["ant", "bee", "cat"], 4, mode="RGB")
    finish(tmp_path / "t", replace(TINY, steps=2), colour, start=str(trained[0]))
    assert open_backbone(str(tmp_path / "t"), device="cpu").image_mode == "L"
