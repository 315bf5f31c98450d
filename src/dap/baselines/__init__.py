"""What a distilled set is compared with: selections of real images."""

from dap.baselines.select import SELECTIONS, random_subset

__all__ = ["SELECTIONS", "random_subset"]
