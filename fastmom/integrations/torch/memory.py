"""Tensors and arrays on the same memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fastmom.kernels.tensors import Exchange
from fastmom.optim.formats import dtype_named

Order = tuple[int, ...] | None      # of axes, in which a tensor is contiguous; None for its own
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


class Plain:
    """What `Exchange` does, by calls of Python, for a PyTorch that lacks its interface in C."""

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def arrays(self, tensors: list[Any]) -> list[Any]:
        """Return an array for each tensor that is dense, on the CPU and of a float dtype."""
        return [array_of(t) if t is not None and t.dtype in DTYPES and not t.is_neg()
                and t.layout is torch.strided and t.device.type == "cpu" else t for t in tensors]

    def are(self, tensors: list[Any], arrays: list[Any]) -> bool:
        """Return whether all tensors lie where these arrays do, and are as long and as wide."""
        return all(t.numel() == a.size and t.element_size() == a.itemsize
                   and (not a.size or t.data_ptr() == a.ctypes.data)
                   for t, a in zip(tensors, arrays, strict=True))


def exchange() -> Any:
    """Return what makes arrays of tensors."""
    try:
        return Exchange(torch.Tensor)
    except (AttributeError, BufferError):
        return Plain(torch.Tensor)


def array_of(tensor: Any) -> Any:
    """Return an array of a dense tensor's memory."""
    tensor = tensor.detach()
    if tensor.dtype is torch.bfloat16:      # which neither .numpy() nor DLPack in Python knows
        return tensor.view(torch.uint16).numpy().view(dtype_named("bfloat16"))
    return tensor.numpy()


def tensor_of(array: Any, order: Order = None) -> Any:
    """Return a tensor of an array's memory, with the axes of the parameter that has this order.

    Numbers in blocks of 8 bits are given as bytes.
    """
    if array.dtype.names is not None:
        return torch.from_numpy(array.view(np.uint8))
    if array.dtype.name == "bfloat16":
        tensor = torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    else:
        tensor = torch.from_numpy(array)
    if order is None or tensor.ndim != len(order):
        return tensor
    return tensor.permute(*(order.index(d) for d in range(len(order))))


def numbers_of(value: Any, like: Any, order: Order) -> Any:
    """Return an array of a tensor's numbers, to be copied to a buffer of this order."""
    if not isinstance(value, torch.Tensor):
        return value
    if like.dtype.names is not None and value.dtype is torch.uint8:
        return value.cpu().numpy().view(like.dtype)
    dtype = torch.float64 if like.dtype == np.float64 else torch.float32
    value = value.detach().to("cpu", dtype)
    if order is not None and value.ndim == len(order):
        value = value.permute(*order)
    return value.contiguous().numpy()


def order_of(name: str, p: Any) -> Order:
    """Return the order of axes in which a parameter is contiguous, or raise if it cannot be one."""
    if not isinstance(p, torch.Tensor):
        raise TypeError(f"{name} must be a tensor, not {type(p).__name__}")
    if p.is_complex():
        raise TypeError(f"{name} is complex ({p.dtype}), which no optimizer here supports: give "
                        f"torch.view_as_real of it")
    if p.dtype not in DTYPES:
        raise TypeError(f"{name} has dtype {p.dtype}; expected float32, float64, float16 or "
                        f"bfloat16")
    if p.layout is not torch.strided:
        raise TypeError(f"{name} has layout {p.layout}; expected a dense tensor")
    if p.device.type != "cpu":
        raise ValueError(f"{name} is on {p.device}; the step is taken by the CPU, in place: see "
                         f"CPUOffload")
    if p.is_contiguous():
        return None
    strides: Sequence[int] = p.stride()
    order = tuple(sorted(range(p.ndim), key=lambda d: (-strides[d], d)))
    if not p.permute(*order).is_contiguous():
        raise ValueError(f"{name} (shape {tuple(p.shape)}, strides {tuple(strides)}) does not fill "
                         f"its memory without gaps; it is updated in place, so make it contiguous "
                         f"from the start")
    return order


def mark(p: Any) -> tuple[int, int]:
    """Return what changes when anybody writes to a parameter."""
    return p._version, p.data_ptr()


def looked_at(name: str, gradient: Any, array: Any) -> Any:
    """Return an array for a gradient that the kernels did not take, or raise if it will not do."""
    if gradient is None or (isinstance(array, np.ndarray) and array.flags.c_contiguous):
        return array
    if gradient.layout is not torch.strided:
        raise TypeError(f"the gradient of {name} has layout {gradient.layout}; expected a dense "
                        f"one")
    if gradient.device.type != "cpu":
        raise ValueError(f"the gradient of {name} is on {gradient.device}, the parameter on the "
                         f"CPU")
    if gradient.dtype not in DTYPES:
        raise TypeError(f"the gradient of {name} has dtype {gradient.dtype}, expected a float")
    with torch.no_grad():
        return array_of(gradient.resolve_neg().contiguous())
