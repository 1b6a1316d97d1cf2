"""Test the comparison on made-up runs, whose true ratios are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.__main__ import main as command

Factors = dict[str, float]
NAMES = {f"{limit} {i} {who}": (limit, who == "NumPy")
         for limit in ("cache", "memory") for i in range(40) for who in ("fastmom", "NumPy")}
TEAM = {f"threads {i} fastmom": ("threads", False) for i in range(12)}
VICTIM = "cache 7 fastmom"


def run(file: Path, seed: int, factors: Factors | None = None, machine: float = 1.0,
        noise: float = 0.01, names: dict[str, tuple[str, bool]] | None = None) -> Path:
    """Store a run in which each benchmark takes its number of seconds, times the noise."""
    rng = np.random.default_rng(seed)
    benchmarks: list[dict[str, Any]] = []
    for i, (name, (limit, control)) in enumerate((names or NAMES | TEAM).items()):
        own = {"cache": noise, "memory": 5 * noise, "threads": 20 * noise}[limit]
        fastest = (i + 1) * machine * (factors or {}).get(name, 1.0) * np.exp(rng.normal(0, own))
        benchmarks.append({
            "fullname": f"bench/test_it.py::test_it[{name}]",
            "stats": {"min": fastest, "median": 1.02 * fastest, "q1": 1.01 * fastest},
            "extra_info": {"control": control, "limit": limit, "row": name.split()[2]},
            "group": name.rpartition(" ")[0]})
    file.write_text(json.dumps({"machine_info": {"threads": 2}, "benchmarks": benchmarks}))
    return file


def main(runs: list[str]) -> int:
    return command(["compare", *runs])


def lines_with(text: str, word: str) -> list[str]:
    """Return the names in the rows of the table that end with the word."""
    rows = [line for line in text.splitlines() if line.endswith(f" {word}") and "%" in line]
    return [" ".join(row.replace(":", "").split()[:3]) for row in rows]


@pytest.mark.parametrize("machine", [1.0, 1.5, 0.7])
@pytest.mark.parametrize("seed", range(5))
def test_same_code_is_the_same_on_a_faster_or_slower_machine(
        tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int, machine: float) -> None:
    old, new = run(tmp_path / "old", 2 * seed), run(tmp_path / "new", 2 * seed + 1, {}, machine)
    assert main([str(old), str(new)]) == 0
    assert "92 benchmarks, 80 controls: 0 slower, 0 faster" in capsys.readouterr().out


@pytest.mark.parametrize("machine", [1.0, 1.5])
def test_a_fifth_slower_and_faster_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                            machine: float) -> None:
    factors = {VICTIM: 1.2, "cache 8 fastmom": 1.4, "cache 9 fastmom": 1 / 1.2}
    old, new = run(tmp_path / "old", 0), run(tmp_path / "new", 1, factors, machine)
    assert main([str(old), str(new)]) == 1
    text = capsys.readouterr().out
    assert lines_with(text, "SLOWER") == ["cache 8 fastmom", VICTIM]      # the worst first
    assert lines_with(text, "faster") == ["cache 9 fastmom"]


def test_faster_alone_is_no_failure(tmp_path: Path) -> None:
    old, new = run(tmp_path / "old", 0), run(tmp_path / "new", 1, {VICTIM: 0.5})
    assert main([str(old), str(new)]) == 0


def test_what_memory_limits_is_judged_by_what_memory_limits(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same fifth is within the noise of the one and far beyond that of the other."""
    factors = {VICTIM: 1.2, "memory 7 fastmom": 1.2}
    old, new = run(tmp_path / "old", 0), run(tmp_path / "new", 1, factors)
    assert main([str(old), str(new)]) == 1
    assert lines_with(capsys.readouterr().out, "SLOWER") == [VICTIM]


def test_a_disturbance_for_a_while_is_drift(tmp_path: Path,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    """Half of the run on a busy machine: all of it takes twice as long, NumPy too."""
    busy = dict.fromkeys(list(NAMES)[:80], 2.0)
    old, new = run(tmp_path / "old", 0), run(tmp_path / "new", 1, busy)
    assert main([str(old), str(new)]) == 0
    assert "0 slower, 0 faster" in capsys.readouterr().out


def test_a_disturbed_benchmark_is_cleared_by_another_run(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = run(tmp_path / "old", 0), run(tmp_path / "new", 1, {VICTIM: 2.0})
    again = [str(run(tmp_path / f"again {i}", i)) for i in (2, 3)]
    assert main([str(old), str(new)]) == 1
    assert main([str(old), str(new), *again]) == 0
    slow = [str(run(tmp_path / f"slow {i}", i, {VICTIM: 1.3})) for i in (1, 3)]
    assert main([str(old), slow[0], again[0], slow[1]]) == 1
    assert lines_with(capsys.readouterr().out, "SLOWER") == [VICTIM, VICTIM]


def test_wide_rounds_widen_the_noise(tmp_path: Path) -> None:
    """A minimum far below the lower quartile is luck."""
    old, new = run(tmp_path / "old", 0), run(tmp_path / "new", 1, {VICTIM: 1.3})
    content = json.loads(new.read_text())
    for bench in content["benchmarks"]:
        if VICTIM in bench["fullname"]:
            bench["stats"]["q1"] *= 1.4
    assert main([str(old), str(new)]) == 1
    new.write_text(json.dumps(content))
    assert main([str(old), str(new)]) == 0


@pytest.mark.parametrize("statistic", ["min", "median"])
def test_one_statistic_alone_is_no_verdict(tmp_path: Path, statistic: str) -> None:
    old, new = run(tmp_path / "old", 0), run(tmp_path / "new", 1)
    content = json.loads(new.read_text())
    for bench in content["benchmarks"]:
        if VICTIM in bench["fullname"]:
            bench["stats"][statistic] *= 1.3
            bench["stats"]["q1"] = max(bench["stats"]["q1"], bench["stats"]["min"])
    new.write_text(json.dumps(content))
    assert main([str(old), str(new)]) == 0


def test_noise_is_stated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = run(tmp_path / "old", 0), run(tmp_path / "new", 1)
    main([str(old), str(new), "--all"])
    text = capsys.readouterr().out
    assert len(lines_with(text, "control")) == 80
    stated = {line.split()[0]: float(line.split()[1].rstrip("%"))
              for line in text.splitlines() if line.startswith("  ")}
    assert stated.keys() == {"cache", "memory", "threads"}
    assert 5 < stated["cache"] < stated["memory"] < stated["threads"]


def test_a_noisy_machine_is_not_taken_for_no_change(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = (run(tmp_path / name, seed, noise=0.2) for seed, name in enumerate(("old", "new")))
    assert main([str(old), str(new)]) == 2
    assert "0 slower" in (text := capsys.readouterr().out)
    assert "too noisy" in text


def test_a_control_is_never_slower(tmp_path: Path) -> None:
    old, new = run(tmp_path / "old", 0), run(tmp_path / "new", 1, {"cache 3 NumPy": 3.0})
    assert main([str(old), str(new)]) == 0


def test_differences_of_the_runs_are_told(tmp_path: Path,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    old, new = run(tmp_path / "old", 0), run(tmp_path / "new", 1, names=NAMES)
    new.write_text(new.read_text().replace('"threads": 2', '"threads": 4'))
    main([str(old), str(new)])
    text = capsys.readouterr().out
    assert "differ in threads: 2 and 4" in text
    assert "only in the old run: 12 benchmarks" in text


@pytest.mark.parametrize("damage", ["missing", "not JSON", "no benchmarks", "no controls"])
def test_what_cannot_be_compared_is_no_success(tmp_path: Path, damage: str,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    old, new = run(tmp_path / "old", 0), tmp_path / "new"
    if damage == "not JSON":
        new.write_text("{")
    elif damage == "no benchmarks":
        new.write_text('{"machine_info": {}, "benchmarks": []}')
    elif damage == "no controls":
        run(new, 1, names=TEAM)
    assert main([str(old), str(new)]) == 2
    assert "cannot compare" in capsys.readouterr().out


def test_runs_come_in_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run(tmp_path / "old", 0))]) == 2
    assert "as many new runs" in capsys.readouterr().err
