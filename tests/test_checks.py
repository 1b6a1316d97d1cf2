"""The argument checks: every bound, and every error names argument, allowed and given."""

import re
from fractions import Fraction

import numpy as np
import pytest

from fastmom import checks

ACCEPTED = [
    (checks.number, (1,), {}, 1.0),
    (checks.number, (np.float32(0.5), 0.5, 0.5), {}, 0.5),
    (checks.number, (Fraction(1, 4), 0.0), {"open_low": True}, 0.25),
    (checks.integer, (np.int8(3), 3), {}, 3),
    (checks.integer, (4, 1, 4), {}, 4),
    (checks.flag, (np.True_,), {}, True),
    (checks.choice, ("b", ("a", "b")), {}, "b"),
]


@pytest.mark.parametrize(("check", "arguments", "options", "expected"), ACCEPTED)
def test_a_good_value_becomes_a_plain_one(check, arguments, options, expected):
    result = check("x", *arguments, **options)
    assert (type(result), result) == (type(expected), expected)


REFUSED = [
    (checks.number, ("1",), {}, TypeError, "a finite number, not '1'"),
    (checks.number, (True, 0.0), {}, TypeError, "a finite number >= 0, not True"),
    (checks.number, (np.True_,), {}, TypeError, f"a finite number, not {np.True_!r}"),
    (checks.number, (None, 0.0), {"optional": True}, TypeError,
     "a finite number >= 0 or None, not None"),
    (checks.number, (float("nan"), 0.0, 1.0), {}, ValueError, "a number from 0 to 1, not nan"),
    (checks.number, (float("inf"),), {}, ValueError, "a finite number, not inf"),
    (checks.number, (10 ** 400, 0.0), {}, ValueError, "a finite number >= 0, not 1000"),
    (checks.number, (0, 0.0), {"open_low": True}, ValueError, "a finite number > 0, not 0"),
    (checks.number, (1, 0.0, 1.0), {"open_high": True}, ValueError,
     "a number from 0 to below 1, not 1"),
    (checks.number, (0, 0.0, 1.0), {"open_low": True}, ValueError,
     "a number above 0 to 1, not 0"),
    (checks.number, (3, float("-inf"), 2.0), {}, ValueError, "a finite number <= 2, not 3"),
    (checks.number, (2, float("-inf"), 2.0), {"open_high": True}, ValueError,
     "a finite number < 2, not 2"),
    (checks.integer, (1.0, 0), {}, TypeError, "an integer >= 0, not 1.0"),
    (checks.integer, (False, 0), {}, TypeError, "an integer >= 0, not False"),
    (checks.integer, (-1, 0), {}, ValueError, "an integer >= 0, not -1"),
    (checks.integer, (5, 1, 4), {}, ValueError, "an integer from 1 to 4, not 5"),
    (checks.flag, (1,), {}, TypeError, "True or False, not 1"),
    (checks.choice, ("c", ("a", "b")), {}, ValueError, "one of 'a', 'b', not 'c'"),
    (checks.choice, (None, ("a", "b")), {}, TypeError, "one of 'a', 'b', not None"),
]


@pytest.mark.parametrize(("check", "arguments", "options", "error", "message"), REFUSED)
def test_a_bad_value_is_named(check, arguments, options, error, message):
    with pytest.raises(error, match="^x must be " + re.escape(message)):
        check("x", *arguments, **options)


@pytest.mark.parametrize(("given", "hint"), [
    ("learning_rate", "did you mean 'lr'?"),            # another library's name
    ("momentun", "did you mean 'momentum'?"),           # a slip
    ("color", "allowed: lr, momentum"),
])
def test_an_unknown_name_gets_a_hint(given, hint):
    checks.reject_unknown("SGD", ["lr"], ["lr", "momentum"])
    with pytest.raises(TypeError, match=re.escape(f"SGD has no argument '{given}'; {hint}")):
        checks.reject_unknown("SGD", ["lr", given], ["lr", "momentum"])
