"""Schedules on the command line: ``linear:0.5,0.9,1000`` is ``Linear(0.5, 0.9, 1000)``."""

from __future__ import annotations

import argparse
import inspect
import re
from typing import Any

from fastmom.optim import schedules
from fastmom.optim.schedules import Piecewise, ReduceOnPlateau, Schedule


def kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


KINDS: dict[str, type[Schedule]] = {
    kebab(name): getattr(schedules, name) for name in schedules.__all__
    if name not in ("Schedule", "Piecewise")}


def schedule(text: str) -> Schedule:
    """An argparse type: one schedule, or several as ``FIRST/STEP@SECOND/STEP@THIRD``."""
    try:
        first, *others = text.split("/")
        return chain(first, others) if others else one(first)
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def chain(first: str, others: list[str]) -> Piecewise:
    pieces: list[Any] = [(0, number_or_schedule(first))]
    for other in others:
        begin, at, piece = other.partition("@")
        if not at:
            raise ValueError(f"the piece {other!r} must be STEP@SCHEDULE or STEP@NUMBER")
        pieces.append((value(begin), number_or_schedule(piece)))
    return Piecewise(pieces)


def number_or_schedule(text: str) -> float | Schedule:
    number = value(text)
    if not isinstance(number, str):
        return number
    piece = one(text)
    if isinstance(piece, ReduceOnPlateau):
        raise ValueError("reduce-on-plateau cannot be a piece: it ignores the step")
    return piece


def one(text: str) -> Schedule:
    name, _, rest = text.partition(":")
    if name not in KINDS:
        raise ValueError(f"must be one of {', '.join(KINDS)}, with its arguments, not {name!r}")
    given: list[Any] = []
    named: dict[str, Any] = {}
    for part in rest.split(",") if rest else []:
        key, equals, right = part.partition("=")
        if not equals and not named:
            given.append(value(part))
        elif not equals or key in named:
            raise ValueError(f"expected {usage(name)}, not {part!r} after "
                             f"{', '.join(named)}")
        else:
            named[key] = value(right)
    try:
        arguments(name).bind(*given, **named)
    except TypeError as error:
        raise TypeError(f"expected {usage(name)}: {error}") from None
    kind: Any = KINDS[name]
    made: Schedule = kind(*given, **named)
    return made


def value(text: str) -> int | float | str:
    """The number this is, else the text, which the schedule refuses or knows as a word."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def arguments(name: str) -> inspect.Signature:
    """What can be given; the state of a schedule cannot."""
    signature = inspect.signature(KINDS[name])
    return signature.replace(parameters=[
        p for p in signature.parameters.values() if p.name != "state"])


def usage(name: str) -> str:
    """As in ``cosine:start,end,steps[,period_multiplier=...]``."""
    parts = []
    for p in arguments(name).parameters.values():
        default = "..." if p.default is None else p.default
        parts.append(f",{p.name}" if p.default is p.empty else f"[,{p.name}={default}]")
    shown = "".join(parts).removeprefix(",")
    return f"{name}:{shown}" if shown[0] != "[" else f"{name}[:{shown[2:]}"


HELP = "\n".join([
    "schedules, by optimizer steps, of which an epoch has samples / batch size, rounded up:",
    *(f"  {usage(name)}" for name in KINDS),
    "  SCHEDULE/STEP@SCHEDULE...   one after the other; each sees the steps since its own begin",
    "",
    "such as --momentum-schedule linear:0.5,0.9,1000, from 0.5 to 0.9 in 1000 steps, or",
    "--lr-schedule linear:0,0.1,500/500@cosine:0.1,0,8875, a warm-up and then half a cosine.",
    "reduce-on-plateau follows the loss (with mode=max, the accuracy) of --validation-split."])
