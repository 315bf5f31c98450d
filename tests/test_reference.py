"""The real features: what they are, what they may depend on, and how often they are computed."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dap.bank import Bank
from dap.config import GuidanceConfig
from dap.guidance import Representativeness, acts, load_guidance
from dap.pooling import Pooling
from dap.reference import Reference
from dap.testing import tiny_dit, tiny_latent_dit, tiny_source

TAP = "block.1"
CLASSES = [{"name": name} for name in ("c0", "c1", "c2")]


def features(reference: Any, label: int = 0, index: int = 1) -> Any:
    return reference.features(label, index)


def noised(reference: Any, label: int, index: int) -> Any:
    return torch.cat(list(reference._noised(label, index)))


def exact(reference: Any, label: int, index: int) -> Any:
    """The features at a step of their own, in float32."""
    x_t, t, backbone = noised(reference, label, index), reference.chain.timesteps[index], reference.backbone
    condition = backbone.condition([reference.classes[label]] * len(x_t))
    return backbone.tap_features(x_t, t, condition, TAP).flatten(1)


@pytest.mark.parametrize("make", [tiny_dit, tiny_latent_dit])
def test_features_are_the_backbones_own_of_the_noised_images(make: Any, bench: Any) -> None:
    b = bench(make(), real=5)
    reference, backbone, chain = b.reference(rows=5), b.sampler.backbone, b.sampler.chain
    given = features(reference, label=2)
    x_0 = backbone.encode(b.source.images(2).float() / 255)
    torch.testing.assert_close(reference.latents(2), x_0)
    t = chain.timesteps[1]
    x_t = chain.noised(x_0, reference.noise(2, x_0), t)
    expected = backbone.tap_features(x_t, t, backbone.condition([2] * 5), TAP).flatten(1)
    torch.testing.assert_close(given, expected, rtol=1e-3, atol=1e-3)  # half precision
    assert torch.equal(given, given.half().float())
    assert len(given) == reference.count(2) == 5
    assert not given.requires_grad


# --- noise ------------------------------------------------------------------------------------------------------------


def test_a_row_keeps_its_noise_at_every_step(bench: Any) -> None:
    reference = bench(steps=4).reference()
    x_0, bars = reference.latents(0), [reference.chain.alpha_bar[reference.chain.timesteps[i]] for i in (0, 2)]
    x_t = [noised(reference, 0, i) for i in (0, 2)]
    noise = [(x - bar.sqrt() * x_0) / (1 - bar).sqrt() for x, bar in zip(x_t, bars, strict=True)]
    torch.testing.assert_close(noise[0], noise[1], rtol=1e-4, atol=1e-4)


# --- anchors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [0, 0.02, 0.12, 1.0])
@pytest.mark.parametrize("interval", [(0.0, 2.0), (0.0, 1.0), (0.5, 1.0), (0.9, 0.95)])
@pytest.mark.parametrize("steps", [1, 2, 50, 300])
def test_anchors_enclose_every_guided_step_and_are_nowhere_too_far_apart(
    spacing: float, interval: tuple[float, float], steps: int, bench: Any
) -> None:
    reference = bench(steps=steps).reference(spacing=spacing, interval=interval)
    s = [(t / 1000) ** 0.5 for t in reference.chain.timesteps]
    one = max((a - b for a, b in itertools.pairwise(s)), default=0.0)
    inside = [i for i in range(steps) if acts(interval, i, steps)]
    for index in range(steps):
        low, high, share = reference.anchors(index)
        assert low <= index <= high
        assert (1 - share) * s[low] + share * s[high] == pytest.approx(s[index])
        assert s[low] - s[high] <= spacing + one
        assert (spacing > 0 and index in inside) or share == 0
        assert index not in inside or {low, high} <= set(reference.anchor_steps) <= set(inside)
    if inside:
        assert len(reference.anchor_steps) <= (
            len(inside) if spacing == 0 else (s[inside[0]] - s[inside[-1]]) / spacing + 2
        )
        assert {inside[0], inside[-1]} <= set(reference.anchor_steps)


def test_the_preset_computes_five_noise_levels_of_fifty_steps(bench: Any) -> None:
    preset = load_guidance(GuidanceConfig(name="dap"))
    reference = bench(steps=50).reference(spacing=preset.reference_spacing, interval=preset.interval)
    assert [reference.chain.timesteps[i] for i in reference.anchor_steps] == [480, 300, 180, 80, 20]


def test_at_an_anchor_features_are_exact_and_in_between_on_the_line(bench: Any) -> None:
    b = bench(tiny_dit(seed=1), steps=50)
    reference, sizes = b.reference(spacing=0.12, rows=50), []
    reference.on_extract = sizes.append
    low, high, share = reference.anchors(26)
    assert low < 26 < high
    torch.testing.assert_close(reference.features(0, low), exact(reference, 0, low), rtol=1e-3, atol=1e-3)
    ends = reference.features(0, low), reference.features(0, high)
    assert torch.equal(reference.features(0, 26), torch.lerp(*ends, share))
    assert sizes == [5, 5]  # two anchors, each once


# --- memory -----------------------------------------------------------------------------------------------------------


def test_a_class_too_large_for_memory_comes_in_parts_with_the_same_rows(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = bench(real=7)
    whole = b.reference(rows=2)
    numbers = whole.row_numbers
    monkeypatch.setattr("dap.reference.PART_BYTES", 4 * numbers * 3)
    parts = list(b.reference(rows=2).parts(0, 1))
    assert [len(part) for part in parts] == [3, 3, 1]
    torch.testing.assert_close(torch.cat(parts), exact(whole, 0, 1), rtol=1e-3, atol=1e-3)
    at_once = b.reference(rows=2)
    at_once.on_extract = lambda rows: None
    list(at_once.parts(0, 1))
    assert not at_once._kept  # nothing is kept of what does not fit


class Largest(TorchDispatchMode):
    """The largest tensor that any operation makes, views of what was there aside."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {x.untyped_storage().data_ptr() for x in tree_leaves(args) if isinstance(x, torch.Tensor)}
        for x in tree_leaves(out):
            if isinstance(x, torch.Tensor) and x.untyped_storage().data_ptr() not in given:
                self.numbers = max(self.numbers, x.numel())
        return out


@pytest.mark.parametrize("pool", ["flatten", "mean"])
def test_what_is_made_at_a_step_does_not_grow_with_the_class(
    pool: str, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The class itself is there, encoded: N x_0. Noise, x_t and features come in parts."""
    monkeypatch.setattr("dap.noise.PAIRED", 8)
    found = []
    for count in (96, 192):
        reference = bench(real=count).reference(rows=4, pooling=Pooling(pool=pool))
        monkeypatch.setattr("dap.reference.PART_BYTES", 4 * reference.row_numbers * 8)
        reference.latents(0)
        with Largest() as largest:
            for _ in reference.parts(0, 1):
                pass
        found.append(largest.numbers)
    assert found[0] == found[1] < 96 * 64


def test_a_class_in_parts_has_the_bits_of_one_noised_at_once(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dap.noise.PAIRED", 8)
    reference = bench(real=21).reference(rows=5)
    x_0, t = reference.latents(0), reference.chain.timesteps[1]
    assert torch.equal(noised(reference, 0, 1), reference.chain.noised(x_0, reference.noise(0, x_0), t))


def test_anchors_beyond_the_stated_memory_are_forgotten(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    b = bench(steps=4)
    most = 2 * 5 * b.reference().row_numbers * 2
    monkeypatch.setattr("dap.reference.KEPT_BYTES", most)
    reference = b.reference()
    for label in range(3):
        for index in range(4):
            reference.features(label, index)
            assert reference._kept.nbytes <= most


@pytest.mark.parametrize("short", [1, 3])
def test_one_anchor_too_many_for_memory_is_extracted_again_and_no_other(
    short: int, bench: Any, units: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = bench(tiny_dit(classes=5), steps=30, real=2)
    guidance = Representativeness(strength=0.1)
    spacing = {"spacing": 0.2, "interval": guidance.interval}
    plain, sizes, again = b.reference(**spacing), [], []
    plain.on_extract = sizes.append
    expected = b.sample(units(range(5), 1), b.guided(guidance, plain))
    assert len(sizes) == 5 * len(plain.anchor_steps)
    monkeypatch.setattr("dap.reference.KEPT_BYTES", (10 - short) * 2 * 2 * plain.row_numbers)
    tight = b.reference(**spacing)
    tight.on_extract = again.append
    assert torch.equal(b.sample(units(range(5), 1), b.guided(guidance, tight)), expected)
    assert len(again) <= len(sizes) + short * 30


def test_images_too_many_for_memory_are_not_all_encoded_again(
    bench: Any, units: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = bench(tiny_dit(classes=5), steps=5, real=2)
    monkeypatch.setattr("dap.reference.KEPT_BYTES", 4 * 2 * 2 * b.reference().row_numbers // 2)
    encoded, inner = [], b.sampler.backbone.encode
    monkeypatch.setattr(b.sampler.backbone, "encode", lambda images: encoded.append(len(images)) or inner(images))
    reference = b.reference()
    reference._latents.most = 4 * reference.latents(0).nbytes
    b.sample(units(range(5), 1), b.guided(Representativeness(strength=0.1), reference))
    assert len(encoded) <= 5 + 2 * 4  # room for four of five classes


def test_a_guidance_does_not_see_how_the_rows_came(bench: Any, units: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    b = bench(real=7)
    guidance = Representativeness(strength=0.3, repulsion=1.0, reference_spacing=0)
    expected = b.sample(units([0, 1], 2), guidance)
    monkeypatch.setattr("dap.reference.PART_BYTES", 4 * b.reference().row_numbers * 3)
    torch.testing.assert_close(b.sample(units([0, 1], 2), guidance), expected, rtol=1e-3, atol=1e-3)


# --- determinism ------------------------------------------------------------------------------------------------------


def test_features_are_the_same_every_time_and_under_every_global_state(bench: Any) -> None:
    b = bench()
    one = features(b.reference())
    torch.manual_seed(5)
    assert torch.equal(one, features(b.reference()))


def test_another_seed_or_class_is_another_noise(bench: Any) -> None:
    b = bench()
    base = features(b.reference())
    assert not torch.equal(base, features(b.reference(seed=1)))
    twin = replace(b.source, read_bytes=lambda label, key: b.source.read_bytes(0, key))
    other = Reference(b.sampler.backbone, twin, (0, 0, 0), b.sampler.chain, tap=TAP, rows=3)
    assert torch.equal(base, features(other, label=0))
    assert not torch.equal(base, features(other, label=1))  # the same images and condition under another name


def test_features_of_a_class_do_not_depend_on_the_other_classes(bench: Any) -> None:
    b = bench()
    together = features(b.reference(), label=2)
    alone = tiny_source(["c2"], 5)
    reference = Reference(b.sampler.backbone, alone, (2,), b.sampler.chain, tap=TAP, rows=3)
    assert torch.equal(together, features(reference, label=0))
    crossed = tiny_source(["c2", "c0", "c1"], 5)
    reference = Reference(b.sampler.backbone, crossed, (2, 0, 1), b.sampler.chain, tap=TAP, rows=3)
    assert torch.equal(together, features(reference, label=0))


@pytest.mark.parametrize("rows", [1, 2, 5, 50])
def test_forwards_have_at_most_rows_images_and_rows_do_not_matter_beyond_rounding(rows: int, bench: Any) -> None:
    b = bench(real=5)
    reference, sizes = b.reference(rows=rows), []
    reference.on_extract = sizes.append
    torch.testing.assert_close(features(reference), features(b.reference(rows=5)), rtol=1e-3, atol=1e-3)
    assert sum(sizes) == 5
    assert max(sizes) <= rows
    assert len(sizes) == -(-5 // rows)


@pytest.mark.parametrize("images", [1, 3, 6])
def test_one_extraction_a_class_and_step_however_many_images(images: int, bench: Any, units: Any) -> None:
    b = bench(steps=4, real=5)
    reference, sizes = b.reference(rows=50), []
    reference.on_extract = sizes.append
    b.sample(units([0, 1], images), b.guided(Representativeness(strength=0.1, repulsion=1.0), reference))
    assert sizes == [5] * 2 * 3  # two classes, three guided steps


def test_images_are_decoded_and_encoded_once_for_a_whole_chunk(bench: Any, units: Any) -> None:
    b = bench(tiny_dit(classes=6), steps=5, real=4)
    read: list[tuple[int, str]] = []
    inner = b.source.read_bytes

    def counted(label: int, key: str) -> bytes:
        read.append((label, key))
        return inner(label, key)

    b.source = replace(b.source, read_bytes=counted)
    b.sample(units(range(6), 1), Representativeness(strength=0.1))
    assert len(read) == len(set(read)) == 6 * 4


def test_asking_again_at_the_same_step_costs_nothing(bench: Any) -> None:
    reference, sizes = bench().reference(rows=50), []
    reference.on_extract = sizes.append
    assert torch.equal(features(reference), features(reference))
    assert sizes == [5]


def test_nothing_behind_the_tap_is_computed(bench: Any) -> None:
    b = bench(tiny_dit(depth=4))
    ran = []
    for k, block in enumerate(b.sampler.backbone.transformer.transformer_blocks):
        block.register_forward_pre_hook(lambda module, args, k=k: ran.append(k))
    features(b.reference(rows=50))
    assert ran == [0, 1]


# --- the bank ---------------------------------------------------------------------------------------------------------


def test_a_bank_pays_for_the_next_set_and_changes_no_bit(bench: Any, units: Any, tmp_path: Path) -> None:
    b = bench(steps=4)
    guidance = Representativeness(strength=0.1)
    expected = b.sample(units([0, 1], 2), guidance)
    bank, sizes = Bank(tmp_path, {"as": "it is"}, CLASSES), []
    bank.prepare()
    for _ in range(2):
        reference = b.reference(bank=bank)
        reference.on_extract = sizes.append
        assert torch.equal(b.sample(units([0, 1], 2), b.guided(guidance, reference)), expected)
    assert sum(sizes) == 2 * 3 * 5  # two classes, three steps, once


def test_a_damaged_entry_is_computed_again(bench: Any, tmp_path: Path) -> None:
    b, bank = bench(), Bank(tmp_path, {}, CLASSES)
    bank.prepare()
    expected = features(b.reference(bank=bank))
    entry = bank.entry(0, 1)
    whole = entry.read_bytes()
    entry.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert torch.equal(features(b.reference(bank=bank)), expected)
    assert entry.read_bytes() == whole


def test_the_entries_that_are_wanted_are_those_that_are_written(
    bench: Any, units: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    b, bank, guidance = bench(steps=30), Bank(tmp_path, {}, CLASSES), Representativeness(strength=0.1)
    bank.prepare()
    reference = b.reference(bank=bank, spacing=0.12, interval=guidance.interval)
    wanted = reference.shapes()
    assert bank.missing_bytes(wanted) == len(wanted) * 2 * 5 * reference.row_numbers
    b.sample(units(range(3), 1), b.guided(guidance, reference))
    assert bank.missing_bytes(wanted) == 0
    assert {bank.entry(*key) for key in wanted} == set(bank.path.glob("*.safetensors"))
    monkeypatch.setattr("dap.reference.PART_BYTES", 1)
    assert reference.shapes() == {}  # a class in parts is not kept


def test_what_overflows_half_precision_is_kept_in_full(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = bench().reference()
    inner = reference.backbone.tap_features
    monkeypatch.setattr(reference.backbone, "tap_features", lambda *a: 1e6 * inner(*a))
    given = features(reference)
    assert torch.isfinite(given).all()
    assert float(given.abs().max()) > 65504
