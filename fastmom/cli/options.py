"""Options and exit statuses that the commands share, and a parser whose errors are one line."""

from __future__ import annotations

import argparse
import difflib
import math
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

from fastmom.checks import SYNONYMS

OK, FAILED, DIVERGED, INTERRUPTED, BROKEN_PIPE = 0, 2, 3, 130, 141

# Defaults of the shared options. argparse does not fill them in, so that a training that is
# resumed knows which were given.
SETTINGS: dict[str, Any] = {"data": "auto", "epochs": 5, "batch_size": 32, "hidden": [128],
                            "dropout": 0.2}


class Parser(argparse.ArgumentParser):
    """Report an error on one line, with the option or word that was probably meant."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **arguments})

    def error(self, message: str) -> NoReturn:
        if found := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message):
            words = [word.strip("' ") for word in found[2].split(",")]
            message += did_you_mean(found[1], words)
        self.exit(FAILED, f"{self.prog}: error: {message}\n")

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Report arguments that are no options."""
        first = next((word for word in unknown if word.startswith("-")), unknown[0])
        name = first.partition("=")[0]
        synonym = SYNONYMS.get(name.lstrip("-").replace("-", "_"))
        hint = (f"; did you mean {option_of(synonym)}?"
                if synonym and option_of(synonym) in self._option_string_actions else
                did_you_mean(name, self._option_string_actions))
        self.error(f"unrecognized arguments: {' '.join(unknown)}"
                   f"{hint or f'; {self.prog} --help lists the options'}")


def did_you_mean(given: str, words: Collection[str]) -> str:
    """Return the end of a message with the word nearest to the one given, if one is near."""
    lower = {word.lower(): word for word in words}
    near = difflib.get_close_matches(given.lower(), lower)
    swapped = [guess for guess in near if sorted(guess) == sorted(given.lower())]   # adma: adam
    return f"; did you mean {lower[[*swapped, *near][0]]}?" if near else ""


def option_of(name: str) -> str:
    """Return the option that sets this attribute."""
    return f"--{name.replace('_', '-')}"


# Types of options ---------------------------------------------------------------------------------

def number(read: Callable[[str], Any], allowed: Callable[[Any], bool],
           words: str) -> Callable[[str], Any]:
    """Make an argparse type whose error says what is allowed."""
    def convert(text: str) -> Any:
        try:
            value = read(text)
        except ValueError:
            value = math.nan
        if not allowed(value):
            raise argparse.ArgumentTypeError(f"must be {words}, not {text!r}")
        return value
    return convert


def file(*suffixes: str) -> Any:
    """Make an argparse type: a path with one of these endings."""
    return number(Path, lambda path: path.suffix.lower() in suffixes,
                  f"a file that ends in {' or '.join(suffixes)}")


def word(words: Collection[str]) -> Callable[[str], str]:
    """Make an argparse type: one of these lower-case words, in capitals or not."""
    def convert(text: str) -> str:
        if text.lower() not in words:
            raise argparse.ArgumentTypeError(f"must be one of {', '.join(sorted(words))}, not "
                                             f"{text!r}{did_you_mean(text, words)}")
        return text.lower()
    return convert


POSITIVE = number(int, lambda n: n >= 1, "an integer >= 1")
NATURAL = number(int, lambda n: n >= 0, "an integer >= 0")
SHARE = number(float, lambda x: 0 <= x < 1, "a number from 0 to below 1")
SECONDS = number(float, lambda x: 0 < x < math.inf, "a number of seconds > 0")
MOMENTUM = number(float, lambda m: 0 <= m <= 1, "a number from 0 to 1")


def units(text: str) -> list[int]:
    """Read the units of one hidden layer, or of several with commas between."""
    return [POSITIVE(part) for part in text.split(",")]


class Flatten(argparse.Action):
    """Store the entries of all lists that are given as one list."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace,
                 values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, [entry for part in values for entry in part])


def add_options(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """Add the options of all trainings, absent from the namespace unless they are given.

    `defaults` are those that differ from `SETTINGS`.
    """
    def option(name: str, help: str, **arguments: Any) -> None:
        default = (SETTINGS | defaults).get(name[2:].replace("-", "_"))
        if default is not None:
            shown = " ".join(map(str, default)) if isinstance(default, list) else default
            help += f" (default: {shown})"
        parser.add_argument(name, help=help, default=argparse.SUPPRESS, **arguments)

    option("--data", "MNIST if it can be had, else the synthetic digits; one of them; or a "
           "directory of IDX files", metavar="auto|mnist|digits|DIR")
    option("--nesterov", "look ahead along the velocity (default: yes, with SGD)",
           action=argparse.BooleanOptionalAction)
    option("--decay", "time-based decay of lr per step (default: 1e-6, with SGD)", type=float)
    option("--weight-decay", "L2 penalty (default: the optimizer's)", type=float)
    option("--epochs", "passes over the training data", type=POSITIVE)
    option("--batch-size", "samples per step", type=POSITIVE)
    option("--hidden", "units of each hidden layer, with spaces or commas between", type=units,
           nargs="+", action=Flatten, metavar="UNITS")
    option("--dropout", "share of units to drop after each hidden layer", type=SHARE)
    parser.add_argument("--threads", type=POSITIVE, default=None, help="at most this many for the "
                        "optimizer's kernels; matrix products take one, so that any number gives "
                        "the same weights (default: all)")
