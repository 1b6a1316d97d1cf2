"""``fastmom landscape``: the paths of momentum on surfaces of two parameters."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from fastmom import plot
from fastmom.cli.files import check_targets, writing
from fastmom.cli.options import MOMENTUM, OK, POSITIVE, file, number
from fastmom.landscape import SURFACES, Trajectory, classics, paths
from fastmom.plot.style import SUFFIXES
from fastmom.progress import progress_bar

FRAMES = 60
ROW = "{:12} {:14} {:>7} {:>6} {:>10} {:>9}  {}"


def add(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "landscape", help="draw the paths of momentum on surfaces",
        description="Let SGD, momentum and Nesterov's momentum descend on surfaces of two "
                    "parameters; print where they end and draw how they got there.")
    option = command.add_argument
    option("--surface", nargs="+", choices=list(SURFACES), default=list(SURFACES), metavar="NAME",
           help=f"{', '.join(SURFACES)} (default: all)")
    option("--steps", type=POSITIVE, help="of each method (default: what suits each surface)")
    option("--lr", type=number(float, lambda x: 0 <= x < math.inf, "a finite number >= 0"),
           help="learning rate (default: what suits each surface, the same for all methods but in "
                "the ravine, where SGD's best is too high for Nesterov)")
    option("--momentum", type=MOMENTUM, default=0.9,
           help="of momentum and Nesterov (default: 0.9)")
    option("--output", type=file(*SUFFIXES), default=Path("landscape.png"), metavar="FILE",
           help=f"the figure, {', '.join(SUFFIXES)} (default: landscape.png)")
    option("--animate", type=file(".gif"), metavar="FILE.gif", help="write an animation too")
    command.set_defaults(run=run, parser=command)


def run(args: argparse.Namespace) -> int:
    """Print the table, then write the figure and, if asked to, the animation."""
    check_targets({"--output": args.output, "--animate": args.animate})
    results = {SURFACES[name].title: paths(SURFACES[name], args.steps, classics(args.momentum),
                                           lr=args.lr) for name in args.surface}
    figure = plot.plot_landscape(results)
    print(ROW.format("surface", "method", "lr", "steps", "value", "distance", "ended"))
    for found in results.values():
        for path in found.values():
            print(ROW.format(path.surface.name, path.label, f"{path.lr:.3g}", path.steps,
                             f"{path.values[-1]:.2e}", f"{path.distance():.2e}", ended(path)))
    for name in args.surface:
        if args.lr is None and SURFACES[name].why_lr:
            print(f"lr in the {name}: {SURFACES[name].why_lr}")
    sys.stdout.flush()
    with writing("--output", args.output):
        plot.save_figure(figure, args.output)
    print(f"figure: {args.output}", flush=True)
    if args.animate is not None:
        with writing("--animate", args.animate):
            animate(results, args.animate)
        print(f"animation: {args.animate}")
    return OK


def animate(results: dict[str, dict[str, Trajectory]], path: Path) -> None:
    """Write the animation, with a progress bar on a terminal."""
    if not sys.stdout.isatty():
        return plot.animate_landscape(results, path, frames=FRAMES)
    with progress_bar(sys.stdout, FRAMES, path.name, unit="frame") as bar:
        return plot.animate_landscape(results, path, frames=FRAMES, progress=bar.update)


def ended(path: Trajectory) -> str:
    """Return in words where a path has ended."""
    if path.diverged:
        return f"diverged at step {path.steps + 1}"
    if path.minimum is None:
        return "no minimum yet"
    x, y = path.surface.minima[path.minimum]
    return f"{'a worse' if path.minimum else 'the best'} minimum, ({x:g}, {y:g})"
