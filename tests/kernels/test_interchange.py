"""Other libraries' arrays are used where they lie, or refused by name."""

from __future__ import annotations

import array
import ctypes
import gc
import re
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastmom as fm
from fastmom.kernels.interchange import shared

F = np.float32


class Interface:
    """Speaks NumPy's array interface alone."""

    def __init__(self, base: Any, **changes: Any) -> None:
        self.base = base
        self.__array_interface__ = {**base.__array_interface__, **changes}


class Struct:
    """Speaks its variant in C."""

    def __init__(self, base: Any) -> None:
        self.base, self.__array_struct__ = base, base.__array_struct__


class Exporter:
    """Speaks DLPack alone, for NumPy's array, and says which device it is on."""

    def __init__(self, base: Any, device: int = 1) -> None:
        self.base, self.device = base, device

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0

    def __dlpack__(self, **keywords: Any) -> Any:
        return self.base.__dlpack__(**keywords)


def c_array(base: Any) -> Any:
    return (ctypes.c_float * base.size)(*base.tolist())


KINDS: list[tuple[str, Callable[[Any], Any]]] = [
    ("array.array", lambda a: array.array("f", a.tolist())),
    ("memoryview", lambda a: memoryview(a.copy())),
    ("ctypes", c_array),
    ("an interface", lambda a: Interface(a.copy())),
    ("a struct", lambda a: Struct(a.copy())),
    ("DLPack", lambda a: Exporter(a.copy())),
    ("DLPack on pinned memory", lambda a: Exporter(a.copy(), 3)),
]


@pytest.mark.parametrize("make", [kind[1] for kind in KINDS], ids=[kind[0] for kind in KINDS])
def test_parameters_and_gradients(make: Callable[[Any], Any]) -> None:
    start, step = np.arange(5, dtype=F), np.arange(5, dtype=F) + 1
    p, plain = make(start), start.copy()
    opt, direct = fm.SGD([p], lr=0.5, momentum=0.5), fm.SGD([plain], lr=0.5, momentum=0.5)
    for _ in range(2):
        assert opt.step([make(step)])
        assert opt.step([fm.WeightedSum([make(step), make(step)])])
        direct.step([step])
        direct.step([step])
        np.testing.assert_array_equal(np.asarray(shared(p, "p")), plain)     # the very memory


@pytest.mark.parametrize("make", [kind[1] for kind in KINDS], ids=[kind[0] for kind in KINDS])
def test_gradients_of_rows(make: Callable[[Any], Any]) -> None:
    p = np.zeros(6, F)
    rows = memoryview(np.array([4, 0], np.int64))
    assert fm.SGD([p], lr=1.0).step([fm.RowGrad(rows, make(np.array([1, 2], F)))])  # type: ignore[arg-type]
    assert p.tolist() == [-2, 0, 0, 0, -1, 0]


def test_groups_and_axes() -> None:
    p, q = np.zeros((2, 3), F), np.zeros((3, 2))
    opt = fm.SGD([{"params": [memoryview(p)]}, {"params": [Interface(q)], "lr": 0.5}], lr=1.0)
    assert opt.step([memoryview(np.ones((2, 3), F)), Exporter(np.ones((3, 2)))])    # type: ignore[list-item]
    assert (p == -1).all()
    assert (q == -0.5).all()
    r = np.zeros(2, F)
    opt.add_param_group({"params": [memoryview(r)]})
    with pytest.raises(TypeError, match=r"params\[3\] must be a NumPy array, not list"):
        opt.add_param_group({"params": [[1.0]]})
    assert opt.step([None, None, memoryview(np.ones(2, F))])        # type: ignore[list-item]
    assert r.tolist() == [-1, -1]
    assert [type(a) for group in opt.param_groups for a in group["params"]] == 3 * [np.ndarray]


def test_kept_alive_and_let_go() -> None:
    base = np.zeros(3, F)
    p = Interface(base)
    gone = weakref.ref(p)
    opt = fm.SGD([p], lr=1.0)       # type: ignore[list-item]
    del p
    assert gone() is not None
    grad = Interface(np.ones(3, F))
    seen = weakref.ref(grad)
    assert opt.step([grad])         # type: ignore[list-item]
    del grad
    assert seen() is None
    assert base.tolist() == [-1, -1, -1]
    del opt
    gc.collect()
    assert gone() is None


class Copying:
    """An ``__array__`` alone, which may copy."""

    def __array__(self, *args: Any, **keywords: Any) -> Any:
        return np.ones(3, F)


class Broken(Exporter):
    def __dlpack__(self, **keywords: Any) -> Any:
        raise BufferError("use tensor.detach()")


def read_only() -> Any:
    a = np.ones(3, F)
    a.flags.writeable = False
    return a


REFUSED: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("CUDA", lambda: Exporter(np.ones(3, F), 2), TypeError,
     f"{__name__}.Exporter, whose memory cannot be used as it is: it is on the device CUDA:0; "
     "copy it to the processor's memory first"),
    ("an unknown device", lambda: Exporter(np.ones(3, F), 77), TypeError, "number 77 of DLPack"),
    ("an error of its own", lambda: Broken(np.ones(3, F)), TypeError, "use tensor.detach()"),
    ("a strided buffer", lambda: memoryview(np.ones(6, F))[::2], ValueError,
     "[0] is not C-contiguous (shape (3,), strides (8,))"),
    ("a strided DLPack", lambda: Exporter(np.ones(6, F)[::2]), ValueError, "is not C-contiguous"),
    ("bytes", lambda: bytearray(3), TypeError, "[0] has dtype uint8"),
    ("integers", lambda: array.array("i", [1, 2, 3]), TypeError, "[0] has dtype int32"),
    ("double", lambda: array.array("q", [1, 2, 3]), TypeError, "[0] has dtype int64"),
    ("swapped bytes", lambda: Interface(np.ones(3, ">f4")), TypeError, "[0] has dtype >f4"),
    ("no memory", lambda: Interface(np.ones(3, F), typestr="nonsense"), TypeError, "Interface"),
    ("an array made at each call", Copying, TypeError, "[0] must be a NumPy array, not Copying"),
    ("text", lambda: "abc", TypeError, "[0] must be a NumPy array, not str"),
    ("a number", lambda: 1.0, TypeError, "[0] must be a NumPy array, not float"),
]


@pytest.mark.parametrize(("make", "error", "message"), [row[1:] for row in REFUSED],
                         ids=[row[0] for row in REFUSED])
def test_refused(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)) as raised:
        fm.SGD([make()])
    assert str(raised.value).startswith("params[0]")
    p = np.ones(3, F)
    opt = fm.SGD([p], lr=1.0, momentum=0.9)
    with pytest.raises(error, match=re.escape(message)) as raised:
        opt.step([make()])
    assert str(raised.value).startswith("grads[0]")
    assert p.tolist() == [1, 1, 1]
    assert opt.iterations == 0


@pytest.mark.parametrize("make", [lambda: memoryview(read_only()), lambda: Interface(read_only()),
                                  lambda: Exporter(read_only())])
def test_read_only_is_for_gradients(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"params\[0\] is read-only; it is updated in place"):
        fm.SGD([make()])
    p = np.ones(3, F)
    assert fm.SGD([p], lr=1.0).step([make()])
    assert p.tolist() == [0, 0, 0]


def test_overlap_is_seen() -> None:
    p = np.ones(6, F)
    with pytest.raises(ValueError, match=r"params\[1\] overlaps params\[0\]"):
        fm.SGD([p[:4], memoryview(p)[2:]])      # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"grads\[0\] overlaps params\[0\]"):
        fm.SGD([p]).step([memoryview(p)])       # type: ignore[list-item]


def test_torch() -> None:
    torch = pytest.importorskip("torch")
    p = torch.zeros(2, 3)
    opt = fm.Adam([p], lr=0.5)
    assert opt.step([torch.ones(2, 3)])     # type: ignore[list-item]
    assert p.tolist() == 2 * [3 * [-0.5]]
    rows = torch.sparse_coo_tensor([[1]], [[1.0, 2.0, 3.0]], (2, 3),
                                   check_invariants=True).coalesce()
    assert opt.step([fm.RowGrad(rows.indices()[0], rows.values())])
    with pytest.raises(TypeError, match=r"params\[0\] is of type torch.*use tensor.detach"):
        fm.SGD([torch.nn.Parameter(p)])
    with pytest.raises(TypeError, match=r"grads\[0\] is of type torch.Tensor"):
        opt.step([torch.ones(2, 3, device="meta")])     # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"grads\[0\] is not C-contiguous"):
        opt.step([torch.ones(3, 2).t()])     # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"grads\[0\] is of type.*use tensor.resolve_neg"):
        opt.step([torch._neg_view(torch.ones(2, 3))])     # type: ignore[list-item]


def test_jax() -> None:
    jnp = pytest.importorskip("jax.numpy")
    p = np.ones(3, F)
    assert fm.SGD([p], lr=1.0).step([jnp.ones(3)])
    assert p.tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match=r"params\[0\] is read-only"):
        fm.SGD([jnp.ones(3)])
