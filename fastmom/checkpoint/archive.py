"""What an archive must hold to be a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from fastmom import npz, safetensors_file
from fastmom.checkpoint import restore
from fastmom.checks import integer

FORMAT = 1
META = safetensors_file.META
Archive = npz.Archive | safetensors_file.Archive
KEYS = {"format", "names", "params", "optimizer", "rng", "epoch", "extra"}


def archive_of(path: Path) -> Archive:
    """Open the file by its suffix; raise as the archives do."""
    kind = safetensors_file if path.suffix == safetensors_file.SUFFIX else npz
    archive: Archive = kind.Archive(path)
    return archive


def with_stand_ins(content: dict[str, Any], archive: Archive) -> dict[str, Any]:
    """Put arrays that take no memory where those of the file belong, each of them once."""
    unused = {name: member for name, member in archive.members.items() if name != META}

    def stand_in(name: str) -> Any:
        if name not in unused:
            raise ValueError(f"the member {name!r} is missing")
        member = unused.pop(name)
        return np.broadcast_to(np.zeros((), member.dtype), member.shape)
    result: dict[str, Any] = npz.unpacked(content, stand_in)
    if unused:
        raise ValueError(f"its members {', '.join(sorted(unused))} belong to nothing")
    return result


def content_of(archive: Archive) -> dict[str, Any]:
    if isinstance(archive, safetensors_file.Archive) and META not in archive.members:
        names, params = archive.weights         # of any program
        return {**dict.fromkeys(KEYS), "format": FORMAT, "names": names, "params": params}
    if META not in archive.members:
        raise ValueError(f"it has no member {META!r}: it is no checkpoint of fastmom")
    content = json.loads(archive.read(META).tobytes())
    version = content.get("format") if isinstance(content, dict) else None
    if type(version) is not int or version < 1:
        raise ValueError("it says no format: it is no checkpoint of fastmom")
    if version > FORMAT:
        raise ValueError(f"its format is {version}, and this fastmom reads up to {FORMAT}: a later "
                         f"fastmom wrote it")
    if set(content) != KEYS:
        raise ValueError(f"it has {', '.join(sorted(content))}, expected "
                         f"{', '.join(sorted(KEYS))}")
    return dict(content)


def fields_of(content: dict[str, Any]) -> dict[str, Any]:
    """Check what does not depend on a training."""
    names, params = content["names"], content["params"]
    if params is not None:
        if not isinstance(params, list):
            raise ValueError("its params are no list")
        if names is not None:
            params = dict(zip(names, params, strict=True))
            if len(params) != len(names):
                raise ValueError("it has two params of one name")
        list(restore.named(params))
    if content["epoch"] is not None:
        integer("epoch", content["epoch"], 0)
    return {"params": params, **{key: content[key] for key in ("optimizer", "rng", "epoch",
                                                               "extra")}}
