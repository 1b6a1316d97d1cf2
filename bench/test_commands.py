"""Test the commands, and the paired comparison on made-up rows."""

from __future__ import annotations

import sys
from itertools import product

import pytest

from bench.__main__ import COMMANDS, main
from bench.measure import SECTIONS
from bench.pairs import FASTER, SLOWER, WHO, Row, judged
from bench.peers import PEERS, peer_of
from bench.report import CHAPTERS
from bench.worker import Worker
from bench.workloads import Case


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) > 5


def test_every_section_is_reported() -> None:
    assert SECTIONS.keys() == CHAPTERS.keys()


@pytest.mark.parametrize("name", PEERS)
def test_a_candidate_is_its_peers(name: str) -> None:
    assert peer_of(name) == peer_of(f"{name} form") == peer_of(f"{name}, 1 thread form") == name


def test_a_worker_steps(tmp_path_factory: pytest.TempPathFactory,
                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    worker = Worker.python(sys.executable, "on_fastmom")
    try:
        assert worker.missing == ""
        case = Case("SGD", [[10]], 1.0)
        assert worker.ask("prepare", {"steps": case._asdict()}) == {"variants": [""]}
        assert 0 < worker.ask("turn", "")["seconds"] < 1
        unknown = {"steps": Case("None", [[1]])._asdict()}
        assert "KeyError" in worker.ask("prepare", unknown)["error"]
    finally:
        worker.close()


def row(old: float, new: float, noise: float = 0.0, name: str = "one") -> Row:
    """Make a row whose second processes are slower by the noise."""
    seconds = {who: [(new if who.startswith("new") else old) * (1 + noise * who.endswith("again"))]
               for who in WHO}
    return Row("step", name, seconds)


@pytest.mark.parametrize(("ratio", "word"), [(1.0, ""), (1.02, ""), (1.1, SLOWER), (0.9, FASTER)])
def test_more_than_allowed_is_told(ratio: float, word: str) -> None:
    assert judged([row(1.0, ratio)], 0.03) == {"step: one": word}


def test_noise_is_allowed_for() -> None:
    assert judged([row(1.0, 1.1, noise=0.2)], 0.03)["step: one"] == ""
    noisy = [row(1.0, 1.0, 0.2, f"noisy {i}") for i in range(9)]
    assert judged([row(1.0, 1.1), *noisy], 0.03)["step: one"] == ""


def test_minima_and_medians_must_agree() -> None:
    for disturbed, times in product(("old", "new"), ([1.0, 9.0, 9.0], [9.0, 1.0, 9.0])):
        seconds = {who: times if who.startswith(disturbed) else [1.0, 1.0, 1.0] for who in WHO}
        assert Row("step", "one", seconds).word(0.03) == ""


def test_two_measurements_count_together() -> None:
    first, second = row(1.0, 1.3), row(1.0, 1.0)
    assert first.word(0.03) == SLOWER
    joined = first.joined(second)
    assert joined.minima == 1.0
    assert joined.word(0.03) == ""
