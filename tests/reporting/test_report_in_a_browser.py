"""The report in a real browser: nothing leaves the file, nothing planted runs, everything can be reached."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from opened import all_of, emulated, in_view, one, until
from report_sets import EVIL
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from dap.config import MetricsConfig
from dap.metrics import measure
from dap.reporting import report
from small_sets import distilled, folder


@pytest.fixture
def page(browser: Any, whole: Path) -> Any:
    """The report, freshly opened; afterwards nothing was wrong on the console."""
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get((whole / "report.html").as_uri())
    yield browser
    assert [entry["message"] for entry in browser.get_log("browser")] == []


def test_nothing_leaves_the_file(page: Any, whole: Path) -> None:
    in_view(page, "#limits")
    until(page, lambda d: len(all_of(d, ".pictures img")) == 9)
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert {url for url in asked if not url.startswith("data:")} == {(whole / "report.html").as_uri()}
    policy = one(page, 'meta[http-equiv="Content-Security-Policy"]').get_attribute("content")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy, "no text can become markup, whatever the script does"


def test_what_was_planted_is_text(page: Any) -> None:
    assert len(all_of(page, "script")) == 2, "the data and the script, and no third"
    names = page.execute_script("return [...document.querySelectorAll('.class h3')].map(h => h.firstChild.data)")
    assert names == list(EVIL)
    assert not all_of(page, "img[onerror]")
    assert page.execute_script("return [...document.images].every(i => !i.src || i.src.startsWith('data:'))")


def test_the_policy_stops_what_is_not_the_reports_own(browser: Any, whole: Path, tmp_path: Path) -> None:
    text = (whole / "report.html").read_text(encoding="utf-8")
    broken = tmp_path / "planted.html"
    broken.write_text(text.replace("</body>", "<script>window.planted = 1</script></body>"), encoding="utf-8")
    browser.get(broken.as_uri())
    assert browser.execute_script("return window.planted") is None
    assert "violates" in browser.get_log("browser")[0]["message"]


def test_a_picture_opens_with_its_seed_and_command(page: Any) -> None:
    in_view(page, "#gallery")
    until(page, lambda d: all_of(d, ".pictures button"))[0].click()
    assert one(page, "#view").get_attribute("open") is not None
    assert "image 0" in one(page, "#v-title").text
    command = one(page, "#v-command").text
    assert command.startswith("dap distill ")
    assert command.endswith("--only '<img src=x onerror=alert(1)>\":0'")
    facts = one(page, "#v-facts").text
    assert "Seed" in facts
    assert "Distance to it" in facts
    for image in ("#v-own", "#v-real"):
        assert until(page, lambda d, image=image: d.execute_script("return arguments[0].naturalWidth", one(d, image)))
    one(page, "#v-close").click()
    assert one(page, "#view").get_attribute("open") is None


def test_the_keyboard_walks_from_picture_to_picture(page: Any) -> None:
    in_view(page, "#gallery")
    until(page, lambda d: all_of(d, ".pictures button"))[2].send_keys(Keys.ENTER)
    first = one(page, "#v-title").text
    ActionChains(page).send_keys(Keys.ARROW_RIGHT).perform()
    second = one(page, "#v-title").text
    assert first.startswith(EVIL[0])
    assert second.startswith(EVIL[1]), "the next class follows the last picture of the one before"
    ActionChains(page).send_keys(Keys.ARROW_LEFT).perform()
    assert one(page, "#v-title").text == first
    ActionChains(page).send_keys(Keys.ESCAPE).perform()
    assert one(page, "#view").get_attribute("open") is None
    assert page.switch_to.active_element.tag_name == "button", "the focus is back at the picture"


def test_the_first_tab_skips_to_the_content(page: Any) -> None:
    ActionChains(page).send_keys(Keys.TAB).perform()
    assert page.switch_to.active_element.text == "Skip to the content"


def test_a_class_is_found_by_its_name(page: Any) -> None:
    in_view(page, "#find").send_keys("LILY")
    assert [h.is_displayed() for h in all_of(page, ".class h3")] == [False, False, True]
    assert one(page, "#counted").text == "1 of 3 classes"


def ink(page: Any) -> int:
    """Pixels of the map that are not bare."""
    return int(
        page.execute_script(
            "const c = document.getElementById('canvas'), o = new OffscreenCanvas(c.width, c.height);"
            "const p = o.getContext('2d', {willReadFrequently: true}); p.drawImage(c, 0, 0);"
            "const d = p.getImageData(0, 0, c.width, c.height).data;"
            "let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n"
        )
    )


def test_a_class_can_be_switched_off(page: Any) -> None:
    in_view(page, "#canvas")
    before = until(page, ink)
    boxes = all_of(page, "#legend input")
    assert len(boxes) == 3
    boxes[1].click()
    assert ink(page) < before
    one(page, "#none").click()
    assert ink(page) == 0
    one(page, "#all").click()
    assert ink(page) == before


def test_the_map_says_what_is_under_the_pointer_and_the_arrows(page: Any) -> None:
    canvas = in_view(page, "#canvas")
    canvas.send_keys(Keys.ARROW_RIGHT)
    said = one(page, "#point").text
    assert any(name in said for name in EVIL)
    assert one(page, "#tip").is_displayed()
    assert until(page, lambda d: one(d, "#tip img").get_attribute("src")).startswith("data:image/webp")
    for _ in range(40):
        if "synthetic" in one(page, "#point").text:
            break
        canvas.send_keys(Keys.ARROW_RIGHT)
    canvas.send_keys(Keys.ENTER)
    assert one(page, "#view").get_attribute("open") is not None
    one(page, "#v-close").click()
    all_of(page, "#mapchoice input")[1].send_keys(Keys.SPACE)
    assert one(page, "#tip").get_attribute("hidden") is not None, "another map, nothing marked yet"


@pytest.mark.parametrize("width", [375, 768, 1280])
def test_nothing_is_wider_than_the_screen(page: Any, width: int) -> None:
    with emulated(page, width):
        page.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
        widest = page.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
        assert widest[0] <= widest[1] == width
        in_view(page, "#gallery")
        until(page, lambda d: all_of(d, ".pictures button"))[0].click()
        box = one(page, "#view").rect
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


def test_every_picture_has_words_and_headings_keep_their_order(page: Any) -> None:
    in_view(page, "#limits")
    until(page, lambda d: len(all_of(d, ".pictures img")) == 9)
    bare = "return [...document.querySelectorAll('main img')].filter(i => !i.alt && !i.closest('#tip')).length"
    assert page.execute_script(bare) == 0
    levels = page.execute_script(
        "return [...document.querySelectorAll('main h1, main h2, main h3')].map(h => +h.tagName[1])"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    unnamed = (
        "return [...document.querySelectorAll('button, input, canvas[tabindex], [role=region]')].filter("
        "e => !(e.textContent.trim() || e.ariaLabel || e.labels?.length || e.querySelector('img[alt]'))).length"
    )
    assert page.execute_script(unnamed) == 0


def test_in_print_all_pictures_are_there(page: Any) -> None:
    page.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    assert len(all_of(page, ".pictures button")) == 9
    assert len(page.print_page()) > 10_000


def test_paper_has_the_tables_that_a_screen_folds_away(page: Any) -> None:
    folded = "return [...document.querySelectorAll('%s')].filter(d => !d.open).length"
    before = page.execute_script(folded % "details")
    assert before > 3
    page.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    assert page.execute_script(folded % "#made details, #metrics details") == 0
    page.execute_script("window.dispatchEvent(new Event('afterprint'))")
    assert page.execute_script(folded % "details") == before


def test_classes_of_few_images_share_a_row(page: Any) -> None:
    tops = "return [...document.querySelectorAll('.class')].map(c => c.getBoundingClientRect().top)"
    assert len(set(page.execute_script(tops))) == 1, "three images each"


def test_another_set_has_its_own_gallery_and_map(browser: Any, tmp_path: Path) -> None:
    real = folder(tmp_path / "real")
    sets = [distilled(tmp_path / name, real, ipc=ipc) for name, ipc in (("one", 3), ("two", 2))]
    measure(sets, real, config=MetricsConfig(features="pixels"))
    browser.get(Path(report(sets)["report"]).as_uri())
    assert (one(browser, "#mapset").text, len(all_of(browser, ".class"))) == ("one", 2)
    in_view(browser, "#gallery")
    until(browser, lambda d: len(all_of(d, ".pictures button")) == 6)
    all_of(browser, 'input[name="set"]')[1].send_keys(Keys.SPACE)
    until(browser, lambda d: len(all_of(d, ".pictures button")) == 4)
    assert one(browser, "#mapset").text == "two"
    assert ink(browser) > 0


def test_dark_screens_get_dark_paper(page: Any) -> None:
    def ground(scheme: str) -> str:
        with emulated(page, scheme=scheme):
            return str(page.execute_script("return getComputedStyle(document.body).backgroundColor"))

    assert ground("dark") != ground("light")
