"""The clustered reference: the real images of a class divided into IPC clusters, image i guided by cluster i alone.

Clusters are of equal size (balanced k-means: Bradley, Bennett and Demiriz 2000), since a network weighs all the images
that it is trained on alike: each must stand for as many real ones. Plain k-means gives outliers images of their own.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dap.errors import ConfigError
from dap.noise import neighbours

if TYPE_CHECKING:
    from dap.reference import Reference

AT_ONCE = 1024  # rows that are shared out together, so that time and memory grow with N alone
ROUNDS = 20


def clusters_of(reference: Reference, label: int) -> Tensor | None:
    """W [ipc, N] of `cluster_weights`: the class's real images divided among its synthetic ones, pairs together.

    None for a class of fewer images than synthetic ones: they all see all of them. Divided once, then kept.
    """
    if label not in reference.divided:
        x_0 = reference.latents(label)
        few = len(x_0) < reference.ipc
        shares = None if few else cluster_weights(x_0, reference.ipc, partner=neighbours(x_0.flatten(1)))
        reference.divided[label] = shares
    return reference.divided[label]


def middles_of(x_0: Tensor, weights: Tensor) -> Tensor:
    """x_0 [ipc, C, H, W] of each cluster's real image nearest to its mean, of x_0 [N, C, H, W] and W [ipc, N]."""
    flat, weights = x_0.flatten(1).double().cpu(), weights.double()
    far = torch.cdist(weights @ flat, flat).round(decimals=5)  # else rounding decides between the two of a pair
    far.masked_fill_(weights == 0, torch.inf)
    return x_0[far.argmin(1).to(x_0.device)]


def cluster_weights(rows: Tensor, count: int, seed: int = 0, partner: Tensor | None = None) -> Tensor:
    """W [count, N]: row i is 1/n over the n real images of cluster i, else 0; every image is in one cluster.

    rows     [N, F]; clusters of N/count images, give or take one, shared out at the least sum of squared distances to
             their means (beyond 1024 at a time: in random parts, which may differ by one each)
    partner  [N] of `dap.noise.neighbours`: pairs stay together, where there are enough of them, so that the noise
             of a pair cancels within its cluster; then it is pairs that are shared out, give or take one pair

    Raises: ConfigError when there are fewer images than clusters.
    """
    if len(rows) < count:
        raise ConfigError(
            f"reference 'cluster' shares {len(rows)} real images of a class out among {count} synthetic ones; use a "
            "larger --set guidance.reference_size, a smaller --ipc, or --set guidance.reference=class"
        )
    flat = rows.flatten(1).double().cpu()
    own = torch.arange(len(flat))
    pair = own if partner is None else torch.minimum(own, partner)
    leaders, of_leader = pair.unique(return_inverse=True)
    if len(leaders) < count:
        leaders, of_leader = own, own
    middle = torch.zeros(len(leaders), flat.shape[1], dtype=flat.dtype).index_add_(0, of_leader, flat)
    middle /= torch.bincount(of_leader)[:, None]
    member = _members(middle, count, seed)[of_leader]
    weights = torch.nn.functional.one_hot(member, count).T.float()
    return weights / weights.sum(1, keepdim=True)


def _members(flat: Tensor, count: int, seed: int) -> Tensor:
    """The cluster of each row, int64 [N]: from k-means' centres on, shares and means in turn until nothing moves."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of duplicates, which are shared out like all others
        centres = torch.from_numpy(KMeans(count, n_init=4, random_state=seed).fit(flat.numpy()).cluster_centers_)
    order = torch.randperm(len(flat), generator=torch.Generator().manual_seed(seed))  # so that parts are like the whole
    found, member = torch.zeros(len(flat), dtype=torch.int64), torch.zeros(0)
    for _ in range(ROUNDS):
        for part in order.split(max(AT_ONCE, count)):
            found[part] = _shared_out(flat[part], centres)
        if torch.equal(found, member):
            break
        member = found.clone()
        centres = torch.stack([flat[member == k].mean(0) for k in range(count)])
    return member


def _shared_out(flat: Tensor, centres: Tensor) -> Tensor:
    """The centre of each row [n] at the least sum of squared distances, n // count or one more of them at each."""
    from scipy.optimize import linear_sum_assignment

    count = len(centres)
    cost = torch.cdist(flat, centres).square()
    must = cost.repeat(1, len(flat) // count) - cost.sum()  # places that have to be taken, then one more at each centre
    return torch.from_numpy(linear_sum_assignment(torch.cat([must, cost], 1).numpy())[1]) % count
