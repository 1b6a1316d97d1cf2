"""The playground in a real browser: each control is moved, and the page's answer is read."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import commands
import pytest

pytest.importorskip("bokeh", reason="bokeh is not installed")
from browser import Page, chromium, playground

pytestmark = pytest.mark.slow
SCREENSHOTS = os.environ.get("FASTMOM_SCREENSHOTS")     # a directory to look at them in
SIZES = {"wide": (1280, 800), "phone": (390, 844)}


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def page(downloads: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    data = commands.write(tmp_path_factory.mktemp("playground") / "digits")
    with chromium(downloads) as driver, playground("--data", data) as (_, address):
        yield Page(driver, address)


def paths(page: Page) -> Any:
    return page.columns("paths", "x", "value")


# Control of the landscape, and how it is moved
MOVES: dict[str, Any] = {
    "condition": lambda page: page.press("condition", "\ue012"),         # the left arrow
    "lr": lambda page: page.press("lr", "\ue014"),                       # the right one
    "momentum": lambda page: page.press("momentum", "\ue012"),
    "steps": lambda page: page.press("steps", "\ue012"),
    "start-x": lambda page: page.press("start-x", "\ue014"),
    "start-y": lambda page: page.press("start-y", "\ue012"),
    "methods": lambda page: page.click("methods", "label:nth-of-type(4) input"),
    "surface": lambda page: page.choose("surface", "Beale"),
}


@pytest.mark.parametrize("control", MOVES)
def test_each_control_of_the_landscape_changes_the_paths(page: Page, control: str) -> None:
    page.open("landscape")
    before, drawn = paths(page), pixels(page)
    MOVES[control](page)
    page.until(lambda: paths(page) != before, f"{control} changes the paths")
    page.until(lambda: pixels(page) != drawn, f"{control} changes the picture")
    assert page.complaints() == []


def pixels(page: Page) -> Any:
    return page.js("return Bokeh.index.find_one(Bokeh.documents[0].get_model_by_name("
                   "'landscape-surface')).export('png').canvas.toDataURL()")


def test_the_start_is_dragged(page: Page) -> None:
    from selenium.webdriver import ActionChains
    page.open("landscape")
    x, y = page.js("""
        const model = Bokeh.documents[0].get_model_by_name("landscape-surface");
        const view = Bokeh.index.find_one(model), source = Bokeh.documents[0]
            .get_model_by_name("start");
        const box = view.el.getBoundingClientRect();
        return [box.x + view.frame.x_scale.compute(source.data.x[0]),
                box.y + view.frame.y_scale.compute(source.data.y[0])]""")
    before, paths_before = page.column("start", "x"), paths(page)
    mouse = ActionChains(page.driver, duration=50)
    mouse.w3c_actions.pointer_action.move_to_location(int(x), int(y))
    mouse.click_and_hold()
    for _ in range(5):
        mouse.move_by_offset(30, 10)
    mouse.release().perform()
    page.until(lambda: page.column("start", "x")[0] > before[0] + 0.5, "the start has moved")
    assert paths(page) != paths_before
    assert page.complaints() == []


# Surface and sliders (the momentum and the logarithm of lr), and what the page says
SAYS = [
    ({"momentum": 0.3, "lr": -2.0}, "overdamped"),
    ({"momentum": 0.81, "lr": -2.0}, "near the critical momentum (1 - √(lr μ))² = 0.81"),
    ({"momentum": 0.67, "lr": -1.48}, "near the critical momentum ((√κ - 1)/(√κ + 1))² = 0.669"),
    ({"momentum": 0.95, "lr": -2.0}, "underdamped"),
    ({"momentum": 0.5, "lr": -1.0}, "diverges: lr above 2(1 + m)/L = 0.03"),
]


@pytest.mark.parametrize(("values", "said"), SAYS)
def test_the_sentence(page: Page, values: dict[str, float], said: str) -> None:
    page.open("landscape")
    for name, value in values.items():
        page.js("Bokeh.documents[0].get_model_by_name(arguments[0]).value = arguments[1]", name,
                value)
    page.until(lambda: said in page.get("says", "text"), f"it says {said!r}")
    assert page.complaints() == []


# Sixty moves a second for two seconds; for each, the time until a picture of it, or of a later one,
# is there: until all three charts have been painted with it and the browser is free again, which it
# is when what was painted has been handed to the screen
TIMED = """
const done = arguments[0], names = Bokeh.documents[0];
const slider = names.get_model_by_name("momentum"), source = names.get_model_by_name("paths");
const sent = [], times = [], pictures = [], left = new Set();
let shown = null;
source.connect(source.properties.data.change, () => {
  [shown] = source.data.momentum;
  for (const chart of charts) left.add(chart);
});
const charts = ["surface", "values", "speeds"].map((name) => Bokeh.index.find_one(
  names.get_model_by_name(`landscape-${name}`)));
for (const chart of charts) chart.repainted.connect(() => {
  if (!left.delete(chart) || left.size > 0) return;
  const painted = shown;
  setTimeout(() => {
    const now = performance.now();
    pictures.push(now);
    while (sent.length && sent[0][0] <= painted) times.push(now - sent.shift()[1]);
  }, 0);
});
let i = 0;
const timer = setInterval(() => {
  if (i == 120) {
    clearInterval(timer);
    setTimeout(() => done({times, pictures: pictures.length, left: sent.length}), 1500);
  } else {
    const value = Math.round((0.3 + 0.005 * i++) * 1000) / 1000;
    sent.push([value, performance.now()]);
    slider.value = value;
  }
}, 1000 / 60);
"""


def test_the_picture_follows_sixty_moves_a_second(page: Page) -> None:
    page.open("landscape")
    page.driver.set_script_timeout(30)
    found = page.driver.execute_async_script(TIMED)
    times = sorted(found["times"])
    print(f"\nfrom move to picture: median {times[len(times) // 2]:.0f} ms, 90 % within "
          f"{times[int(0.9 * len(times))]:.0f} ms; {found['pictures']} pictures of 120 moves")
    assert found["left"] == 0       # the last move is shown
    assert found["pictures"] > 10
    assert page.complaints() == []


# The room of training -----------------------------------------------------------------------------

def steps(page: Page, label: str = "run A") -> int:
    return len(page.column(f"{label} steps", "step"))


def start(page: Page) -> None:
    page.open("training")
    page.click("go")
    page.until(lambda: steps(page) > 20, "it trains")


def test_a_turned_knob_changes_the_running_momentum_and_marks_the_curve(page: Page) -> None:
    start(page)
    assert page.column("run A marks", "text") == []
    page.press("train-momentum", "\ue011")      # Home: to the slider's low end
    page.until(lambda: page.column("run A marks", "text"), "the curve is marked")
    assert page.column("run A marks", "text") == ["m 0.9 → 0"]
    marked = page.column("run A marks", "step")[0]
    page.until(lambda: page.column("run A measures", "step")[-1] > marked + 20, "it goes on")
    assert "momentum 0" in page.get("status", "text")
    # with momentum 0 a step is lr times the gradient; with 0.9 it was longer
    effective = dict(zip(*page.columns("run A measures", "step", "effective"), strict=True))
    assert median(value for step, value in effective.items() if 10 < step <= marked) > 0.015
    assert [value for step, value in effective.items() if step > marked] == pytest.approx(
        [0.01] * sum(step > marked for step in effective), rel=1e-3)
    page.press("train-lr", "\ue014")
    page.until(lambda: len(page.column("run A marks", "text")) == 2, "lr is marked, too")
    assert page.column("run A marks", "text")[1] == "lr 0.01 → 0.0102"
    assert page.complaints() == []


def by_step(page: Page) -> dict[float, float]:
    return dict(zip(*page.columns("run A steps", "step", "loss"), strict=True))


def test_pause_go_on_and_restart(page: Page) -> None:
    start(page)
    page.click("go")
    page.until(lambda: "(paused)" in page.get("status", "text"), "it pauses")
    time.sleep(0.3)
    there = steps(page)
    time.sleep(0.5)
    assert steps(page) == there
    assert page.get("go", "label") == "Go on"
    page.click("go")
    page.until(lambda: steps(page) > there, "it goes on")
    losses = by_step(page)
    page.press("pace", "\ue010")                # End: as fast as it goes
    page.until(lambda: steps(page) > there + 300, "it is faster")
    page.press("pace", "\ue011")
    page.click("restart")
    page.until(lambda: 0 < steps(page) < 20, "it has begun anew")
    page.press("pace", "\ue010")
    page.until(lambda: steps(page) > 20, "it trains")
    again = by_step(page)
    assert len(again.items() & losses.items()) >= 3     # fewer than 20 if they were thinned out
    assert not [step for step in again if again[step] != losses.get(step, again[step])]
    assert page.complaints() == []


def test_a_second_run_has_knobs_of_its_own(page: Page) -> None:
    start(page)
    page.click("second")
    page.until(lambda: steps(page, "run B") > 20, "the second run trains")
    page.press("train-momentum", "\ue011")
    page.until(lambda: page.column("run B marks", "text"), "the second curve is marked")
    assert page.column("run A marks", "text") == []
    page.click("which", "div.bk-btn, .bk-btn-group > *:nth-child(1)")
    page.until(lambda: page.get("train-momentum", "value") == 0.9, "the knobs are those of A")
    page.choose("method", "Nesterov")
    page.until(lambda: page.get("status", "text").count("step") == 2, "both go on")
    assert page.complaints() == []


def test_the_recipe_repeats_the_curve_to_the_bit(page: Page, downloads: Path) -> None:
    start(page)
    page.press("train-momentum", "\ue011")
    page.until(lambda: page.column("run A marks", "text"), "the curve is marked")
    page.press("train-lr", "\ue010")
    page.until(lambda: len(page.column("run A marks", "text")) == 2, "lr is marked, too")
    page.until(lambda: steps(page) > 300, "it trains")
    page.click("go")
    page.until(lambda: "(paused)" in page.get("status", "text"), "it pauses")
    page.click("save-recipe")
    script = page.until(lambda: next(downloads.glob("recipe_*.py"), None), "the recipe is there")
    curve = downloads / "curve.txt"
    subprocess.run([sys.executable, script, curve], check=True, capture_output=True)
    found = [float.fromhex(line) for line in curve.read_text().split()]
    assert found == page.column("run A steps", "loss")
    page.click("save-figure")
    figure = page.until(lambda: next(downloads.glob("*.png"), None), "the figure is there")
    page.until(lambda: figure.read_bytes()[-8:-4] == b"IEND", "the figure is whole")
    assert page.complaints() == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("room", ["landscape", "training"])
def test_nothing_sticks_out(page: Page, room: str, size: str) -> None:
    page.open(room, *SIZES[size])
    if room == "training":
        page.click("go")
        page.until(lambda: steps(page) > 300, "it trains")
    width = page.js("return document.documentElement.scrollWidth")
    assert width <= SIZES[size][0]
    shown = page.js("""return Bokeh.documents[0].roots().filter(
        (root) => root.name.startsWith(arguments[0])).map((root) => {
            const box = Bokeh.index.find_one(root).el.getBoundingClientRect();
            return [root.name, box.width, box.height]})""", room)
    assert all(wide >= 200 and high >= 120 for _, wide, high in shown), shown
    assert len(shown) == {"landscape": 4, "training": 6}[room]
    if SCREENSHOTS:
        if size == "phone":     # all of it
            height = page.js("return document.documentElement.scrollHeight")
            page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
                "width": SIZES[size][0], "height": height, "deviceScaleFactor": 1, "mobile": True})
            time.sleep(1)
        page.driver.save_screenshot(f"{SCREENSHOTS}/{room}-{size}.png")
    assert page.complaints() == []
