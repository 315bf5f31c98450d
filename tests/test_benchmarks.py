"""Benchmarks run: the recommended guidance on backbones of the published kinds, at tiny size."""

import runpy
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from dap.guidance.clusters import clusters_of

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("model", ["dit", "sd"])
def test_backbones_measures_the_recommended_guidance_with_warm_real_features(
    model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.chdir(tmp_path)
    script = runpy.run_path(str(BENCHMARKS / "backbones.py"), run_name="backbones_of_a_test")
    how = {"device": "cpu", "dtype": "fp32", "compile": False, "tiny": True, "micro_batch": None}
    bench = script["Bench"](Namespace(model=model, images=2, **how))
    extracted: list[int] = []
    bench.reference.on_extract = extracted.append
    plain, guided = (list(bench.states(on, 2))[-1].x for on in (False, True))
    assert not torch.equal(plain, guided)
    assert bench.guidance.reference == "cluster"
    assert clusters_of(bench.reference, 0).shape == (2, 24)
    assert not extracted  # warm
    assert 0 < bench.reference.anchors(1)[2] < 1  # between two anchors
    assert not list(tmp_path.iterdir())
