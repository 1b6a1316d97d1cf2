"""Tables of stored results, in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from bench import acceptance
from bench.results import Results, duration, figure, ratio

PEERS = ["fastmom, 1 thread", "NumPy naive", "NumPy out=", "torch fused", "torch foreach",
         "jax optax", "numba prange", "numba serial"]
SPREAD = ("Beside a peer's time stands the ratio of its minimum to fastmom's, and the range of "
          "the ratios of single rounds.")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def with_ratio(seconds: dict[str, list[float]], who: str) -> str:
    if not seconds.get(who) or "fastmom" not in seconds:
        return ""
    return f"{duration(min(seconds[who]))}, {ratio(seconds[who], seconds['fastmom'])}"


def title_of(row: dict[str, Any]) -> str:
    """What a case of the steps is called."""
    return f"{row['workload']}, {row['rule']}{', clipped' if row['clip'] else ''}"


def steps(results: Results) -> str:
    parts = [SPREAD]
    rows = results["steps"]["rows"]
    for rule, clip in dict.fromkeys((row["rule"], row["clip"]) for row in rows):
        mine = [row for row in rows if (row["rule"], row["clip"]) == (rule, clip)]
        lines = [[row["workload"], duration(min(row["seconds"]["fastmom"])),
                  duration(statistics.median(row["seconds"]["fastmom"])),
                  *(with_ratio(row["seconds"], who) for who in PEERS)]
                 for row in mine if row.get("seconds", {}).get("fastmom")]
        parts += [f"### {rule}{f', clipped by the global norm at {clip:g}' if clip else ''}",
                  table(["parameters", "fastmom", "median", *PEERS], lines)]
        parts += [f"{row['workload']}: skipped, {row['skipped']}" for row in mine
                  if "skipped" in row]
    parts += [f"{title_of(row)}: {who}: {why}" for row in rows
              for who, why in row.get("errors", {}).items()]
    parts += [f"{who} is missing: {why}" for who, why in results["steps"]["missing"].items()]
    parts.append(load(results))
    return "\n\n".join(parts)


def load(results: Results) -> str:
    """Who disturbed the steps."""
    texts = []
    for key, who in (("cores_of_others", "other programs"), ("cores_of_waiting", "waiting peers")):
        cores = [row[key] for row in results["steps"]["rows"] if key in row]
        texts.append(f"{who} used {statistics.median(cores):.2f} cores in the median case and "
                     f"{max(cores):.2f} in the worst")
    return f"While a candidate had its turn, {' and '.join(texts)}."


def bandwidth(results: Results) -> str:
    kernels = results["bandwidth"]["kernels"]
    columns = list(dict.fromkeys((row["kernel"], row["threads"]) for row in kernels))
    rates = {(row["working_set"], row["kernel"], row["threads"]):
             row["bytes"] / min(row["seconds"]) / 1e9 for row in kernels}
    sizes = dict.fromkeys(row["working_set"] for row in kernels)
    return table(["GB/s, worked on", *(f"{kernel}, {plural(n)}" for kernel, n in columns)],
                 ([size(s), *(f"{rates[s, *column]:.1f}" for column in columns)] for s in sizes))


def kernels(results: Results) -> str:
    rows = results["bandwidth"]["optimizers"]
    sizes = list(dict.fromkeys(row["elements"] for row in rows))
    rates = {(row["optimizer"], row["elements"]): row["bytes"] / min(row["seconds"]) / 1e9
             for row in rows}
    return table(["GB/s, parameters", *(f"{n:,}" for n in sizes)],
                 ([name, *(f"{rates[name, n]:.1f}" for n in sizes)]
                  for name in dict.fromkeys(row["optimizer"] for row in rows)))


def threads(results: Results) -> str:
    rows = results["threads"]["rows"]
    one = {row["elements"]: row for row in rows if row["threads"] == 1}
    return table(
        ["parameters", "threads", "step", "GB/s", "faster than 1 thread", "C scale, GB/s",
         "faster than 1 thread"],
        ([f"{row['elements']:,}", str(row["threads"]), duration(min(row["step"])),
          f"{row['bytes'] / min(row['step']) / 1e9:.1f}",
          str(ratio(one[row["elements"]]["step"], row["step"])),
          f"{row['bytes'] / min(row['scale']) / 1e9:.1f}",
          str(ratio(one[row["elements"]]["scale"], row["scale"]))] for row in rows))


def epoch(results: Results) -> str:
    parts = []
    for model, content in results["epoch"]["models"].items():
        best = acceptance.fastest(content["rows"])
        sizes = "-".join(map(str, [784, *content["hidden"], 10]))
        rows = [[name, row["variant"], f"{row['min']:.3f} s", f"{row['median']:.3f} s",
                 str(ratio(row["seconds"], best["fastmom"]["seconds"])),
                 f"{row['target']:g}" if "target" in row else "",
                 f"{row['first_loss']:.3f}" if row["first_loss"] else "",
                 f"{row['test_accuracy']:.2%}" if row["test_accuracy"] else "", row["versions"]]
                for name, row in best.items()]
        parts += [f"### {model}: {sizes}, dropout {content['dropout']:g}, batch "
                  f"{content['batch']}",
                  table(["system", "fastest variant", "minimum", "median", "ratio", "target",
                         "loss of epoch 1", "test accuracy", "versions"], rows)]
        parts += [f"{name} is missing: {why}" for name, why in content["missing"].items()]
    return "\n\n".join(parts)


def optimizers(results: Results) -> str:
    forms = ["NumPy", "fused", "foreach", "single"]
    return table(["optimizer", "parameters", "fastmom",
                  *(f if f == "NumPy" else f"torch {f}" for f in forms)],
                 ([row["optimizer"], row["workload"], duration(min(row["seconds"]["fastmom"])),
                   *(with_ratio(row["seconds"], form) for form in forms)]
                  for row in results["optimizers"]["rows"]))


def targets(results: Results) -> str:
    rows = acceptance.rows_with_targets(results)
    lines = [[row.what, row.bound, figure(row.measured, 3) if row.peer else duration(row.measured),
              str(ratio(*(row.ours, row.peer) if row.at_most else (row.peer, row.ours)))
              if row.peer else "", "yes" if row.met else "**no**"] for row in rows]
    return "\n\n".join([table(["figure", "target", "measured", "in single rounds", "met"], lines),
                        acceptance.summary(rows) + "."])


def plural(threads: int) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}"


def size(count: float) -> str:
    """Of memory, in powers of 1,024."""
    for unit in ("B", "KB", "MB"):
        if count < 1024:
            return f"{count:g} {unit}"
        count /= 1024
    return f"{count:g} GB"
