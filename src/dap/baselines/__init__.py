"""What a distilled set is compared with: selections of real images."""

from dap.baselines.rows import herding_rows, kcenter_rows, kmeans_rows
from dap.baselines.select import (
    SELECTIONS,
    herding_subset,
    kcenter_subset,
    kmeans_subset,
    random_subset,
    require_enough,
)

__all__ = [
    "SELECTIONS",
    "herding_rows",
    "herding_subset",
    "kcenter_rows",
    "kcenter_subset",
    "kmeans_rows",
    "kmeans_subset",
    "random_subset",
    "require_enough",
]
