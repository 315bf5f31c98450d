"""The clustered reference: the real images of a class divided into IPC clusters, image i guided by cluster i alone."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from dap.errors import ConfigError


def cluster_weights(rows: Tensor, count: int, seed: int = 0) -> Tensor:
    """W [count, N]: row i is 1/n over the n real images of cluster i, else 0; every image is in one cluster.

    rows  [N, F]; k-means (Lloyd, k-means++ seeds, the best of 4). No cluster is empty: one that duplicates leave empty
          takes the image farthest from its centre among the clusters that can spare one.

    Raises: ConfigError when there are fewer images than clusters.
    """
    if len(rows) < count:
        raise ConfigError(
            f"reference 'cluster' shares {len(rows)} real images of a class out among {count} synthetic ones; use a "
            "larger --set guidance.reference_size, a smaller --ipc, or --set guidance.reference=class"
        )
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    flat = rows.flatten(1).double().cpu()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it warns of duplicates, which are mended below
        found = KMeans(count, n_init=4, random_state=seed).fit(flat.numpy())
    member = torch.from_numpy(found.labels_).long()
    distance = (flat - torch.from_numpy(found.cluster_centers_)[member]).norm(dim=1)
    for empty in [k for k in range(count) if not (member == k).any()]:
        sizes = torch.bincount(member, minlength=count)
        spare = torch.where(sizes[member] > 1, distance, -1.0)
        member[int(spare.argmax())] = empty
    weights = torch.nn.functional.one_hot(member, count).T.float()
    return weights / weights.sum(1, keepdim=True)
