"""A script that repeats a run of the playground, knob turns included."""

from __future__ import annotations

from collections.abc import Iterable

import fastmom
from fastmom.playground.runs import METHODS, Run

TEMPLATE = '''\
"""Repeats a run of `fastmom playground`: {steps:,} steps of {method}, {turns}.

Written by fastmom {version}. It gives the same losses, bit for bit. With the name of a file as
argument it writes them there, one a line, as hexadecimal numbers that hold every bit.
"""

import sys
from pathlib import Path

import fastmom as fm
from fastmom.optim.schedules import Piecewise

LR = {lr}
MOMENTUM = {momentum}
STEPS = {steps}


class Curve(fm.nn.Callback):
    """Keep the loss of each step, and end after the last one."""

    def __init__(self):
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(self.model.batch_losses[-1])
        self.model.stop_training = len(self.losses) >= STEPS

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = len(self.losses) >= STEPS


data = fm.data.load({data!r})
model = fm.nn.Sequential([
    fm.nn.Rescaling(1 / 255, input_shape=data.x_train.shape[1:]), fm.nn.Flatten(),
{layers}
    fm.nn.Dense(10, activation="softmax")], seed={seed})
model.compile(fm.{optimizer}(lr=LR, momentum=MOMENTUM{more}), metrics=["accuracy"])
curve = Curve()
model.fit(data.x_train, data.y_train, batch_size={batch_size}, epochs=10 ** 9, verbose=0,
          callbacks=[curve])
print(f"{{len(curve.losses):,}} steps, last loss {{curve.losses[-1]:.4f}}")
model.evaluate(data.x_test, data.y_test)
if len(sys.argv) > 1:
    Path(sys.argv[1]).write_text("".join(f"{{float(loss).hex()}}\\n" for loss in curve.losses))
'''


def recipe(run: Run) -> str:
    """Return the script for the steps that the run has done.

    Raises
    ------
    ValueError
        If it has done none.
    """
    steps = run.step
    if not steps or run.dataset is None:
        raise ValueError("the run has no steps to repeat yet")
    settings = run.settings
    optimizer, more = METHODS[settings.method]
    turned = len(run.marks())
    return TEMPLATE.format(
        steps=steps, method=settings.method, version=fastmom.__version__,
        turns=f"{turned or 'no'} turn{'s' * (turned != 1)} of a knob", data=run.dataset.name,
        lr=pieces(run.lr.schedule().pieces), momentum=pieces(run.momentum.schedule().pieces),
        layers="\n".join(f'    fm.nn.Dense({units}, activation="relu"), '
                         f"fm.nn.Dropout({settings.dropout!r})," for units in settings.hidden),
        seed=settings.seed, optimizer=optimizer, batch_size=settings.batch_size,
        more="".join(f", {name}={value!r}" for name, value in more.items()))


def pieces(turns: Iterable[object]) -> str:
    """Return a schedule of these turns, a line each if there are many."""
    text = f"Piecewise({list(turns)!r})"
    return text if len(text) < 90 else text.replace("), (", "),\n    (")
