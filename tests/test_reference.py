"""The real features: what they are, what they may depend on, and how often they are computed."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from dap.guidance import Representativeness
from dap.reference import Reference
from dap.testing import tiny_dit, tiny_latent_dit, tiny_source

TAP = "block.1"


def features(reference: Any, label: int = 0, index: int = 1) -> Any:
    return reference.features(label, index, reference.chain.timesteps[index], TAP)


@pytest.mark.parametrize("make", [tiny_dit, tiny_latent_dit])
def test_features_are_the_backbones_own_of_the_noised_images(make: Any, bench: Any) -> None:
    b = bench(make(), real=5)
    reference, backbone, chain = b.reference(rows=5), b.sampler.backbone, b.sampler.chain
    given = features(reference, label=2)
    x_0 = backbone.encode(b.source.images(2).float() / 255)
    assert torch.equal(reference.latents(2), x_0)
    # the one free choice is the noise: undo the mixture at another level of noise and both must agree
    noise = torch.randn(x_0.shape, generator=reference._generator(2, 1))
    t = chain.timesteps[1]
    expected = backbone.tap_features(chain.noised(x_0, noise, t), t, backbone.condition([2] * 5), TAP)
    torch.testing.assert_close(given, expected)
    assert len(given) == reference.count(2) == 5
    assert not given.requires_grad


def test_features_are_the_same_every_time_and_under_every_global_state(bench: Any) -> None:
    b = bench()
    one = features(b.reference())
    torch.manual_seed(5)
    assert torch.equal(one, features(b.reference()))


def test_another_seed_class_or_step_is_another_noise(bench: Any) -> None:
    b = bench()
    base = features(b.reference())
    assert not torch.equal(base, features(b.reference(seed=1)))
    reference, t = b.reference(), b.sampler.chain.timesteps[1]
    assert not torch.equal(base, reference.features(0, 2, t, TAP))  # the same t at another step
    twin = replace(b.source, read_bytes=lambda label, key: b.source.read_bytes(0, key))
    other = Reference(b.sampler.backbone, twin, (0, 0, 0), b.sampler.chain, seed=0, rows=3)
    assert torch.equal(base, features(other, label=0))
    assert not torch.equal(base, features(other, label=1))  # the same images and condition under another name


def test_features_of_a_class_do_not_depend_on_the_other_classes(bench: Any) -> None:
    b = bench()
    together = features(b.reference(), label=2)
    alone = tiny_source(["c2"], 5)
    reference = Reference(b.sampler.backbone, alone, (2,), b.sampler.chain, seed=0, rows=3)
    assert torch.equal(together, features(reference, label=0))
    crossed = tiny_source(["c2", "c0", "c1"], 5)
    reference = Reference(b.sampler.backbone, crossed, (2, 0, 1), b.sampler.chain, seed=0, rows=3)
    assert torch.equal(together, features(reference, label=0))


@pytest.mark.parametrize("rows", [1, 2, 5, 50])
def test_forwards_have_at_most_rows_images_and_rows_do_not_matter_beyond_rounding(rows: int, bench: Any) -> None:
    b = bench(real=5)
    reference, sizes = b.reference(rows=rows), []
    reference.on_extract = sizes.append
    torch.testing.assert_close(features(reference), features(b.reference(rows=5)), rtol=1e-4, atol=1e-5)
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


def test_the_bank_keeps_features_for_the_next_set_and_changes_none(bench: Any, units: Any) -> None:
    b = bench(steps=4)
    guidance = Representativeness(strength=0.1)
    expected = b.sample(units([0, 1], 2), guidance)
    reference, sizes = b.reference(), []
    reference.bank_bytes = 10**9
    reference.on_extract = sizes.append
    assert torch.equal(b.sample(units([0, 1], 2), b.guided(guidance, reference)), expected)
    paid = sum(sizes)
    assert torch.equal(b.sample(units([0, 1], 2), b.guided(guidance, reference)), expected)
    assert sum(sizes) == paid
