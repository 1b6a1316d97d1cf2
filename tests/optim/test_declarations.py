"""Constructor, documentation and types of an optimizer follow from its declarations."""

import inspect
import pydoc
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import fastmom as fm
from fastmom.optim import OPTIMIZERS
from fastmom.optim.hyper import Number

COMMON = ["clip_norm", "clip_norm_per_tensor", "clip_value", "grad_scale", "nonfinite", "maximize",
          "state_dtype", "rounding",
          "master"]
POSITIONAL = {      # in the order that calls by position rely on; others may follow
    "sgd": "lr momentum dampening nesterov weight_decay decay",
    "qhm": "lr momentum nu weight_decay",
    "aggmo": "lr momenta weight_decay",
    "signum": "lr momentum weight_decay",
    "lion": "lr beta1 beta2 weight_decay",
    "rmsprop": "lr beta2 eps momentum centered weight_decay nesterov eps_inside_root",
    "adagrad": "lr decay eps weight_decay initial_accumulator",
    "adam": "lr beta1 beta2 eps weight_decay decoupled_weight_decay amsgrad",
    "adamw": "lr beta1 beta2 eps weight_decay decoupled_weight_decay amsgrad",
    "nadam": "lr beta1 beta2 eps weight_decay decoupled_weight_decay momentum_decay",
    "lars": "lr momentum nesterov weight_decay trust_coefficient eps",
    "lamb": "lr beta1 beta2 eps weight_decay",
    "muon": "lr momentum nesterov weight_decay scaling adamw_lr beta1 beta2 adamw_eps",
}


@pytest.mark.parametrize("kind", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_signature_and_documentation(kind: type[fm.Optimizer]) -> None:
    signature = inspect.signature(kind)
    hypers = kind._hypers
    assert next(iter(signature.parameters)) == "params"
    assert set(signature.parameters) == {"params", "copies", *hypers}
    assert {n: p.default for n, p in signature.parameters.items() if n in hypers} == {
        name: hyper.default for name, hyper in hypers.items()}
    for text in (inspect.getdoc(kind) or "", pydoc.render_doc(kind, renderer=pydoc.plaintext)):
        for name, hyper in hypers.items():
            assert hyper.__doc__, f"{name} is not documented"
            assert (f"{name} : {hyper.kind()}, default " in text) is (name not in COMMON)
    docs = inspect.getdoc(kind) or ""
    assert f"{', '.join([*COMMON, 'copies'])}\n    See `Optimizer`." in docs
    assert docs.index("Parameters\n") < docs.index("References\n") < docs.index("Examples\n")


@pytest.mark.parametrize("name", POSITIONAL)
def test_arguments_by_position(name: str) -> None:
    kind, names = OPTIMIZERS[name], POSITIONAL[name].split()
    values = [kind._group_hypers[n].default for n in names]
    values[0] = 0.25
    optimizer = kind([np.zeros(2)], *values)
    assert [optimizer.param_groups[0][n] for n in names] == values
    more = [h.default for h in kind._group_hypers.values() if not h.kw_only][len(names):]
    with pytest.raises(TypeError, match=f"at most {len(names + more) + 1} arguments by position"):
        kind(None, *values, *more, 1)
    with pytest.raises(TypeError, match="got 'lr' by position and by name"):
        kind(None, 0.5, lr=0.5)     # type: ignore[misc]


def test_the_base_describes_what_all_take() -> None:
    docs = inspect.getdoc(fm.Optimizer) or ""
    assert list(inspect.signature(fm.Optimizer).parameters) == ["params", *COMMON, "copies"]
    assert "clip_norm : float > 0 or None, default None\n    Scale all" in docs
    assert not hasattr(fm.Optimizer, "params")


class Plain(fm.Optimizer):
    """Gradient descent, as a user would write it."""

    lr: Number = Number(default=0.5, doc="Learning rate.")
    state_names: ClassVar[tuple[str, ...]] = ()


class Built(Plain):
    """One with a constructor of its own."""

    def __init__(self, size: int) -> None:
        super().__init__([np.zeros(size)])


def test_a_subclass() -> None:
    assert list(inspect.signature(Plain).parameters) == ["params", "lr", *COMMON, "copies"]
    assert list(inspect.signature(Built).parameters) == ["size"]
    assert "lr : float >= 0, default 0.5\n    Learning rate." in (inspect.getdoc(Plain) or "")
    assert Built(3).lr == 0.5


SCRIPT = """\
import numpy as np

import fastmom as fm
from fastmom.optim.schedules import Linear

p = np.zeros(3, np.float32)
opt = fm.SGD([p], 0.1, Linear(0.5, 0.9, 100), nesterov=True, clip_norm=1.0, convention="keras")
opt.lr = Linear(0.0, 0.1, 10)
opt.lr = 0.05
opt.lr *= 0.5
half: float = opt.lr / 2
opt.clip_norm = None
opt.nesterov = False
fm.AggMo([p], momenta=(0.0, 0.9)).momenta = [0.5]
fm.AdamW([{"params": [p], "lr": 0.1}], lr=lambda step: 1 / (step + 1))
fm.SGD(lr=0.1).bind([p])
opt.step([p])
seen = {opt: half}
"""
WRONG = [
    "fm.SGD([p], learning_rate=0.1)",
    "fm.SGD([p], lr='0.1')",
    "fm.SGD([p], nesterov='yes')",
    "fm.SGD([p], 0.1, 0.9, 0.0, True, 0.0, 0.0, True)",
    "opt.lr = 'fast'",
    "opt.lr = None",
]


USER_SCRIPT = Path(__file__).parents[1] / "user_script.py"


@pytest.mark.slow
@pytest.mark.parametrize("checker", [["mypy", "--strict", "--no-incremental"], ["pyright"]],
                         ids=["mypy", "pyright"])
def test_types(checker: list[str], tmp_path: Path) -> None:
    """Users' scripts pass; every misuse is found, and nothing else."""
    pytest.importorskip(checker[0])
    shutil.copy(USER_SCRIPT, tmp_path)
    (tmp_path / "good.py").write_text(SCRIPT)
    (tmp_path / "bad.py").write_text(SCRIPT + "\n".join(WRONG) + "\n")

    run = subprocess.run([sys.executable, "-P", "-m", *checker, "good.py", "bad.py",
                          USER_SCRIPT.name], cwd=tmp_path, text=True, capture_output=True,
                         timeout=300)
    assert run.returncode == 1, run.stdout + run.stderr
    found = set(re.findall(r"(\w+\.py):(\d+).* error", run.stdout))
    first = SCRIPT.count("\n") + 1
    assert found == {("bad.py", str(first + i)) for i in range(len(WRONG))}
