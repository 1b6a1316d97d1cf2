"""Options of `fastmom train` that write files, hold samples out and take schedules."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import N_TRAIN, metrics_of, run, train

from fastmom import plot
from fastmom.cli.schedules import HELP, KINDS, schedule, usage
from fastmom.optim import schedules
from fastmom.optim.schedules import (
    Constant,
    Cosine,
    Exponential,
    Linear,
    OneCycle,
    Piecewise,
    ReduceOnPlateau,
    Schedule,
    Step,
    Sutskever,
)

SCHEDULES = {
    "Constant(0.1)": Constant(0.1),
    "Constant(-1)": Constant(-1),
    "Linear(0.5, 0.9, 1000)": Linear(0.5, 0.9, 1000),
    " Linear(0.5,steps=1_000,end=9e-1) ": Linear(0.5, 0.9, 1000),
    "Sutskever()": Sutskever(),
    "Sutskever(period=7)": Sutskever(period=7),
    "Step(0.1, 0.5, 100)": Step(0.1, 0.5, 100),
    "Exponential(0.1, 0.5)": Exponential(0.1, 0.5),
    "Cosine(0.1, 0, 100, period_multiplier=None)": Cosine(0.1, 0, 100),
    "OneCycle(0.1, 500, rise=0.5)": OneCycle(0.1, 500, rise=0.5),
    "ReduceOnPlateau(0.1, patience=2, mode='max')": ReduceOnPlateau(0.1, patience=2, mode="max"),
    "Piecewise([(0, Linear(0, 0.1, 5)), [5, Cosine(0.1, 0, 9)], (14, 0.01)])":
        Piecewise([(0, Linear(0, 0.1, 5)), (5, Cosine(0.1, 0, 9)), (14, 0.01)]),
    "Piecewise(((0, 0.1), (100, 0.01)))": Piecewise([(0, 0.1), (100, 0.01)]),
}


@pytest.mark.parametrize("text", SCHEDULES)
def test_schedules(text: str) -> None:
    assert schedule(text) == SCHEDULES[text]


@pytest.mark.parametrize("made", [made for made in SCHEDULES.values()
                                  if not isinstance(made, ReduceOnPlateau)], ids=repr)
def test_the_syntax_is_that_of_repr(made: Schedule) -> None:
    assert schedule(repr(made)) == made


def test_every_schedule_can_be_chosen_and_is_in_the_help() -> None:
    assert {name for name in schedules.__all__ if name != "Schedule"} == set(KINDS)
    for name in KINDS:
        assert f"  {usage(name)}\n" in HELP


LINEAR = "expected Linear(start, end, steps)"
MALFORMED = {
    "": "must be a schedule, such as Cosine(start=0.1, end=0, steps=1000)",
    "linear:0.5,0.9,1000": "must be a schedule, such as Cosine(",
    "Linear(0, 1, 2": "must be a schedule, such as Cosine(",
    "x = Constant(1)": "must be a schedule, such as Cosine(",
    "0.1": "must be a schedule, such as Cosine(",
    "[Constant(1)]": "must be a schedule, such as Cosine(",
    "Warmup(500)": "must be one of Constant, Cosine, ",
    "linear(0, 1, 2)": "not 'linear'; did you mean Linear?",
    "OneCycl(0.1, 500)": "not 'OneCycl'; did you mean OneCycle?",
    "sutskever": "'sutskever' is no schedule; did you mean Sutskever?",
    "Linear": LINEAR,
    "Linear(0.1)": f"{LINEAR}: missing a required argument: 'end'",
    "Linear(1, 2, 3, 4)": f"{LINEAR}: too many positional arguments",
    "Linear(1, 2, stops=3)": f"{LINEAR}: missing a required argument: 'steps'",
    "Linear(1, 2, **{'steps': 3})": LINEAR,
    "Linear(*[1, 2, 3])": "'*[1, 2, 3]' is no number, word, list or schedule",
    "Sutskever(top=1)": "expected Sutskever(maximum=0.99, period=250): got an unexpected keyword "
                        "argument 'top'",
    "Linear(1, 2, start=3)": "multiple values for argument 'start'",
    "Linear(start=1, start=2, end=3, steps=4)": f"{LINEAR}, each argument once",
    "Linear('a', 1, 2)": "start must be a finite number, not 'a'",
    "Linear(a, 1, 2)": "'a' is no number, word, list or schedule",
    "Linear(1e999, 1, 2)": "start must be a finite number, not inf",
    "Linear(True, 1, 2)": "start must be a finite number, not True",
    "Linear(0, 1, 2.5)": "steps must be an integer >= 1, not 2.5",
    "Linear(0, 1, 0)": "steps must be an integer >= 1, not 0",
    "Linear(0, 1, 2 * 3)": "'2 * 3' is no number, word, list or schedule",
    "Linear(0, 1, b'2')": "is no number, word, list or schedule",
    "Constant(1j)": "'1j' is no number, word, list or schedule",
    "Constant(-'1')": "is no number, word, list or schedule",
    "Constant(__import__('os').getpid())": "is no number, word, list or schedule",
    "Constant(open('secret'))": "must be one of Constant, Cosine, ",
    "Constant(lambda: 1)": "'lambda: 1' is no number, word, list or schedule",
    "schedules.Constant(1)": "'schedules.Constant(1)' is no number, word, list or schedule",
    "(" * 500 + ")" * 500: "must be a schedule, such as Cosine(",
    "-" * 100_000 + "1": "it is nested too deeply",
    "ReduceOnPlateau(0.1, state=1)": "unexpected keyword argument 'state'",
    "ReduceOnPlateau(0.1, mode='up')": "mode must be one of 'min', 'max', not 'up'",
    "Piecewise(1)": "pieces must be a list of (step, number or schedule), not 1",
    "Piecewise([(0, 0.1), (0, 0.2)])": "pieces must begin at 0 and at ever later steps, not at "
                                       "[0, 0]",
    "Piecewise([(0, 0.1), ('x', 0.2)])": "pieces[1][0] must be an integer >= 0, not 'x'",
    "Piecewise([(0, 0.1), (9, ReduceOnPlateau(0.1))])":
        "ReduceOnPlateau cannot be part of another schedule: it ignores the step",
}


@pytest.mark.parametrize("text", MALFORMED, ids=lambda text: text[:40])
def test_malformed_schedules(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as error:
        schedule(text)
    assert str(error.value).startswith(f"{text!r}: ")
    assert MALFORMED[text] in str(error.value)


def test_schedules_are_by_steps(digits: Path) -> None:
    plain = train(digits, "--lr", 0.02, "--momentum", 0.5)
    held = train(digits, "--lr-schedule", "Piecewise([(0, 0.02), (20, 0.5)])",
                 "--momentum-schedule", "Constant(0.5)")
    assert metrics_of(held) == metrics_of(plain)      # 20 steps are two epochs
    changed = train(digits, "--lr-schedule", "Piecewise([(0, 0.02), (19, 0.5)])",
                    "--momentum-schedule", "Constant(0.5)")
    assert metrics_of(changed) != metrics_of(plain)
    assert held["config"]["momentum"] == {"schedule": "Constant", "value": 0.5}
    assert held["config"]["lr"] == {"schedule": "Piecewise", "pieces": [[0, 0.02], [20, 0.5]]}


def test_a_plateau_follows_the_validation(digits: Path) -> None:
    options = ["--validation-split", 0.5, "--epochs", 3]
    plain = train(digits, "--lr", 0.02, *options)
    for mode in ("min", "max"):     # whatever the figure, it never improves by so much
        reduced = train(digits, *options, "--lr-schedule", f"ReduceOnPlateau(0.02, patience=0, "
                        f"factor=0, threshold=1e9, mode={mode!r})")
        rates = [epoch.pop("lr") for epoch in reduced["epochs"]]
        assert rates == [0.02, 0.02, 0]
        assert metrics_of(reduced)[:2] == metrics_of(plain)[:2]   # the first one always improves
        assert metrics_of(reduced)[2]["val_loss"] == metrics_of(reduced)[1]["val_loss"]


def test_validation_split(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = train(digits, "--validation-split", 0.2)
    assert set(content) == {"data", "config", "epochs", "test"}
    held_out = N_TRAIN // 5
    for epoch in content["epochs"]:
        assert set(epoch) == {"loss", "accuracy", "val_loss", "val_accuracy", "seconds"}
        assert round(epoch["val_accuracy"] * held_out, 9).is_integer()
        assert round(epoch["accuracy"] * (N_TRAIN - held_out), 9).is_integer()
    out = capsys.readouterr().out
    assert out.count("  val loss ") == out.count("  val accuracy ") == 2
    assert "\n240 training + 60 validation + 100 test samples, layers 784-16-10, 12,730 " in out
    assert out.count("test accuracy") == 1
    assert out.endswith(f"\ntest accuracy {content['test']['accuracy']:.2%} after epoch 2\n")


@pytest.mark.parametrize("split", [0, 0.5])
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_log(digits: Path, tmp_path: Path, ending: str, split: float) -> None:
    file = tmp_path / f"log.{ending}"
    content = train(digits, "--log", file, "--validation-split", split)
    lines = file.read_text().splitlines()
    rows: list[Any] = ([*csv.DictReader(lines)] if ending == "csv" else
                       [json.loads(line) for line in lines])
    assert [{name: float(value) for name, value in row.items()} for row in rows] == [
        {"epoch": i, **epoch} for i, epoch in enumerate(content["epochs"])]


@pytest.mark.parametrize(("options", "momentum", "prefix"), [
    ([], None, "test"), (["--smooth", 0.5], 0.5, "test"), (["--smooth", 0], 0, "test"),
    (["--validation-split", 0.1], None, "val"), (["--dropout", 0], None, "test")])
def test_plot(digits: Path, tmp_path: Path, options: list[object], momentum: float | None,
              prefix: str, monkeypatch: pytest.MonkeyPatch,
              capsys: pytest.CaptureFixture[str]) -> None:
    drawn: list[Any] = []

    def plot_history(histories: Any, **given: Any) -> Any:
        drawn.append((histories, given))
        return original(histories, **given)
    original = plot.plot_history
    monkeypatch.setattr(plot, "plot_history", plot_history)
    file = tmp_path / "figure.svg"
    content = train(digits, "--plot", file, *options)
    (histories, given), = drawn
    share = 0 if "--dropout" in options else 0.2
    assert given == {"momentum": momentum, "dropout": share > 0, "title":
                     f"{digits}, batch 32, hidden layers 16, dropout {share}, seed 0"}
    (label, (run,)), = histories.items()
    assert label == "SGD(lr=0.01, momentum=0.9, decay=1e-06, nesterov=True)"
    assert set(run) == {"loss", "accuracy", f"{prefix}_loss", f"{prefix}_accuracy", "batch_loss"}
    for name in set(run) - {"batch_loss"}:
        assert run[name] == [epoch[name] for epoch in content["epochs"]]
    samples = N_TRAIN if prefix == "test" else N_TRAIN * 9 // 10
    sizes = [32] * (samples // 32) + [samples % 32]
    assert len(run["batch_loss"]) == 2 * len(sizes)
    first = sum(n * x for n, x in zip(sizes, run["batch_loss"], strict=False)) / samples
    assert first == pytest.approx(content["epochs"][0]["loss"], rel=1e-6)
    assert "<svg" in file.read_text()
    assert capsys.readouterr().out.endswith(f"\nfigure: {file}\n")


# Options, and what the message holds
WRONG: list[tuple[list[str], str]] = [
    (["--smooth", "0.5"], "--smooth needs --plot"),
    (["--plot", "a.png", "--smooth", "1.5"],
     "argument --smooth: must be a number from 0 to 1, not '1.5'"),
    (["--plot", "a.gif"],
     "argument --plot: must be a file that ends in .png or .svg or .pdf, not 'a.gif'"),
    (["--plot", "no/such.png"], "--plot: there is no directory no"),
    (["--log", "a.txt"], "argument --log: must be a file that ends in .csv or .jsonl, not 'a.txt'"),
    (["--log", "no/such.csv"], "--log: there is no directory no"),
    (["--log", "old.csv"], "--log: old.csv is there already; name another file or delete it"),
    (["--json", "a.jsonl", "--log", "a.jsonl"], "--log: a.jsonl is the file of --json"),
    (["--keep", "1"], "--keep needs --checkpoint"),
    (["--checkpoint", "new", "--keep", "0"], "argument --keep: must be an integer >= 1, not '0'"),
    (["--resume"], "--resume needs --checkpoint"),
    (["--checkpoint", "file"], "--checkpoint: file is there and is not a directory"),
    (["--validation-split", "1"],
     "argument --validation-split: must be a number from 0 to below 1, not '1'"),
    (["--validation-split", "0.999"], "--validation-split: 0.999 of 300 samples leaves 0 "),
    (["--lr", "1", "--lr-schedule", "Constant(1)"],
     "argument --lr-schedule: not allowed with argument --lr"),
    (["--lr-schedule", "Warmup(500)"], "argument --lr-schedule: 'Warmup(500)': must be one of "),
    (["--lr-schedule", "Constant(-1)"], "at step 0: lr must be a finite number >= 0, not -1.0"),
    (["--momentum-schedule", "Linear(0.5, 1.5, 2)"],
     "at step 2: momentum must be a number from 0 to 1, not 1.5"),
    (["--lr-schedule", "ReduceOnPlateau(0.1)"],
     "--lr-schedule: ReduceOnPlateau needs --validation-split"),
    (["--momentum-schedule", "ReduceOnPlateau(1.5)"],
     "--momentum-schedule: must be a number from 0 to 1, not 1.5"),
    (["--optimizer", "adam", "--momentum-schedule", "Sutskever()"],
     "--momentum-schedule: Adam has no momentum; its options are --lr, --weight-decay"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[" ".join(row[0]) for row in WRONG])
def test_wrong_options(options: list[str], message: str, digits: Path, tmp_path: Path,
                       monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("file", "old.csv"):
        Path(name).touch()
    assert run("--data", digits, *options) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert {file.name for file in tmp_path.iterdir()} == {"file", "old.csv"}


def test_without_matplotlib(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                            capsys: pytest.CaptureFixture[str]) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run("--data", digits, "--plot", tmp_path / "a.png") == 2
    out, err = capsys.readouterr()
    assert 'pip install "fastmom[plot]"' in err
    assert out == ""
