"""A process that works for the timing engine, and answers in lines of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 900.0        # seconds that an answer may take
Answer = dict[str, Any]

# Import the package `bench` without its parent folder, which has a fastmom that is not installed
START = """import sys, importlib.util as util
spec = util.spec_from_file_location("bench", sys.argv[1])
sys.modules["bench"] = util.module_from_spec(spec)
from bench.peers.__main__ import main
main(sys.argv[2:])"""


class Worker:
    """A process that answers lines of JSON; `missing` says why there is none.

    Parameters
    ----------
    command : sequence of str
    environment : mapping
        Added to the environment of this process.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.variants: list[str] = []
        self.versions = self.note = self.missing = ""
        self.log: Any = tempfile.TemporaryFile()    # noqa: SIM115  (stderr, until it closes)
        try:
            self.process: Any = subprocess.Popen(
                command, env=os.environ | environment, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=self.log, text=True)
        except OSError as error:
            self.process, self.missing = None, f"{Path(command[0]).name}: {error.strerror}"
            return
        ready = self._answer()
        self.missing = ready.get("missing") or ready.get("error", "")
        self.variants = ready.get("variants", [])
        self.versions, self.note = ready.get("versions", ""), ready.get("note", "")
        if self.missing:
            self.close()

    @classmethod
    def python(cls, python: str, *arguments: str,
               environment: Mapping[str, str] | None = None) -> Worker:
        """Run `bench.peers` in an interpreter, with the packages that are installed there."""
        package = str(ROOT / "bench" / "__init__.py")
        return cls([python, "-P", "-c", START, package, *arguments], environment or {})

    def ask(self, what: str, given: object) -> Answer:
        """Return its answer; ``{"error": reason}`` if it fails, dies or takes too long."""
        try:
            self.process.stdin.write(json.dumps({what: given}) + "\n")
            self.process.stdin.flush()
        except OSError:
            return {"error": self._last_words()}
        return self._answer()

    def _answer(self) -> Answer:
        timer = threading.Timer(PATIENCE, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if not line:
            return {"error": self._last_words()}
        answer: Answer = json.loads(line)
        return answer

    def _last_words(self) -> str:
        status = self.process.wait()
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        return f"ended with status {status}: {lines[-1] if lines else 'silently'}"[:200]

    def cpu_seconds(self) -> float:
        """Return those of all its threads so far; 0 where there is no /proc, or no process."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except (OSError, AttributeError):
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        if self.process is not None and not self.log.closed:
            self.process.stdin.close()      # ends it, as there is nothing left to answer
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process.stdout.close()
        self.log.close()
