"""The report of `bench.peers`: tables in Markdown and figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench import accuracy, figures, model, tables
from bench.results import Results

Text = Callable[[Results], str]


def costs(results: Results) -> str:
    """The cost model, its errors and predictions."""
    fitted = model.models(results)
    parts = [f"```\n{(model.__doc__ or '').partition(chr(10))[2].strip()}\n```",
             tables.table(*model.coefficients_table(fitted)),
             tables.table(*model.errors_table(fitted))]
    for chosen in model.chosen(fitted):
        parts += [f"**Prediction, not measured**, {chosen.kind}; ring with alpha "
                  f"{1e6 * model.ALPHA:g} us and beta {model.BETA / 1e9:g} GB/s, both assumed:",
                  tables.table(*model.predictions_table(chosen, model.ALPHA, model.BETA,
                                                        model.MACHINES))]
    return "\n\n".join(parts)


# Title: the sections of the results that it needs, its text, and its figure
CHAPTERS: dict[str, tuple[set[str], Text, str]] = {
    "Targets": ({"engine", "optimizers", "epoch"}, tables.targets, ""),
    "A step in every library": ({"steps"}, tables.steps, "steps"),
    "A training epoch on MNIST": ({"epoch"}, tables.epoch, "epoch"),
    "Test accuracy on MNIST": ({"accuracy"},
                               lambda results: accuracy.table(results["accuracy"]["rows"]), ""),
    "Every optimizer": ({"optimizers"}, tables.optimizers, "optimizers"),
    "Memory bandwidth": ({"bandwidth"}, tables.bandwidth, "roofline"),
    "What steps take of it": ({"bandwidth"}, tables.kernels, ""),
    "Threads": ({"threads"}, tables.threads, "threads"),
    "What a step costs": ({"steps", "bandwidth"}, costs, ""),
}


def machines(results: Results) -> str:
    """Where and when each section was measured; told once where sections agree."""
    lines = [[name, part["measured"], f"{part['took']:.0f} s", str(part["rounds"]),
              " to ".join(f"{part[key][0]:.1f}" if part[key] else "?"
                          for key in ("load_before", "load_after")),
              "quick: not for comparison" if part["quick"] else ""]
             for name, part in results.items()]
    texts = [tables.table(["section", "measured", "took", "rounds", "load", ""], lines)]
    described: dict[str, list[str]] = {}        # sections by their machine
    for name, part in results.items():
        lines_of_one = (f"- {key}: {', '.join(value) if isinstance(value, list) else value}"
                        for key, value in part["machine"].items())
        described.setdefault("\n".join(lines_of_one), []).append(name)
    for text, names in described.items():
        texts += [f"{', '.join(names)}:", text]
    return "\n\n".join(texts)


def write_report(results: Results, folder: Path) -> None:
    parts = ["# Measurements", "Made by `python -m bench.peers`; results.json has all raw seconds.",
             "## Machine", machines(results)]
    for title, (needed, text, picture) in CHAPTERS.items():
        if needed <= results.keys():
            parts += [f"## {title}", text(results)]
            if picture:
                figures.write(picture, results, folder)
                parts.append(f"![{title}]({picture}.png)")
    (folder / "report.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
