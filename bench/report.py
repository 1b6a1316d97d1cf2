"""Make the report of stored results anew: tables in Markdown, targets, and figures."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from bench import accuracy, costs, epoch, figures, memory, penalties, results, steps
from bench.results import Results, Target, table


class Chapter(NamedTuple):
    """The report of one section."""

    title: str
    text: Callable[[Results], str]
    targets: Callable[[Results], Iterable[Target]] | None = None
    figure: str = ""


CHAPTERS = {
    "steps": Chapter("A step in every library", steps.chapter_main, steps.targets_main, "steps"),
    "epoch": Chapter("A training epoch on MNIST", epoch.chapter, epoch.targets, "epoch"),
    "accuracy": Chapter("Test accuracy on MNIST", accuracy.chapter),
    "optimizers": Chapter("Every optimizer", steps.chapter_all, steps.targets_all, "optimizers"),
    "bandwidth": Chapter("Memory bandwidth", memory.chapter_bandwidth, None, "roofline"),
    "threads": Chapter("Threads", memory.chapter_threads, memory.targets_threads, "threads"),
    "penalties": Chapter("What should cost nothing", penalties.chapter, penalties.targets),
}


def machines(found: Results) -> str:
    """Say where and when each section was measured; once where sections agree."""
    lines = [[name, part["measured"], f"{part['took']:.0f} s", str(part["rounds"]),
              " to ".join(f"{part[key][0]:.1f}" if part[key] else "?"
                          for key in ("load_before", "load_after")),
              "quick: not for comparison" if part["quick"] else part.get("remark", "")]
             for name, part in found.items()]
    texts = [table(["section", "measured", "took", "rounds", "load", ""], lines)]
    described: dict[str, list[str]] = {}        # sections by their machine
    for name, part in found.items():
        lines_of_one = (f"- {key}: {', '.join(value) if isinstance(value, list) else value}"
                        for key, value in results.storable(part["machine"]).items())
        described.setdefault("\n".join(lines_of_one), []).append(name)
    for text, names in described.items():
        texts += [f"{', '.join(names)}:", text]
    return "\n\n".join(texts)


def summary(found: Results) -> str:
    targets = [target for name, chapter in CHAPTERS.items() if chapter.targets and name in found
               for target in chapter.targets(found[name])]
    return f"{sum(target.met for target in targets)} of {len(targets)} targets are met"


def write_report(found: Results, folder: Path) -> None:
    parts = ["# Measurements",
             f"Made by `python -m bench peers`; results.json has all raw seconds. "
             f"{summary(found)}: each section ends with its own.",
             "## Machine", machines(found)]
    for name, chapter in CHAPTERS.items():
        if name in found:
            parts += [f"## {chapter.title}", chapter.text(found[name])]
            if chapter.figure:
                figures.write(chapter.figure, found, folder)
                parts.append(f"![{chapter.title}]({chapter.figure}.png)")
    if {"steps", "bandwidth"} <= found.keys():
        parts += ["## What a step costs", costs.chapter(found)]
    (folder / "report.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(summary(found))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, nargs="?", default=results.FILE.parent, metavar="DIR",
                        help="with results.json (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    write_report(results.load(args.folder / "results.json"), args.folder)
    return 0
