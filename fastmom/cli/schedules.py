"""Schedules on the command line, written as their `repr`: ``Linear(0.5, 0.9, 1000)``."""

from __future__ import annotations

import argparse
import ast
import inspect
import warnings
from typing import Any

from fastmom.cli.options import did_you_mean
from fastmom.optim import schedules
from fastmom.optim.schedules import ReduceOnPlateau, Schedule

KINDS: dict[str, Any] = {name: getattr(schedules, name) for name in schedules.__all__
                         if name != "Schedule"}
EXAMPLE = "Cosine(start=0.1, end=0, steps=1000)"


def schedule(text: str) -> Schedule:
    """Read a schedule; an argparse type."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")     # of the parser, about a dubious number
            made = value(ast.parse(text.strip(), mode="eval").body)
        if not isinstance(made, Schedule):
            raise ValueError(f"must be a schedule, such as {EXAMPLE}")
        return made
    except SyntaxError:
        reason = f"must be a schedule, such as {EXAMPLE}"
    except (RecursionError, MemoryError):
        reason = "it is nested too deeply"
    except (TypeError, ValueError) as error:
        reason = str(error)
    raise argparse.ArgumentTypeError(f"{text!r}: {reason}")


def value(node: ast.expr) -> Any:
    """Return what the expression stands for: a literal, a list of such, or a schedule."""
    match node:
        case ast.Constant(value=int() | float() | str() | None as constant):
            return constant
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.List(elts=entries) | ast.Tuple(elts=entries):
            return [value(entry) for entry in entries]
        case ast.Call(func=ast.Name(id=name)):
            return called(name, node)
        case ast.Name(id=name) if name in KINDS:
            raise ValueError(f"expected {usage(name)}")
        case ast.Name(id=name) if hint := did_you_mean(name, KINDS):
            raise ValueError(f"{name!r} is no schedule{hint}")
    raise ValueError(f"{ast.unparse(node)!r} is no number, word, list or schedule")


def called(name: str, call: ast.Call) -> Schedule:
    """Make the schedule of this name."""
    if name not in KINDS:
        raise ValueError(f"must be one of {', '.join(KINDS)}, not {name!r}"
                         f"{did_you_mean(name, KINDS)}")
    given = [value(argument) for argument in call.args]
    named = {}
    for keyword in call.keywords:
        if keyword.arg is None or keyword.arg in named:
            raise ValueError(f"expected {usage(name)}, each argument once")
        named[keyword.arg] = value(keyword.value)
    try:
        arguments(name).bind(*given, **named)
    except TypeError as error:
        raise TypeError(f"expected {usage(name)}: {error}") from None
    check_parts([*given, *named.values()])
    made: Schedule = KINDS[name](*given, **named)
    return made


def check_parts(arguments: list[Any]) -> None:
    """Raise for a schedule with state inside another: it ignores the step."""
    for argument in arguments:
        if isinstance(argument, ReduceOnPlateau):
            raise ValueError("ReduceOnPlateau cannot be part of another schedule: it ignores the "
                             "step")
        if isinstance(argument, list):
            check_parts(argument)


def arguments(name: str) -> inspect.Signature:
    """Return the arguments that can be given: not the state of a schedule."""
    signature = inspect.signature(KINDS[name])
    return signature.replace(parameters=[
        p.replace(annotation=p.empty) for p in signature.parameters.values() if p.name != "state"],
        return_annotation=signature.empty)


def usage(name: str) -> str:
    """Return the call with its arguments and defaults."""
    return f"{name}{arguments(name)}"


HELP = "\n".join([
    "schedules, by optimizer steps, of which an epoch has samples / batch size, rounded up:",
    *(f"  {usage(name)}" for name in KINDS),
    "",
    'such as --momentum-schedule "Linear(0.5, 0.9, steps=1000)", from 0.5 to 0.9 in 1000 steps, or',
    '--lr-schedule "Piecewise([(0, Linear(0, 0.1, 500)), (500, Cosine(0.1, 0, 8875))])", a warm-up',
    "and then half a cosine; each piece sees the steps since its own begin.",
    "ReduceOnPlateau follows the loss (with mode='max', the accuracy) of --validation-split."])
