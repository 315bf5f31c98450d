"""A set with everything that a report can show, and a real browser where there is one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_sets import EVIL, MARKUP, evaluation, traced

from dap.config import MetricsConfig
from dap.metrics import measure
from dap.reporting import report
from dap.store import Store
from small_sets import distilled, folder


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of three oddly named classes, measured, evaluated, traced and reported."""
    root = tmp_path_factory.mktemp("report")
    real, test = folder(root / "real", 9, EVIL), folder(root / "test", 4, EVIL, seed=5)
    odd = real / EVIL[0] / "000.png"
    odd.rename(odd.with_name('"><script>alert(4)<.png'))
    out = distilled(root / "a set", real, names=EVIL, notes=["out of memory: micro-batch 2 instead of 4"])
    measure([out], real, test=test, config=MetricsConfig(features="pixels"))
    evaluation(out, MARKUP)
    traced(out, Store.open(out).folders[0], EVIL[0])
    report([out])
    return out


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium. Without one the tests are skipped, or fail where DAP_REQUIRE_BROWSER=1 asks for one."""
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        reason = "no chromium and chromedriver on the path: apt-get install chromium chromium-driver"
        if os.environ.get("DAP_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    running = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    running.set_window_size(1280, 900)
    yield running
    running.quit()
