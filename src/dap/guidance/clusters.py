"""The clustered reference: the real images of a class divided into IPC clusters, image i guided by cluster i alone."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dap.errors import ConfigError
from dap.noise import neighbours

if TYPE_CHECKING:
    from dap.reference import Reference


def clusters_of(reference: Reference, label: int) -> Tensor | None:
    """W [ipc, N] of `cluster_weights`: the class's real images divided among its synthetic ones, pairs together.

    None for a class of fewer images than synthetic ones: they all see all of them.
    """
    x_0 = reference.latents(label)
    if len(x_0) < reference.ipc:
        return None
    return cluster_weights(x_0, reference.ipc, partner=neighbours(x_0.flatten(1)))


def cluster_weights(rows: Tensor, count: int, seed: int = 0, partner: Tensor | None = None) -> Tensor:
    """W [count, N]: row i is 1/n over the n real images of cluster i, else 0; every image is in one cluster.

    rows     [N, F]; k-means (Lloyd, k-means++ seeds, the best of 4). No cluster is empty: one that duplicates leave
             empty takes the image farthest from its centre among the clusters that can spare one.
    partner  [N] of `dap.noise.neighbours`: pairs stay together, where there are enough of them, so that the noise
             of a pair cancels within its cluster

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
    """The cluster of each row, int64 [N], none of them empty."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it warns of duplicates, which are mended below
        found = KMeans(count, n_init=4, random_state=seed).fit(flat.numpy())
    member = torch.from_numpy(found.labels_).long()
    distance = (flat - torch.from_numpy(found.cluster_centers_)[member]).norm(dim=1)
    for empty in [k for k in range(count) if not (member == k).any()]:
        sizes = torch.bincount(member, minlength=count)
        spare = torch.where(sizes[member] > 1, distance, -1.0)
        member[int(spare.argmax())] = empty
    return member
