"""Which rows of a feature matrix stand best for all of them: herding, k-means and k-center. Numbers in, rows out.

Features are [n, F] of any float type, the images of one class; what comes back is int64 [ipc], in the order chosen,
no row twice. All compute in float64 about the mean, where distances lose nothing.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from dap.errors import DataError


def herding_rows(features: Tensor, ipc: int) -> Tensor:
    """Rows whose running mean stays as near to the mean of all as one further row can bring it.

    Welling 2009 ("Herding dynamical weights to learn"), greedily and without repeats, as coresets use it:
    row k minimises |mean - (sum of the rows before + row) / k|. The first is the row nearest to the mean.
    Equally good rows: the first. Nothing is random. Raises: DataError when n < ipc or ipc < 1.
    """
    centred = _centred(features, ipc)
    squares, total = centred.square().sum(1), torch.zeros_like(centred[0])
    chosen: list[int] = []
    for _ in range(ipc):
        # |0 - (total + x) / k|^2 without what all rows share
        cost = squares + 2 * (centred @ total)
        cost[chosen] = torch.inf
        chosen.append(int(cost.argmin()))
        total += centred[chosen[-1]]
    return torch.tensor(chosen)


def kmeans_rows(features: Tensor, ipc: int, seed: int) -> Tensor:
    """The rows nearest to the `ipc` centres of k-means (k-means++ from `seed`), one each.

    Where two centres have the same nearest row, rows are handed out so that the squared distances sum to the least.
    Raises: DataError when n < ipc or ipc < 1.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.cluster import KMeans

    centred = _centred(features, ipc)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer different rows than centres: the hand-out still finds `ipc` rows
        found = KMeans(ipc, n_init=1, random_state=seed).fit(centred.numpy())
    centres = torch.from_numpy(found.cluster_centers_)
    return torch.from_numpy(linear_sum_assignment(torch.cdist(centres, centred).square().numpy())[1])


def kcenter_rows(features: Tensor, ipc: int) -> Tensor:
    """Rows that leave no other row far away: each next one is the farthest from those before (Gonzalez 1985).

    Starts at the row nearest to the mean; equally far rows: the first. The largest distance left is at most twice
    what any `ipc` rows could leave. Nothing is random. Raises: DataError when n < ipc or ipc < 1.
    """
    centred = _centred(features, ipc)
    chosen = [int(centred.square().sum(1).argmin())]
    far = (centred - centred[chosen[0]]).square().sum(1)
    for _ in range(1, ipc):
        far[chosen] = -1.0
        chosen.append(int(far.argmax()))
        far = torch.minimum(far, (centred - centred[chosen[-1]]).square().sum(1))
    return torch.tensor(chosen)


def _centred(features: Tensor, ipc: int) -> Tensor:
    if not 1 <= ipc <= len(features):
        raise DataError(f"{ipc} of {len(features)} rows were asked for; ask for 1 to {len(features)}")
    wide = features.detach().cpu().double()
    return wide - wide.mean(0)
