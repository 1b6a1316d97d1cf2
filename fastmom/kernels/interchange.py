"""Arrays of other libraries: NumPy arrays on the very same memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

# Devices of DLPack (enum DLDeviceType in dlpack.h) whose memory the processor reads, and names of
# others for errors.
READ = {1, 3, 11, 13}       # kDLCPU, kDLCUDAHost, kDLROCMHost, kDLCUDAManaged
DEVICES = {2: "CUDA", 4: "OpenCL", 7: "Vulkan", 8: "Metal", 10: "ROCm", 14: "oneAPI", 15: "WebGPU"}


def shared(value: Any, where: str) -> Any:
    """Return a NumPy array on the memory of another library's array; what is none as it is.

    Nothing is copied: what is written to either is in both, and the result keeps the other alive.
    Of what an object offers DLPack comes first, then NumPy's array interface, then the buffer
    protocol. A mere ``__array__`` does not count, since it may make a copy.

    Parameters
    ----------
    value : object
    where : str
        What errors call it, such as ``params[0]``.

    Raises
    ------
    TypeError
        If it offers its memory, but NumPy cannot share that: names the device if that is another
        than the processor, else says why.

    Examples
    --------
    >>> import array
    >>> numbers = array.array("f", [1, 2])
    >>> shared(numbers, "params[0]")[0] = 5
    >>> numbers
    array('f', [5.0, 2.0])
    >>> shared([1.0], "params[0]")
    [1.0]
    """
    kind = type(value)
    if value is None or issubclass(kind, (np.ndarray, np.generic, str)):
        return value
    try:
        if hasattr(kind, "__dlpack__") and hasattr(kind, "__dlpack_device__"):
            return _from_dlpack(value)
        if hasattr(value, "__array_interface__") or hasattr(value, "__array_struct__"):
            return np.asarray(value, copy=False)
        try:
            view = memoryview(value)
        except TypeError:
            return value
        return np.asarray(view)
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:      # other libraries' own
        raise TypeError(f"{where} is of type {kind.__module__}.{kind.__qualname__}, whose "
                        f"memory cannot be used as it is: {error}") from error


def _from_dlpack(value: Any) -> Any:
    device, number = map(int, value.__dlpack_device__())
    if device not in READ:
        raise ValueError(f"it is on the device {DEVICES.get(device, f'number {device} of DLPack')}:"
                         f"{number}; copy it to the processor's memory first")
    if getattr(value, "is_neg", None) is not None and value.is_neg():    # DLPack does not tell
        raise ValueError("its numbers are yet to be negated; use tensor.resolve_neg()")
    return np.from_dlpack(value)


def share_params(groups: Sequence[Any], first: int = 0) -> None:
    """Put NumPy arrays in the place of other libraries' in the groups' lists.

    The first parameter of all is called ``params[first]`` in errors.
    """
    for group in groups:
        own = group["params"]
        own[:] = [shared(array, f"params[{i}]") for i, array in enumerate(own, first)]
        first += len(own)
