"""Check the machine code of the installed kernels: ``python .ci/disassemble.py``.

In the hot loops of the rules and layers of each build there must be packed arithmetic of the
build's full width and of the form's type, and no conversion between float and double. (x86-64;
needs objdump.)
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from itertools import product
from pathlib import Path

from fastmom.kernels import isa

LOOP = re.compile(r"^[0-9a-f]+ <__pyx_fuse_([01])(?:_\d)?__pyx_f_\w*?loops_[a-z0-9]+_(\w+)"
                  r"(?:\(.*\))?>:$")
SUM = re.compile(r"^[0-9a-f]+ <void fm::.*add<(float|double), (\d), (?:true|false)>.*>:$")
COMBINE = re.compile(r"^[0-9a-f]+ <fm_combine(32|64)\(.*>:$")      # products that skip zeros
LAYERS = ("gather", "bias_activation", "activation_gradient", "dropout", "dropout_gradient",
          "add_slices")
WIDENED = ("square_sum", "add_products", "rescale")       # computed in double, also of floats
MIXED = (*WIDENED, "gather")            # gather: of samples of another type
UNROLLED = ("dropout",)                 # the loop over a group of 64 elements is
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
WIDTH = {"baseline": "xmm", "avx2": "ymm", "avx512": "zmm"}
CONVERTS = re.compile(r"^v?cvt(ss2sd|sd2ss|ps2pd|pd2ps)")
Code = list[tuple[int, str, str]]


def functions(path: Path, pattern: re.Pattern[str]) -> dict[tuple[str, ...], Code]:
    """The instructions of each function, by the groups of the pattern."""
    listing = subprocess.run(["objdump", "-dC", "--no-show-raw-insn", path], check=True,
                             capture_output=True, text=True).stdout
    found: dict[tuple[str, ...], Code] = {}
    code: Code | None = None
    for line in listing.splitlines():
        if line.endswith(">:"):
            match = pattern.match(line)
            code = found.setdefault(match.groups(), []) if match else None
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
    """Return what is wrong with the loops of one function."""
    suffix = "pd" if kind == "double" or name in WIDENED else "ps"
    packed = re.compile(rf"^v?(mul|add|sub|f[n]?m(add|sub)\w*){suffix}$")
    candidates = [code] if name in UNROLLED else loops(code)
    hot = [loop for loop in candidates
           if any(packed.match(op) and f"%{WIDTH[build]}" in args for _, op, args in loop)]
    if not hot:
        return [f"no loop with packed {suffix} arithmetic on %{WIDTH[build]} registers"]
    if name in MIXED:
        return []
    return [f"{op} in a loop" for loop in loops(code) for _, op, _ in loop if CONVERTS.match(op)]


def checks(build: str) -> Iterator[tuple[str, str, list[str]]]:
    """Each function of this build, its type, and what is wrong with it."""
    loops = import_module(f"fastmom.kernels.loops_{build}")
    path = Path(loops.__file__ or "")
    found, sums, combine = (functions(path, pattern) for pattern in (LOOP, SUM, COMBINE))
    for name in (*loops.rules, "load", "rescale", "square_sum", "add_products", *LAYERS):
        for number, kind in (("0", "float"), ("1", "double")):
            yield name, kind, (faults(name, kind, build, found[number, name])
                               if (number, name) in found else ["function not found"])
    for bits, kind in (("32", "float"), ("64", "double")):
        yield "combine", kind, (faults("combine", kind, build, combine[bits,])
                                if (bits,) in combine else ["function not found"])
    for kind, count in product(("float", "double"), "1234"):
        yield f"sum of {count}", kind, (faults("sum", kind, build, sums[kind, count])
                                       if (kind, count) in sums else ["function not found"])


def main() -> int:
    wrong, checked = 0, 0
    for build in isa.BUILDS:
        for name, kind, problems in checks(build):
            checked += 1
            wrong += bool(problems)
            print(f"{build:9} {name:19} {kind:7} {'; '.join(problems) or 'ok'}")
    print(f"{checked} functions checked, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
