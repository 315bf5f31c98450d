"""The clustered reference: every real image in one cluster, no cluster empty, the same every time."""

from typing import Any

import pytest
import torch

from dap.errors import ConfigError
from dap.guidance import Representativeness
from dap.guidance.clusters import AT_ONCE, cluster_weights, clusters_of, middles_of
from dap.reference import Reference


def test_every_image_is_in_one_cluster_and_rows_sum_to_one() -> None:
    rows = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    weights = cluster_weights(rows, 6)
    assert weights.shape == (6, 40)
    assert torch.equal((weights > 0).sum(0), torch.ones(40))
    torch.testing.assert_close(weights.sum(1), torch.ones(6))
    assert torch.equal(weights, cluster_weights(rows, 6))


def test_clouds_are_told_apart() -> None:
    rows = torch.cat([torch.randn(10, 4) * 0.01 + 10 * k for k in range(3)])
    members = {tuple(row.nonzero().flatten().tolist()) for row in cluster_weights(rows, 3)}
    assert members == {tuple(range(10 * k, 10 * k + 10)) for k in range(3)}


@pytest.mark.parametrize("distinct", [1, 2])
def test_duplicates_leave_no_cluster_empty(distinct: int) -> None:
    rows = torch.arange(distinct).repeat(6)[:6].float()[:, None]
    weights = cluster_weights(rows, 4)
    assert ((weights > 0).sum(1) >= 1).all()
    assert torch.equal((weights > 0).sum(0), torch.ones(6))


@pytest.mark.parametrize(("images", "count"), [(40, 6), (12, 12), (25, 12), (2100, 10)])
def test_clusters_are_of_equal_size_whatever_lies_apart(images: int, count: int) -> None:
    """An image that is like no other gets no synthetic image of its own."""
    rows = torch.randn(images, 3, generator=torch.Generator().manual_seed(0))
    rows[0] += 100
    sizes = (cluster_weights(rows, count) > 0).sum(1)
    parts = -(-images // AT_ONCE)
    assert sizes.max() - sizes.min() <= parts
    assert sizes.min() >= 1


def test_a_class_in_order_is_divided_as_a_shuffled_one() -> None:
    """Rows are shared out in parts: each must be like the whole."""
    near, far = (torch.randn(AT_ONCE, 3, generator=torch.Generator().manual_seed(0)) + 100 * k for k in (0, 1))
    first, second = (cluster_weights(torch.cat([near, far]), 2) > 0).float()
    mixed = min(float(first[:AT_ONCE].sum()), float(second[:AT_ONCE].sum()))
    assert mixed < 0.1 * AT_ONCE


def test_no_exchange_of_two_images_brings_them_nearer_to_their_means() -> None:
    rows = torch.randn(30, 4, generator=torch.Generator().manual_seed(1)).double()
    weights = cluster_weights(rows, 5)
    member = (weights > 0).double().argmax(0)
    apart = torch.cdist(rows, weights.double() @ rows).square()
    own = apart.gather(1, member[:, None])
    exchanged = apart[:, member] + apart[:, member].T
    assert (exchanged >= own + own.T - 1e-9).all()


@pytest.mark.parametrize("count", [4, 5])
def test_pairs_are_shared_out_whole_and_counted(count: int) -> None:
    rows = torch.randn(24, 4, generator=torch.Generator().manual_seed(2))
    partner = torch.arange(24).view(12, 2).flip(1).flatten()
    weights = cluster_weights(rows, count, partner=partner)
    pairs = (weights > 0).sum(1) / 2
    assert pairs.max() - pairs.min() == (12 % count > 0)
    assert torch.equal(weights, weights[:, partner])


def test_fewer_images_than_clusters_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"3 real images of a class out among 5 .*guidance\.reference_size"):
        cluster_weights(torch.randn(3, 2), 5)


@pytest.mark.parametrize("strength", [0.3, "auto"])
@pytest.mark.parametrize("repulsion", [0.0, 1.0])
def test_image_i_is_pulled_by_cluster_i_alone(strength: Any, repulsion: float, bench: Any, units: Any) -> None:
    """The direction of an image's pull does not change when another cluster's real features do."""
    b = bench(real=8, steps=3)
    s = b.sampler
    guidance = Representativeness(
        strength=strength, repulsion=repulsion, reference="cluster", tap="block.1", interval=(0.0, 0.9)
    )
    assert guidance.couples
    reference = Reference.of(guidance, s.backbone, b.source, s.classes, s.chain, ipc=2, rows=8)
    assert torch.isfinite(b.sample(units([0, 1], 2), b.guided(guidance, reference))).all()
    weights = cluster_weights(reference.latents(0), 2)
    rows = torch.randn(2, 5, generator=torch.Generator().manual_seed(1))
    real = torch.randn(8, 5, generator=torch.Generator().manual_seed(2))
    other = torch.where(weights[1][:, None] > 0, real + 1, real)
    slope, changed = (guidance.pull(rows, [features], weights)[0] for features in (real, other))
    torch.testing.assert_close(slope[0], changed[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(slope[1], changed[1], rtol=1e-2)


@pytest.mark.parametrize("ipc", [1, 3])
def test_images_begin_at_the_real_one_nearest_to_the_mean_of_their_cluster(ipc: int, bench: Any, units: Any) -> None:
    b = bench(real=9, steps=2)
    reference = b.reference(rows=9, ipc=ipc)
    begun = Representativeness(strength="auto", reference="cluster").starts(reference, units([1, 0], ipc))
    assert begun.shape == (2 * ipc, *b.sampler.backbone.latent_shape)
    for row, unit in zip(begun, units([1, 0], ipc), strict=True):
        x_0, weights = reference.latents(unit.label), clusters_of(reference, unit.label)
        assert weights is not None
        members = x_0[weights[unit.index] > 0]
        apart = (members - members.mean(0)).flatten(1).norm(dim=1)
        assert torch.equal(row, members[apart.argmin()])


@pytest.mark.parametrize("options", [{"reference": "class"}, {"reference": "cluster"}])
def test_without_clusters_or_enough_of_them_image_i_begins_at_real_image_i(
    options: dict[str, str], bench: Any, units: Any
) -> None:
    b = bench(real=3, steps=2)
    reference = b.reference(rows=3, ipc=4)
    begun = Representativeness(strength=0.1, **options).starts(reference, units([0], 4))
    assert torch.equal(begun, reference.latents(0)[[0, 1, 2, 0]])


def test_the_middle_of_a_pair_is_its_first_whatever_rounding_says() -> None:
    rows = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    weights = torch.zeros(20, 40)
    for k in range(20):
        weights[k, [k, k + 20]] = 0.5  # both equally far from their mean
    assert torch.equal(middles_of(rows, weights), rows[:20])
