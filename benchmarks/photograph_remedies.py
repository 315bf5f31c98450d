"""Other ways to divide the real images of a class among its synthetic ones, tried on photographs.

`divided` pixels as `dap` does, or features: of the tap, at the last noise level but one; `balanced`: each image stands
for as many real ones (Bradley, Bennett and Demiriz 2000), as the network that is trained on them weighs all alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from unittest.mock import patch

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from dap.backbones.base import Backbone
from dap.guidance import Representativeness, representativeness
from dap.guidance.base import Shift
from dap.guidance.clusters import cluster_weights
from dap.noise import neighbours
from dap.reference import Reference
from dap.types import Step


@dataclass(frozen=True, kw_only=True)
class Divided(Representativeness):
    """The preset with other clusters."""

    divided: str = "pixels"
    balanced: bool = False

    def prepare(self, backbone: Backbone, reference: Reference) -> Shift:
        """As ever, with `clusters` in the place of k-means on pixels, for as long as a shift is computed."""
        shift = super().prepare(backbone, reference)

        def divided(step: Step) -> Tensor:
            with patch.object(representativeness, "clusters_of", self.clusters):
                return shift(step)

        return divided

    def clusters(self, reference: Reference, label: int) -> Tensor:
        """W [ipc, N]."""
        x_0 = reference.latents(label)
        partner = neighbours(x_0.flatten(1))
        rows = x_0.flatten(1)
        if self.divided == "features":
            rows = reference.features(label, reference.anchor_steps[-2])
        weights = cluster_weights(rows, reference.ipc, partner=partner)
        return equal_shares(rows.double(), weights, partner) if self.balanced else weights


def equal_shares(rows: Tensor, weights: Tensor, partner: Tensor, rounds: int = 20) -> Tensor:
    """Clusters of at most N/I pairs, rounded up: each round assigns the pairs to the centres at the least cost."""
    own = torch.arange(len(rows))
    leaders, of_leader = torch.minimum(own, partner).unique(return_inverse=True)
    share = torch.nn.functional.one_hot(of_leader).double()
    middle = (share / share.sum(0)).T @ rows
    centres, member = weights.double() @ rows, torch.zeros(0)
    for _ in range(rounds):
        cost = torch.cdist(middle, centres).square().repeat(1, -(-len(leaders) // len(centres)))
        found = torch.from_numpy(linear_sum_assignment(cost.numpy())[1]) % len(centres)
        if torch.equal(found, member):
            break
        member = found
        centres = torch.stack([middle[member == k].mean(0) for k in range(len(centres))])
    new = torch.nn.functional.one_hot(member[of_leader], len(centres)).T.float()
    return new / new.sum(1, keepdim=True)
