"""The README's numbers are those of the stored results; needs a source checkout."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "bench" / "results"
MACHINE_PATH = re.compile(r"(?<!\w)(?:/|[A-Za-z]:\\)(?:home|root|tmp|usr|opt|var|work|mnt|Users)\b")

# Nothing but bench/ is to be found in the checkout: the package is the installed one.
BENCH = "import sys; sys.path.append(sys.argv.pop(1)); "


def check(readme: Path) -> subprocess.CompletedProcess[str]:
    code = BENCH + "import runpy; runpy.run_module('bench', run_name='__main__', alter_sys=True)"
    arguments = ["readme", "--check", "--readme", readme]
    return subprocess.run([sys.executable, "-c", code, ROOT, *arguments],
                          capture_output=True, text=True)


def test_figures_are_the_stored_ones() -> None:
    done = check(README)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("block", ["accuracy", "speed", "memory", "epoch"])
def test_another_figure_is_noticed(block: str, tmp_path: Path) -> None:
    changed = tmp_path / "README.md"
    pattern = rf"(<!-- bench:{block} -->.*?\d)(.*?<!-- /bench -->)"
    text = re.sub(pattern, r"\g<1>7\2", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    changed.write_text(text, encoding="utf-8")
    done = check(changed)
    assert done.returncode == 1
    assert "disagrees" in done.stdout


def test_pictures_are_there_and_small() -> None:
    named = re.findall(r"!\[.*?\]\((.*?)\)", README.read_text(encoding="utf-8"))
    named += [f"bench/results/{name}" for name in re.findall(
        r"!\[.*?\]\((.*?)\)", (RESULTS / "report.md").read_text(encoding="utf-8"))]
    assert len(named) >= 2
    for name in named:
        assert 0 < (ROOT / name).stat().st_size < 150_000, name


@pytest.mark.parametrize("name", ["results.json", "report.md"])
def test_no_path_of_a_machine_is_stored(name: str) -> None:
    assert not MACHINE_PATH.findall((RESULTS / name).read_text(encoding="utf-8"))


def test_paths_are_not_saved(tmp_path: Path) -> None:
    """Only the last part of a path is kept; rates, versions and file names stay as they are."""
    kept = ["64 GB/s", "x86_64", "gcc 12.2.0-14+deb12u1", "1/2", "MNIST from FASTMOM_DATA"]
    given = ["MNIST from FASTMOM_DATA=/home/someone/data/mnist", "can't open '/tmp/a b/x.py'",
             r"C:\Users\someone\python.exe", *kept]
    code = BENCH + (
        "import json; from pathlib import Path; from bench import results; "
        "results.save(Path(sys.argv[1]), {'part': {'texts': json.loads(sys.argv[2])}})")
    file = tmp_path / "results.json"
    subprocess.run([sys.executable, "-c", code, ROOT, str(file), json.dumps(given)], check=True)
    saved = json.loads(file.read_text(encoding="utf-8"))["part"]["texts"]
    assert saved[0] == "MNIST from FASTMOM_DATA=mnist"
    assert not [text for text in saved if MACHINE_PATH.search(text)]
    assert saved[3:] == kept
