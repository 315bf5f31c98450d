"""Real images to train on, and others to judge by."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluation_sets import NAMES, folder


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("real") / "train", dict.fromkeys(NAMES, 12))


@pytest.fixture(scope="session")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("real") / "test", {"apple": 5, "pear": 6, "plum": 7}, seed=1)
