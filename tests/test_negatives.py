"""The pool of negatives: whom it shows, that one serves all classes, and that it is kept like any class's features."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dap.config import GuidanceConfig, load_config
from dap.distillation import open_job
from dap.guidance import Representativeness, load_guidance
from dap.negatives import NEGATIVES, negatives_wanted, pool_of
from dap.reference import Reference
from dap.resolution import reference_of
from dap.testing import tiny_dit, tiny_source

TAP = "block.1"


@pytest.mark.parametrize("classes", [2, 3, 10, 97, 98, 1000])
def test_every_class_sees_as_many_of_the_others_and_the_pool_does_not_grow_with_their_number(classes: int) -> None:
    pool = pool_of([500] * classes, 96)
    labels = [label for label, _ in pool]
    assert labels == sorted(set(labels))
    assert labels[-1] < classes
    foreign = [sum(count for other, count in pool if other != label) for label in range(classes)]
    assert min(foreign) >= 96
    assert sum(count for _, count in pool) <= 2 * 96


def test_classes_of_few_images_show_what_they_have() -> None:
    assert pool_of([3, 50, 1], 20) == ((0, 3), (1, 10), (2, 1))


@pytest.mark.parametrize(("counts", "most"), [([5], 96), ([], 96), ([5, 5], 0)])
def test_without_other_classes_or_unasked_there_is_no_pool(counts: list[int], most: int) -> None:
    assert pool_of(counts, most) == ()


def test_negatives_are_the_first_images_of_the_other_classes_each_seen_as_its_own_class(bench: Any) -> None:
    b = bench(real=5)
    reference, backbone, chain = b.reference(negative_rows=4, rows=4), b.sampler.backbone, b.sampler.chain
    classes = len(backbone.class_names)
    pool = [(k, i) for k, count in reference.negative_pool for i in range(count)]
    x_0 = torch.cat([reference.latents(k)[i : i + 1] for k, i in pool])
    x_t = chain.noised(x_0, reference.noise(classes, x_0), chain.timesteps[2])
    condition = backbone.condition([k for k, _ in pool])
    all_rows = backbone.tap_features(x_t, chain.timesteps[2], condition, TAP).flatten(1)
    for label in range(classes):
        expected = all_rows[[k != label for k, _ in pool]]
        found = reference.negatives(label, 2)
        assert len(found) >= 4
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)  # half precision


def test_one_class_or_no_wish_for_any_gives_none(bench: Any) -> None:
    assert bench().reference().negatives(0, 1) is None
    assert bench(tiny_dit(classes=1)).reference(negative_rows=4).negatives(0, 1) is None


def test_the_pool_is_extracted_once_for_all_classes(bench: Any) -> None:
    reference = bench(real=5).reference(negative_rows=4, rows=100)
    seen: list[int] = []
    reference.on_extract = seen.append
    for label in range(len(reference.classes)):
        reference.negatives(label, 1)
    assert seen == [sum(count for _, count in reference.negative_pool)]


def test_a_cache_keeps_the_pool_and_other_images_of_any_class_are_another_pool(tmp_path: Path) -> None:
    data = {"source": "digits:train"}
    config = load_config(data=data, run={"ipc": 1, "reference_cache": str(tmp_path)}, sampling={"steps": 4})
    job = open_job(config, tmp_path / "never-written")
    reference = job.reference
    assert reference is not None
    assert reference.bank is not None
    reference.bank.prepare()
    pool = len(reference.classes)
    assert (pool, 2) in reference.shapes()
    kept = reference.negatives(0, 2)
    fresh = reference_of(job.config, job.backbone, job.guidance, job.sampler, job.source)  # type: ignore[arg-type]
    seen: list[int] = []
    fresh.on_extract = seen.append
    assert torch.equal(fresh.negatives(0, 2), kept)  # type: ignore[arg-type]
    assert not seen
    fewer = replace(job.source, keys=(*job.source.keys[:-1], job.source.keys[-1][:-1]))
    other = reference_of(job.config, job.backbone, job.guidance, job.sampler, fewer)  # type: ignore[arg-type]
    assert other.bank is not None
    assert other.bank.entry(pool, 2) != reference.bank.entry(pool, 2)
    assert other.bank.entry(0, 2) == reference.bank.entry(0, 2)


@pytest.mark.parametrize(("couples", "ipc", "wanted"), [(True, 8, NEGATIVES), (True, 9, 0), (False, 500, NEGATIVES)])
def test_where_a_set_shares_the_contrast_out_until_none_feels_it_there_is_no_pool(
    couples: bool, ipc: int, wanted: int
) -> None:
    guidance = Representativeness(strength="auto", contrast=0.8, repulsion=1.0 if couples else 0.0)
    assert negatives_wanted(guidance, ipc) == wanted
    assert negatives_wanted(replace(guidance, contrast=0.0), 1) == 0


def test_a_set_too_large_to_feel_it_is_the_set_without_contrast_bit_for_bit(bench: Any, units: Any) -> None:
    b, guidance = bench(real=12), Representativeness(strength="auto", repulsion=1.0, contrast=0.8)

    def made(contrast: float, ipc: int) -> torch.Tensor:
        one, s = replace(guidance, contrast=contrast), b.sampler
        reference = Reference.of(one.resolved(s.backbone), s.backbone, b.source, s.classes, s.chain, ipc=ipc, rows=4)
        found: torch.Tensor = b.sample(units([0], ipc), b.guided(one, reference))
        return found

    assert torch.equal(made(0.8, 9), made(0.0, 9))
    assert not torch.equal(made(0.8, 2), made(0.0, 2))


def test_and_its_record_says_so(tmp_path: Path) -> None:
    def digest(ipc: int, **options: Any) -> str:
        config = load_config(data={"source": "digits:train"}, guidance={"name": "dap", **options}, run={"ipc": ipc})
        found: str = open_job(config, tmp_path / "never").record["digest"]
        return found

    assert digest(9) == digest(9, contrast=0.0)
    assert digest(8) != digest(8, contrast=0.0)


def test_the_preset_asks_for_negatives_and_the_paper_does_not(bench: Any) -> None:
    b = bench()
    for name, wanted in (("dap", NEGATIVES), ("dap-paper", 0)):
        guidance: Any = load_guidance(GuidanceConfig(name=name))
        guidance = guidance.resolved(b.sampler.backbone)
        s = b.sampler
        source = tiny_source(s.backbone.class_names, 200)
        reference = Reference.of(guidance, s.backbone, source, s.classes, s.chain, rows=3)
        assert reference.negative_pool == pool_of(source.counts, wanted)
