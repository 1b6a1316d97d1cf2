from typing_extensions import disjoint_base

from fastmom.kernels.bound import Bound

@disjoint_base
class Gradients(Bound): ...
