"""Several sets in one report: short names, and only numbers that compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report_sets import evaluation

from dap.config import MetricsConfig
from dap.metrics import measure
from dap.reporting import report
from dap.reporting.figures import figures
from dap.reporting.reading import SetView, read_set
from dap.reporting.together import short_names, spaces, together
from small_sets import distilled, folder

PIXELS = MetricsConfig(features="pixels", points=0)


@pytest.fixture
def real(tmp_path: Path) -> Path:
    return folder(tmp_path / "real")


def rows_of(name: str, *paths: Path) -> list[list[str]]:
    """The numbers of a figure, by its name."""
    found = {figure.name: figure for figure in figures(together([read_set(path) for path in paths]))}
    return [list(row) for row in found[name].rows]


def caption_of(name: str, *paths: Path) -> str:
    return next(f.caption for f in figures(together([read_set(path) for path in paths])) if f.name == name)


def in_other_features(path: Path, name: str = "resnet18") -> None:
    """A measurement of the set, as if it had been made in another space."""
    (file,) = (path / "metrics").glob("*.json")
    record: dict[str, Any] = json.loads(file.read_text())
    record["features"] = {"name": name}
    record["representativeness"]["energy_distance"]["mean"] = 77.7
    file.with_name(f"{name}.json").write_text(json.dumps(record))


def text_of(view: SetView) -> str:
    return " ".join(view.warnings)


def test_names_lose_what_they_share() -> None:
    assert short_names(["/a/runs/ipc-1/dap", "/a/runs/ipc-10/dap/"]) == ["ipc-1/dap", "ipc-10/dap"]
    assert short_names(["/a/runs/one"]) == ["/a/runs/one"]
    assert short_names(["a", "a/b"]) == ["a", "a/b"], "no name is empty"
    assert short_names(["a/b", "a/b"]) == ["a/b", "a/b"]


def test_metrics_in_other_features_are_never_side_by_side(real: Path, tmp_path: Path) -> None:
    one, two, third = (distilled(tmp_path / name, real, seed=k) for k, name in enumerate(("one", "two", "third")))
    measure([one, two, third], real, config=PIXELS)
    in_other_features(two)
    in_other_features(third)
    for file in (third / "metrics").glob("pixels*"):
        file.unlink()
    first, second, last = together([read_set(path) for path in (one, two, third)])
    assert second.metrics is not None
    assert second.metrics["features"]["name"] == "pixels", "an older measurement that compares, not the newest"
    assert last.metrics is None
    assert f"measured otherwise than {one}" in text_of(last)
    assert not first.warnings
    assert [row[0] for row in rows_of("radar", one, two, third)] == ["set", "one", "two", "as many random real images"]


def test_every_space_in_which_a_set_was_measured_has_its_table(real: Path, tmp_path: Path) -> None:
    out = distilled(tmp_path / "d", real)
    measure([out], real, config=PIXELS)
    in_other_features(out)
    (view,) = together([read_set(out)])
    assert [found[0][1]["features"]["name"] for found in spaces([view])] == ["resnet18", "pixels"]
    report([out])
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "In the features “pixels”, against 18 real images" in text
    assert "In the features “resnet18”" in text
    assert "77.7" in text


def test_a_radar_has_accuracies_of_one_protocol_and_those_of_random_real_images(real: Path, tmp_path: Path) -> None:
    one, two = (distilled(tmp_path / name, real, seed=k) for k, name in enumerate(("one", "two")))
    measure([one, two], real, config=PIXELS)
    evaluation(one, "one", mean=0.8)
    evaluation(two, "two", mean=0.9, protocol="hard-large")
    rows = {row[0]: row[1] for row in rows_of("radar", one, two)}
    assert rows == {"set": "accuracy", "one": "80", "two": "–", "as many random real images": "70"}


def test_a_radar_names_the_sets_of_other_sizes_that_it_leaves_out(real: Path, tmp_path: Path) -> None:
    one, small, two = (distilled(tmp_path / name, real, ipc=k) for name, k in (("one", 3), ("small", 1), ("two", 3)))
    measure([one, small, two], real, config=PIXELS)
    said = "Sets of 3 images a class only: small, of another size, would not compare."
    assert said in caption_of("radar", one, small, two)
    assert "only" not in caption_of("radar", one, two)
    assert [row[0] for row in rows_of("radar", one, small, two)][1:3] == ["one", "two"]


def test_sets_of_other_seeds_are_one_point_with_the_spread_between_them(real: Path, tmp_path: Path) -> None:
    paths = [distilled(tmp_path / f"seed-{seed}", real, seed=seed) for seed in (0, 1)]
    paths.append(distilled(tmp_path / "small", real, ipc=1))
    for path, mean, ipc in zip(paths, (0.80, 0.90, 0.5), (3, 3, 1), strict=True):
        evaluation(path, str(path), ipc=ipc, mean=mean)
    assert rows_of("accuracy_by_ipc", *paths)[1] == ["dap, 0.3", "50.0", "85.0"]
    assert rows_of("accuracy_by_ipc", *paths)[2][0] == "random real images", "real images last, in grey"


def test_what_papers_report_stands_hollow_beside_the_like(real: Path, tmp_path: Path) -> None:
    out = distilled(tmp_path / "d", real)
    file = evaluation(out, "d")
    record = json.loads(file.read_text())
    cell = {"method": "Minimax", "mean": 0.777, "sd": 0.004, "source": "Table <3>"}
    record["results"][0]["published"] = [cell, {"method": "none"}, "odd"]
    file.write_text(json.dumps(record))
    rows = rows_of("accuracy", out)
    assert [row[0] for row in rows if row[-1] == "published"] == ["Minimax, IPC 3, published"]
    report([out])
    text = (out / "report.html").read_text(encoding="utf-8")
    assert 'Minimax <span class="quiet">published, Table &lt;3&gt;</span>' in text
    assert "77.7 ± 0.4" in text


def test_names_are_short_and_commands_are_whole(real: Path, tmp_path: Path) -> None:
    one, two = (distilled(tmp_path / "runs" / name, f"{real}", seed=k) for k, name in enumerate(("one", "two")))
    measure([one], real, config=PIXELS)
    found = report([one, two], tmp_path / "both.html")
    text = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert '<dd dir="auto">one</dd>' in text
    plain = text.replace("<span>", "").replace("</span>", "")
    assert f"--out {one}" in plain
    assert f"dap evaluate {one} {two} --test {real}:test --baseline random" in plain
    assert f"dap measure {two} --reference {real} --test {real}:test" in plain
    assert "Not measured yet (two)" in text
    assert found["warnings"] == []


def test_the_split_that_was_distilled_is_the_reference(tmp_path: Path) -> None:
    from dap.reporting.limits import real_data

    out = distilled(tmp_path / "d", "photos")
    assert real_data(read_set(out)) == ("photos", "photos:test")
    view = read_set(out)
    view.store.config["config"]["data"]["split"] = "train"
    assert real_data(view) == ("photos:train", "photos:test")
    view.store.config["config"]["data"].update(source="hf:a/b", split=None)
    assert real_data(view) == ("hf:a/b", "hf:a/b")


def test_the_digits_are_judged_by_the_protocol_for_small_images(tmp_path: Path) -> None:
    out = distilled(tmp_path / "d", "digits:train")
    report([out])
    text = (out / "report.html").read_text(encoding="utf-8").replace("<span>", "").replace("</span>", "")
    assert f"dap evaluate {out} --test digits:test --baseline random --protocol hard-tiny" in text
