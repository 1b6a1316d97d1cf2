"""The README's programs run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from unittest.mock import patch

import pytest

from fastmom.nn.registered import LAYERS

README = Path(__file__).parents[1] / "README.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)


def test_there_are_programs() -> None:
    assert len(PROGRAMS) >= 2


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.splitlines()[0])
def test_program(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                 capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    with patch.dict(LAYERS):        # other tests have layers of the same names
        exec(compile(program, str(README), "exec"), {"__name__": "__main__"})
    for line in capsys.readouterr().out.splitlines():
        assert "nan" not in line
