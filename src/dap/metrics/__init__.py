"""How well a set stands for real images, in numbers: features in, numbers out.

Reading order: scores.py (the formulas), distances.py (pairs in blocks), features.py (images -> rows), measuring.py.
"""

from __future__ import annotations

from dap.metrics.measuring import measure
from dap.metrics.scores import Real, Scores, interval, score, vendi

__all__ = ["Real", "Scores", "interval", "measure", "score", "vendi"]
