"""The README's figures are those of the stored results; needs a source checkout."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "bench" / "results"


def check(readme: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "bench.readme", "--check", "--readme", readme],
                          cwd=ROOT, capture_output=True, text=True)


def test_figures_are_the_stored_ones() -> None:
    done = check(README)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("block", ["accuracy", "speed", "memory", "epoch"])
def test_another_figure_is_noticed(block: str, tmp_path: Path) -> None:
    changed = tmp_path / "README.md"
    pattern = rf"(<!-- bench:{block} -->.*?\d)(.*?<!-- /bench -->)"
    text = re.sub(pattern, r"\g<1>7\2", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    changed.write_text(text, encoding="utf-8")
    assert check(changed).returncode == 1


def test_pictures_are_there_and_small() -> None:
    named = re.findall(r"!\[.*?\]\((.*?)\)", README.read_text(encoding="utf-8"))
    named += [f"bench/results/{name}" for name in re.findall(
        r"!\[.*?\]\((.*?)\)", (RESULTS / "report.md").read_text(encoding="utf-8"))]
    assert len(named) >= 2
    for name in named:
        assert 0 < (ROOT / name).stat().st_size < 150_000, name
