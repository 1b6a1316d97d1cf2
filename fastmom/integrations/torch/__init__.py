"""fastmom's optimizers for PyTorch: `torch.optim.Optimizer` classes for tensors on the CPU.

One import line changes:

>>> import torch
>>> from fastmom.integrations.torch import AdamW        # in place of torch.optim
>>> model = torch.nn.Linear(3, 1)
>>> optimizer = AdamW(model.parameters(), lr=0.01, clip_norm=1.0)
>>> schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
>>> loss = model(torch.ones(2, 3)).square().sum()
>>> loss.backward()
>>> optimizer.step()
>>> schedule.step()
>>> optimizer.param_groups[0]["lr"]
0.005
>>> sorted(optimizer.state[model.bias])
['exp_avg', 'exp_avg_sq', 'step']

Parameters are updated in their own memory. The arguments are PyTorch's where it has the class, and
state dicts go both ways between the two; otherwise they are fastmom's. Each class also takes
``clip_norm=``, ``clip_norm_per_tensor=``, ``clip_value=``, ``nonfinite=``, ``state_dtype=``,
``rounding=`` and ``master=``: see `fastmom.Optimizer`. Of PyTorch's flags ``fused=True`` says what
is done anyway; ``foreach``, ``capturable`` and ``differentiable`` must be off.
"""

from fastmom.extras import need

need("torch", "torch", "these optimizers")

from fastmom.integrations.torch.base import Optimizer  # noqa: E402
from fastmom.integrations.torch.classes import (  # noqa: E402
    LAMB,
    LARS,
    QHM,
    SGD,
    AdaBelief,
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Adan,
    AggMo,
    Lion,
    Muon,
    NAdam,
    NovoGrad,
    RAdam,
    RMSprop,
    Rprop,
    Signum,
    YellowFin,
    Yogi,
)
from fastmom.integrations.torch.offload import CPUOffload  # noqa: E402

__all__ = [
    "LAMB",
    "LARS",
    "QHM",
    "SGD",
    "AdaBelief",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Adan",
    "AggMo",
    "CPUOffload",
    "Lion",
    "Muon",
    "NAdam",
    "NovoGrad",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "Signum",
    "YellowFin",
    "Yogi",
]
