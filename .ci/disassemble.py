"""Check the machine code of the installed update rules: ``python .ci/disassemble.py``.

In each rule's hot loop of each build there must be packed arithmetic of the build's full width and
of the rule's type, and no conversion between float and double. (x86-64; needs objdump.)
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from fastmom.kernels import isa

FUNCTION = re.compile(r"^[0-9a-f]+ <__pyx_fuse_([01])__pyx_f_\w*?rules_[a-z0-9]+_(\w+)>:$")
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
WIDTH = {"baseline": "xmm", "avx2": "ymm", "avx512": "zmm"}
CONVERTS = re.compile(r"^v?cvt(ss2sd|sd2ss|ps2pd|pd2ps)")
Code = list[tuple[int, str, str]]


def functions(path: Path) -> dict[tuple[str, str], Code]:
    """The instructions of each rule, by name and type."""
    listing = subprocess.run(["objdump", "-d", "--no-show-raw-insn", path], check=True,
                             capture_output=True, text=True).stdout
    found: dict[tuple[str, str], Code] = {}
    code: Code | None = None
    for line in listing.splitlines():
        if line.endswith(">:"):
            match = FUNCTION.match(line)
            code = None
            if match:
                code = found.setdefault((match[2], "float" if match[1] == "0" else "double"), [])
        elif code is not None and (match := INSTRUCTION.match(line)):
            code.append((int(match[1], 16), match[2], match[3]))
    return found


def loops(code: Code) -> list[Code]:
    """What lies between each backward jump and its target; innermost loops only."""
    spans = []
    for address, operation, operands in code:
        target = re.match(r"([0-9a-f]+) <", operands)
        if operation.startswith("j") and target and int(target[1], 16) <= address:
            spans.append((int(target[1], 16), address))
    inner = [(a, b) for a, b in spans
             if not any((c, d) != (a, b) and a <= c and d <= b for c, d in spans)]
    return [[line for line in code if a <= line[0] <= b] for a, b in inner]


def faults(name: str, kind: str, build: str, code: Code) -> list[str]:
    """What is wrong with one rule's loops."""
    suffix = "pd" if kind == "double" or name == "square_sum" else "ps"
    packed = re.compile(rf"^v?(mul|add|sub|f[n]?m(add|sub)\w*){suffix}$")
    hot = [loop for loop in loops(code)
           if any(packed.match(op) and f"%{WIDTH[build]}" in args for _, op, args in loop)]
    if not hot:
        return [f"no loop with packed {suffix} arithmetic on %{WIDTH[build]} registers"]
    if name == "square_sum":        # sums in double by design
        return []
    return [f"{op} in a loop" for loop in loops(code) for _, op, _ in loop if CONVERTS.match(op)]


def main() -> int:
    wrong, checked = 0, 0
    for build in isa.BUILDS:
        module = import_module(f"fastmom.kernels.rules_{build}")
        found = functions(Path(module.__file__ or ""))
        for name in (*module.names, "limit", "square_sum"):
            for kind in ("float", "double"):
                problems = (faults(name, kind, build, found[name, kind])
                            if (name, kind) in found else ["function not found"])
                checked += 1
                wrong += bool(problems)
                print(f"{build:9} {name:12} {kind:7} {'; '.join(problems) or 'ok'}")
    print(f"{checked} functions checked, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
