"""A real browser for tests: chromium by Selenium, and the playground's page in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
           "--hide-scrollbars")
DRIVERS = "chromedriver", "chromium.chromedriver"
BROWSERS = "chromium", "chromium-browser", "google-chrome"
MODEL = "const model = Bokeh.documents[0].get_model_by_name(arguments[0]);"


@contextmanager
def chromium(downloads: Path) -> Iterator[Any]:
    """Give a driver of the system's browser; skips, naming what is missing."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    service = pytest.importorskip("selenium.webdriver.chrome.service")
    browser, driver = (next(filter(None, map(shutil.which, names)), None)
                       for names in (BROWSERS, DRIVERS))
    if browser is None or driver is None:
        pytest.skip(f"{'chromium' if browser is None else 'chromedriver'} is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for option in OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=service.Service(driver))
    try:
        # a script would wait for somebody to confirm that it is wanted
        made.execute_cdp_cmd("Browser.setDownloadBehavior", {
            "behavior": "allow", "downloadPath": str(downloads)})
        yield made
    finally:
        made.quit()


@contextmanager
def playground(*options: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the server on a free port; give its process and address."""
    command = [sys.executable, "-m", "fastmom", "playground", "--port", "0", "--no-browser",
               *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert line.startswith("playground: http://127.0.0.1:"), line + process.stdout.read()
            yield process, line.split()[1]
        finally:
            process.kill()


class Page:
    """The page in the browser, by the names of its models."""

    def __init__(self, driver: Any, address: str) -> None:
        self.driver, self.address = driver, address

    def open(self, room: str, width: int = 1280, height: int = 800) -> None:
        """Open the page anew, at a room."""
        phone = width < 600
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone})
        self.driver.get("about:blank")
        self.driver.get(f"{self.address}#{room}")
        self.until(lambda: self.js("return Bokeh.documents.length > 0 && "
                                   "Bokeh.documents[0].is_idle"), "the page is drawn")

    def js(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def get(self, name: str, attribute: str) -> Any:
        """Return a property of the model of this name, as the browser has it."""
        return self.js(MODEL + "return model[arguments[1]]", name, attribute)

    def columns(self, name: str, *columns: str) -> Any:
        """Return columns of a source, all of the same moment."""
        return self.js(MODEL + "return arguments[1].map((column) => Array.from("
                       "model.data[column], (entry) => typeof entry == 'object' ? "
                       "Array.from(entry) : entry))", name, columns)

    def column(self, name: str, column: str) -> Any:
        """Return a column of a source."""
        return self.columns(name, column)[0]

    def element(self, name: str, selector: str) -> Any:
        """Return an element of the widget of this name."""
        return self.js(MODEL + "return Bokeh.index.find_one(model).shadow_el"
                       ".querySelector(arguments[1])", name, selector)

    def press(self, name: str, *keys: str) -> None:
        """Press keys on the handle of a slider."""
        self.element(name, ".noUi-handle").send_keys(*keys)

    def click(self, name: str, selector: str = "button") -> None:
        self.element(name, selector).click()

    def choose(self, name: str, text: str) -> None:
        """Choose an entry of a list."""
        from selenium.webdriver.support.select import Select
        Select(self.element(name, "select")).select_by_visible_text(text)

    def until(self, there: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
        """Wait until the page answers."""
        end = time.monotonic() + seconds
        while not (found := there()):
            assert time.monotonic() < end, f"waited in vain until {what}"
            time.sleep(0.02)
        return found

    def complaints(self) -> list[str]:
        """Return the errors and warnings of the console."""
        return [entry["message"] for entry in self.driver.get_log("browser")
                if entry["level"] in ("SEVERE", "WARNING")]
