"""Figures of stored results, legible at 800 pixels. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.epoch import sizes, with_one_thread
from bench.memory import rate
from bench.peers import PEERS, peer_of
from bench.results import Results, duration, number, plural, typical
from bench.steps import SAME
from fastmom.plot.style import COLOURS, NORMAL, SMALL, decorate, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

OURS, BLUE, GREEN, PINK, ORANGE, SKY, BLACK = COLOURS
GREY = "#777777"
WIDTH = 6.6         # inches: letters are as large as the text around them at 800 pixels
PALETTE = 64        # colours of the files
OURS_NAME = "fastmom"
MARKS = [(BLUE, "o"), (GREEN, "s"), (PINK, "D"), (ORANGE, "^"), (SKY, "v"), (BLACK, "P")]
STYLES = ["-", ":", "-.", "--"]     # of the candidates of one peer


def line_of(candidate: str, of_peer: int) -> tuple[str, str]:
    """Return colour and style: a peer has one colour, its candidates differ in style."""
    peers = [name for name, peer in PEERS.items() if peer.shares or peer.steps]
    colours = [OURS, GREEN, BLUE, PINK, BLACK, ORANGE, SKY]
    return (colours[peers.index(peer_of(candidate)) % len(colours)], STYLES[of_peer % len(STYLES)])


def labels_beside(axes: Axes, lines: list[Line2D], gap: float = 0.058) -> None:
    """Write names at the ends of lines, moved apart by `gap` of the height."""
    to_axes = axes.transData + axes.transAxes.inverted()
    ends = sorted((*to_axes.transform(line.get_xydata()[-1])[::-1], i)     # type: ignore[index]
                  for i, line in enumerate(lines))
    heights: list[float] = []
    for y, _, _ in ends:
        heights.append(max(y, heights[-1] + gap) if heights else y)
    excess = max(0.0, heights[-1] - 1)
    for height, (y, x, i) in zip(heights, ends, strict=True):
        line, label = lines[i], str(lines[i].get_label())
        axes.plot([x, 1.02, 1.05], [y, height - excess, height - excess], lw=1, clip_on=False,
                  transform=axes.transAxes, color=line.get_color(), ls=line.get_linestyle())
        axes.text(1.06, height - excess, label, transform=axes.transAxes, color=line.get_color(),
                  fontsize=SMALL, va="center", fontweight="bold" if label == OURS_NAME else None)


def steps(results: Results) -> Figure:
    """Draw time per step against the number of parameters, SGD with momentum and AdamW."""
    made = new_figure(WIDTH, 6.2)
    panels = made.subplots(2, 1, sharex=True)
    for axes, (optimizer, name) in zip(
            panels, (("SGD", "SGD with momentum"), ("AdamW", "AdamW")), strict=True):
        ends: list[Line2D] = []
        rows = [row for row in results["steps"]["rows"] if row["optimizer"] == optimizer
                and row["clip"] is None and row["workload"].startswith("1 x ")]
        names = [who for who in dict.fromkeys(who for row in rows for who in row["seconds"])
                 if not who.endswith(SAME)]
        for who in reversed(names):     # ours last, on top
            before = [peer_of(other) for other in names[:names.index(who)]]
            colour, style = line_of(who, before.count(peer_of(who)))
            points = [(row["elements"], typical(row["seconds"][who])) for row in rows
                      if row["seconds"].get(who)]
            ends += axes.plot(*zip(*points, strict=True), color=colour, ls=style, label=who,
                              lw=2.6 if who == OURS_NAME else 1.2)
        axes.set(xscale="log", yscale="log")
        decorate(axes, "", "seconds per step", f"{name}, float32, one array")
        labels_beside(axes, ends)
    panels[-1].set_xlabel("parameters", fontsize=NORMAL)
    return made


def roofline(results: Results) -> Figure:
    """Draw bytes per second against the working set: memory, and every optimizer's step."""
    made = new_figure(WIDTH, 4.6)
    axes = made.subplots()
    content, kernels = results["bandwidth"], results["bandwidth"]["kernels"]
    ends: list[Line2D] = []
    for threads in sorted({row["threads"] for row in kernels}):
        points = [(row["working_set"], rate(row)) for row in kernels
                  if (row["kernel"], row["threads"]) == ("scale", threads)]
        ends += axes.plot(*zip(*points, strict=True), color=BLACK, lw=1.4,
                          ls="--" if threads == 1 else "-", label=f"C scale, {plural(threads)}")
    shown = {"SGD": (OURS, 2.6), "AdamW": (BLUE, 1.8)}
    for name in dict.fromkeys(row["optimizer"] for row in content["optimizers"]):
        points = [(row["working_set"], rate(row))
                  for row in content["optimizers"] if row["optimizer"] == name]
        if name in shown:
            colour, width = shown[name]
            ends += axes.plot(*zip(*points, strict=True), color=colour, lw=width, marker="o", ms=4,
                              label=f"fastmom {name}")
        else:
            axes.plot(*zip(*points, strict=True), "o", color=GREY, ms=3, zorder=1)
    axes.set(xscale="log", yscale="log")
    decorate(axes, "bytes worked on", "GB/s", "Memory bandwidth, and what steps take of it "
             "(grey: other optimizers)")
    for level, upto in cache_sizes(content["machine"]["caches"]).items():
        axes.axvline(upto, color=GREY, lw=0.8, ls=":")
        axes.annotate(f"{level} ", (upto, 1), xycoords=("data", "axes fraction"), ha="right",
                      va="top", fontsize=SMALL, color=GREY)
    labels_beside(axes, ends)
    return made


def cache_sizes(caches: list[str]) -> dict[str, int]:
    """Return the bytes of each level."""
    units = {"K": 2**10, "M": 2**20}
    found = (text.split() for text in caches)
    return {level: int(text[:-1]) * units[text[-1]] for level, text in found}


def threads(results: Results) -> Figure:
    """Draw how many times faster than one thread steps and memory are."""
    made = new_figure(WIDTH, 3.4)
    rows = results["threads"]["rows"]
    sizes = list(dict.fromkeys(row["elements"] for row in rows))
    panels = made.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    for axes, elements in zip(panels, sizes, strict=True):
        mine = [row for row in rows if row["elements"] == elements]
        counts = [row["threads"] for row in mine]
        for key, colour, width, label in (("scale", BLACK, 1.4, "C scale of the same bytes"),
                                          ("step", OURS, 2.6, "fastmom's step")):
            speed = [typical(mine[0][key]) / typical(row[key]) for row in mine]
            axes.plot(counts, speed, color=colour, lw=width, marker="o", ms=4, label=label)
        axes.plot(counts, counts, color=GREY, lw=0.8, ls=":", label="ideal")
        axes.set_xticks(counts)
        axes.set_ylim(0)
        decorate(axes, "threads", "", f"{elements:,} parameters")
    panels[0].set_ylabel("times as fast as 1 thread", fontsize=NORMAL)
    handles, labels = panels[0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside upper left", ncols=3, frameon=False, fontsize=NORMAL)
    return made


def epoch(results: Results) -> Figure:
    """Draw seconds per epoch of each peer's fastest variant."""
    chosen = {model: {name: row for name, row in with_one_thread(content).items()
                      if name != "sgemm"}
              for model, content in results["epoch"]["models"].items()}
    counts = [len(best) for best in chosen.values()]
    made = new_figure(WIDTH, 1.2 + 0.36 * sum(counts))
    panels = made.subplots(len(counts), 1, squeeze=False, height_ratios=counts)[:, 0]
    for axes, (model, best) in zip(panels, chosen.items(), strict=True):
        seconds = [row["typical"] for row in best.values()]
        axes.barh(list(best), seconds, color=[OURS if peer_of(name) == OURS_NAME else BLUE
                                              for name in best])
        axes.invert_yaxis()
        for height, time in enumerate(seconds):
            times = number(time / best[OURS_NAME]["typical"])
            axes.text(time, height, f"  {duration(time)}, {times}x",
                      va="center", fontsize=SMALL)
        axes.margins(x=0.18)
        content = results["epoch"]["models"][model]
        decorate(axes, "", "", f"An epoch on {'noisy ' if model == 'dense' else ''}MNIST: "
                 f"{sizes(content)}, batches of {content['batch']}")
        axes.grid(visible=False, axis="y")
    panels[-1].set_xlabel("seconds; times fastmom's", fontsize=NORMAL)
    return made


def optimizers(results: Results) -> Figure:
    """Draw how many times longer the peers take, optimizer by optimizer."""
    rows = results["optimizers"]["rows"]
    lists = list(dict.fromkeys(row["workload"] for row in rows))
    names = list(dict.fromkeys(row["optimizer"] for row in rows))[::-1]
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    made = new_figure(WIDTH, 1.4 + 0.27 * len(names))
    panels = made.subplots(1, len(lists), sharey=True, squeeze=False)[0]
    forms = [who for who in dict.fromkeys(who for row in rows for who in row["seconds"])
             if peer_of(who) != OURS_NAME and not who.endswith(SAME)]
    for axes, workload in zip(panels, lists, strict=True):
        times = {row["optimizer"]: row["seconds"] for row in rows if row["workload"] == workload}
        for i, form in enumerate(forms):
            colour, marker = MARKS[i % len(MARKS)]
            points = [(typical(times[name][form]) / typical(times[name][OURS_NAME]),
                       names.index(name)) for name in names if form in times.get(name, {})]
            if points:
                axes.scatter(*zip(*points, strict=True), color=colour, marker=marker, s=26,
                             label=form)
        axes.axvline(1, color=OURS, lw=2.6)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_yticks(range(len(names)), names)
        decorate(axes, "times fastmom's", "", workload)
    handles, labels = panels[0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside upper left", ncols=4, frameon=False, fontsize=NORMAL)
    return made


def write(name: str, results: Results, folder: Path) -> None:
    """Draw a figure, and save it as ``name.png``."""
    draw = {"steps": steps, "roofline": roofline, "threads": threads, "epoch": epoch,
            "optimizers": optimizers}[name]
    file = folder / f"{name}.png"
    save_figure(draw(results), file)
    from PIL import Image  # matplotlib needs it too

    with Image.open(file) as picture:
        small = picture.convert("RGB").quantize(PALETTE, dither=Image.Dither.NONE)
    small.save(file, optimize=True)
