"""What a report holds, without a browser: facts, commands, words for what is missing; and refusals in one line."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report_sets import EVIL, MARKUP, evaluation

import dap
from dap.config import MetricsConfig
from dap.data import open_dataset
from dap.errors import ConfigError, StoreError
from dap.metrics import measure
from dap.reporting import report
from dap.reporting.gallery import MOST_PICTURES, shown
from dap.reporting.html import embedded
from dap.reporting.reading import read_set
from dap.store import Store
from small_sets import distilled, folder

PIXELS = MetricsConfig(features="pixels")


def text_of(path: Path) -> str:
    return (path / "report.html").read_text(encoding="utf-8")


def data_of(path: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text_of(path), re.DOTALL)
    assert found is not None
    record: dict[str, Any] = json.loads(found.group(1))
    return record


def test_the_file_holds_the_set(whole: Path) -> None:
    (one,) = data_of(whole)["sets"]
    assert [c["name"] for c in one["classes"]] == list(EVIL)
    rows = {(row["label"], row["index"]): row for row in Store.open(whole).rows()}
    for c in one["classes"]:
        for index, seed, chunk, thumb, near, key, distance, copy, name in c["images"]:
            row = rows[c["label"], index]
            assert (seed, chunk, name) == (str(row["seed"]), row["chunk"], row["path"].rpartition("/")[2])
            assert thumb.startswith("data:image/webp;base64,")
            assert one["nearest"][near].startswith("data:image/webp;base64,")
            assert key
            assert distance > 0
            assert type(copy) is bool
    assert [m["name"] for m in one["maps"]] == ["train", "test"]
    kinds = {point[0] for m in one["maps"] for point in m["points"]}
    assert kinds == {0, -1}


def test_the_words_of_a_report(whole: Path) -> None:
    text = text_of(whole)
    assert "9 images in place of 27 real ones" in text
    assert "80.0" in text, "the headline is the last accuracy"
    assert "out of memory: micro-batch 2 instead of 4" in text
    for heading in ("Gallery", "Metrics", "Evaluation", "Figures", "How it was made", "What this does not show"):
        assert f">{heading}</h2>" in text
    assert "Only convnet-3 was trained" in text
    assert "Metrics are those of pixels" in text
    assert "How &lt;img src=x" in text, "the trace"


def test_nothing_planted_is_markup(whole: Path) -> None:
    text = text_of(whole)
    assert text.count("<script") == 2
    assert MARKUP not in text
    assert "<img src=x" not in text
    assert "alert(4)" in text, "the file's name is there, as text"
    body = re.sub(r"<(style|script)\b.*?</\1>", "", text, flags=re.DOTALL)
    assert not re.search(r"\son\w+\s*=\s*[\"']", re.sub(r'"[^"]*"', '""', body)), "no handler in any attribute"
    assert not re.search(r'(?:src|href)="(?!data:|#)', body), "nothing is loaded from anywhere"


def test_json_in_the_page_cannot_end_its_element() -> None:
    text = embedded({"a": "</script><!--<script>", "b": "&amp;\u2028"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": "</script><!--<script>", "b": "&amp;\u2028"}


def test_figures_lie_beside_the_report(whole: Path) -> None:
    names = {p.name for p in (whole / "report-figures").iterdir()}
    stems = {"radar", "accuracy", "map_train", "map_test", "neighbours", "cost", "trajectory_0_0"}
    assert names == {f"{stem}.{kind}" for stem in stems for kind in ("svg", "png")}
    for path in (whole / "report-figures").glob("*.svg"):
        assert b"<script" not in path.read_bytes()
    assert not Store.open(whole).verify(), "a report is no part of the set"


def test_the_same_set_gives_the_same_report(whole: Path, tmp_path: Path) -> None:
    first = report([whole], tmp_path / "a" / "r.html")
    second = report([whole], tmp_path / "b" / "r.html")
    assert Path(first["report"]).read_bytes() == Path(second["report"]).read_bytes()
    assert (tmp_path / "a" / "r-figures" / "radar.svg").exists()
    assert first["shown"] == first["images"] == 9


def test_what_is_missing_is_named_with_its_command(tmp_path: Path) -> None:
    out = distilled(tmp_path / "bare set", "photos:train")
    report([out])
    text = text_of(out)
    assert "Not evaluated yet" in text
    assert "Not measured yet" in text
    plain = re.sub(r"</?span>", "", text)
    assert f"dap evaluate &#39;{out}&#39; --test photos:test --baseline random --protocol hard-tiny<" in plain
    assert f"dap measure &#39;{out}&#39; --reference photos:train --test photos:test" in plain
    assert 'id="map"' not in text
    assert "nearest real image: not measured" in text


def test_no_more_random_real_images_are_asked_for_than_there_are(tmp_path: Path) -> None:
    out = distilled(tmp_path / "d", "photos:train", ipc=10)  # of nine real ones
    report([out])
    assert f"dap evaluate {out} --test photos:test --protocol hard-tiny<" in re.sub(r"</?span>", "", text_of(out))


def test_images_deleted_after_the_run_are_counted(tmp_path: Path) -> None:
    out = distilled(tmp_path / "d", "nowhere")
    (out / "data" / "pear" / "00001.png").unlink()
    (out / "data" / "pear" / "00002.png").write_bytes(b"no image any more")
    found = report([out])
    assert any("1 images have been deleted (first data/pear/00001.png)" in line for line in found["warnings"])
    thumbs = [image[3] for c in data_of(out)["sets"][0]["classes"] for image in c["images"]]
    assert [thumb is None for thumb in thumbs] == [False] * 4 + [True, True]


def test_real_images_that_are_gone_leave_their_names(whole: Path, tmp_path: Path) -> None:
    real = folder(tmp_path / "real")
    out = distilled(tmp_path / "d", real)
    measure([out], real, config=PIXELS)
    shutil.rmtree(real)
    report([out])
    image = data_of(out)["sets"][0]["classes"][0]["images"][0]
    assert image[4] == -1
    assert image[5].endswith(".png")


def test_a_reference_on_the_hub_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dap.reporting.thumbnails.open_dataset", lambda *a, **k: pytest.fail("fetched"))
    out = distilled(tmp_path / "d", "x")
    (out / "metrics").mkdir()
    record = {"images": 6, "representativeness": {}, "classes": ["apple", "pear"], "reference": {"name": "hf:a/b"}}
    rows = [["00000.png", "7", 1.0, False]]
    (out / "metrics" / "m.json").write_text(json.dumps({**record, "neighbours": {"apple": rows}}))
    report([out])
    assert data_of(out)["sets"][0]["classes"][0]["images"][0][4:8] == [-1, "7", 1.0, False]


def test_a_neighbour_outside_the_reference_is_never_opened(tmp_path: Path) -> None:
    real = folder(tmp_path / "real")
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    out = distilled(tmp_path / "d", real)
    measure([out], real, config=PIXELS)
    (path,) = (out / "metrics").glob("*.json")
    record = json.loads(path.read_text())
    record["neighbours"]["apple"] = [["00000.png", "../../secret.png", 1.0, False]]
    path.write_text(json.dumps(record))
    report([out])
    one = data_of(out)["sets"][0]
    image = one["classes"][0]["images"][0]
    assert one["nearest"][image[4]] is None


def test_files_that_others_broke_are_warnings_and_odd_fields_are_nothing(tmp_path: Path) -> None:
    out = distilled(tmp_path / "d", "nowhere")
    evaluation(out, "d", future={"field": [1, 2]})
    (out / "evaluation" / "broken.json").write_text("{")
    (out / "evaluation" / "other.json").write_text(json.dumps({"results": [{"set": 3}, None, {"network": "n"}]}))
    (out / "metrics").mkdir()
    (out / "metrics" / "list.json").write_text("[1]")
    (out / "trace" / "apple").mkdir(parents=True)
    (out / "trace" / "apple" / "00000.json").write_text(json.dumps({"class": "apple", "index": 0, "steps": [1]}))
    found = report([out])
    assert sorted(found["warnings"]) == [
        "evaluation/broken.json cannot be read as JSON: make it again",
        "metrics/list.json cannot be read as JSON: make it again",
    ]
    assert len(read_set(out).results) == 3


def test_one_class_and_few_images_are_enough_for_a_report(tmp_path: Path) -> None:
    out = distilled(tmp_path / "d", "nowhere", ipc=1, names=("only",))
    (out / "metrics").mkdir()
    points = [[0, 0, "00000.png", 0.1, 0.1], [-1, 0, "r.png", 0.2, 0.3]]
    record = {"images": 1, "representativeness": {}, "classes": ["only"], "maps": {"train": {"points": points}}}
    (out / "metrics" / "m.json").write_text(json.dumps(record))
    found = report([out])
    assert not [name for name in found["figures"] if "map_" in name], "two points are no map"
    assert "1 image in place of" in text_of(out)


def test_letters_that_the_font_lacks_become_numbers_in_figures(whole: Path) -> None:
    svg = (whole / "report-figures" / "map_train.svg").read_text(encoding="utf-8")
    assert "class 2" in svg
    assert "ユリ" not in svg
    assert "ユリ" in text_of(whole), "the page itself can write it"
    assert "class 2 is ユリ" in text_of(whole)


def test_a_map_on_test_images_is_offered_where_there_is_none(tmp_path: Path) -> None:
    out = distilled(tmp_path / "d", folder(tmp_path / "real"))
    measure([out], config=PIXELS)
    report([out])
    assert f"A second map, on test images: <code>dap measure {out} --reference" in text_of(out)


def test_only_sets_of_one_size_share_a_radar(tmp_path: Path) -> None:
    real = folder(tmp_path / "real")
    sets = [distilled(tmp_path / f"d{ipc}", real, ipc=ipc) for ipc in (2, 4)]
    measure(sets, real, config=PIXELS)
    report(sets)
    radar = (tmp_path / "report-figures" / "radar.svg").read_text(encoding="utf-8")
    assert "d2" in radar
    assert "d4" not in radar, "the energy distance of other sizes does not compare"


def test_sets_are_compared_in_one_file(whole: Path, tmp_path: Path) -> None:
    real = folder(tmp_path / "real")
    one, ten = distilled(tmp_path / "one", real, ipc=2), distilled(tmp_path / "ten", real, ipc=4, seed=1)
    for path, mean in ((one, 0.5), (ten, 0.7)):
        measure([path], real, config=PIXELS)
        evaluation(path, str(path), ipc=2 if path == one else 4, mean=mean)
    found = report([ten, one], tmp_path / "both.html")
    assert found["images"] == 12
    names = {Path(name).name for name in found["figures"]}
    assert "accuracy_by_ipc.svg" in names
    text = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert "accuracy_by_ipc" in text
    assert text.count('type="radio" name="set"') == 2


def test_fifty_thousand_images_are_sampled_and_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dap.reporting.gallery.MOST_PICTURES", 4)
    out = distilled(tmp_path / "d", "nowhere", ipc=5)
    assert report([out])["shown"] == 4
    assert "10 images of" in text_of(out)
    assert "4 are shown: the first of each class" in text_of(out)
    one = data_of(out)["sets"][0]
    assert [[image[0] for image in c["images"]] for c in one["classes"]] == [[0, 1], [0, 1]]
    assert [c["total"] for c in one["classes"]] == [5, 5]
    many = distilled(tmp_path / "many", "nowhere", ipc=1, names=[f"c{k:02d}" for k in range(12)])
    assert [p.label for p in shown(read_set(many), 4)] == [0, 3, 6, 9]
    assert MOST_PICTURES <= 1000


def test_a_thousand_pictures_of_64_pixels_stay_below_8_megabytes(tmp_path: Path) -> None:
    from dap.reporting.thumbnails import thumbnails

    noise = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), dtype=np.uint8)  # nothing compresses worse
    readers = [lambda k=k: Image.fromarray(noise[k % 20]) for k in range(200)]
    found = thumbnails(readers, 400_000)
    assert sum(len(uri or "") for uri in found.uris) < 440_000
    assert found.side < 64
    assert thumbnails(readers[:20], 10**6).side == 64, "no picture is enlarged"


def test_what_is_no_set_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no set to report on"):
        report([])
    with pytest.raises(StoreError, match=r"is no distilled dataset \(found apple, pear, no config.json\)"):
        report([folder(tmp_path / "plain")])
    with pytest.raises(StoreError, match="no such directory"):
        report([tmp_path / "nowhere"])
    with pytest.raises(StoreError, match="is a directory; name a file"):
        report([distilled(tmp_path / "d", "x")], tmp_path)
    empty = distilled(tmp_path / "e", "x")
    for path in (empty / "chunks").iterdir():
        path.unlink()
    with pytest.raises(StoreError, match="has no images yet"):
        report([empty])


def test_the_public_function_is_that_of_the_package(whole: Path, tmp_path: Path) -> None:
    assert dap.report([whole], tmp_path / "r.html")["images"] == 9


def test_an_evaluation_of_other_images_is_left_out_and_said(tmp_path: Path) -> None:
    real = folder(tmp_path / "real", 3)
    one, other = (distilled(tmp_path / name, real, seed=seed) for seed, name in enumerate("ab"))
    for path in (one, other):
        file = evaluation(path, path.name)
        whole = json.loads(file.read_text())
        whole["results"][0]["digest"] = open_dataset(str(one)).digest
        file.write_text(json.dumps(whole))
    assert [len(read_set(path).results) for path in (one, other)] == [3, 0]
    (line,) = read_set(other).warnings
    assert line == "evaluation/hard-small-0.json is about other images than these: it is left out, evaluate again"
