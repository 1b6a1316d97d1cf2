"""The classes, by fastmom's names, which are PyTorch's where it has them."""

from fastmom.integrations.torch.base import Optimizer


class AdaBelief(Optimizer):
    """`fastmom.AdaBelief` for PyTorch."""


class Adadelta(Optimizer):
    """`fastmom.Adadelta` for PyTorch."""


class Adafactor(Optimizer):
    """`fastmom.Adafactor` for PyTorch."""


class Adagrad(Optimizer):
    """`fastmom.Adagrad` for PyTorch."""


class Adam(Optimizer):
    """`fastmom.Adam` for PyTorch."""


class Adamax(Optimizer):
    """`fastmom.Adamax` for PyTorch."""


class AdamW(Optimizer):
    """`fastmom.AdamW` for PyTorch."""


class Adan(Optimizer):
    """`fastmom.Adan` for PyTorch."""


class AggMo(Optimizer):
    """`fastmom.AggMo` for PyTorch."""


class LAMB(Optimizer):
    """`fastmom.LAMB` for PyTorch."""


class LARS(Optimizer):
    """`fastmom.LARS` for PyTorch."""


class Lion(Optimizer):
    """`fastmom.Lion` for PyTorch."""


class Muon(Optimizer):
    """`fastmom.Muon` for PyTorch."""


class NAdam(Optimizer):
    """`fastmom.NAdam` for PyTorch."""


class NovoGrad(Optimizer):
    """`fastmom.NovoGrad` for PyTorch."""


class QHM(Optimizer):
    """`fastmom.QHM` for PyTorch."""


class RAdam(Optimizer):
    """`fastmom.RAdam` for PyTorch."""


class RMSprop(Optimizer):
    """`fastmom.RMSprop` for PyTorch."""


class Rprop(Optimizer):
    """`fastmom.Rprop` for PyTorch."""


class SGD(Optimizer):
    """`fastmom.SGD` for PyTorch."""


class Signum(Optimizer):
    """`fastmom.Signum` for PyTorch."""


class YellowFin(Optimizer):
    """`fastmom.YellowFin` for PyTorch."""


class Yogi(Optimizer):
    """`fastmom.Yogi` for PyTorch."""
