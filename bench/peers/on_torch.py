"""PyTorch: its optimizers, and the best training loop written by hand.

The loop has no DataLoader, and computes its metrics once per epoch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from bench.timing import Step
from bench.workloads import LR, Run, Setting, Task, plural, thread_counts

if TYPE_CHECKING:
    from bench.peers.together import Memory

VERSIONS = f"torch {torch.__version__}"
NOTE = "loop by hand, subnormals flushed"
SMALL_BATCH = 64


def network(task: Task) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in task.widths[:-1]:
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        if task.setting.dropout:
            layers.append(nn.Dropout(task.setting.dropout))
    layers.append(nn.Linear(*task.widths[-1]))
    for layer in layers:        # start like the others, so that the losses compare
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


class Loop:
    """One optimizer implementation, eager or compiled, on some threads."""

    def __init__(self, task: Task, threads: int, form: str) -> None:
        self.task, self.threads = task, threads
        setting = task.setting
        torch.manual_seed(setting.seed)
        self.x, self.y = torch.from_numpy(task.x), torch.from_numpy(task.y).long()
        self.model = network(task)
        implementation = {"foreach" if form == "foreach" else "fused": True}
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=setting.lr,
                                         momentum=setting.momentum, nesterov=True, **implementation)
        self.loss: Any = self.forward
        if form == "compiled":
            self.loss = torch.compile(self.forward, dynamic=False)
        self.logits = torch.empty(len(self.y), 10)
        self.step = 0

    def forward(self, x: Any, y: Any) -> tuple[Any, Any]:
        logits = self.model(x)
        return logits, functional.cross_entropy(logits, y)

    def epoch(self) -> dict[str, Any]:
        torch.set_num_threads(self.threads)
        setting, optimizer = self.task.setting, self.optimizer
        group = optimizer.param_groups[0]
        self.model.train()
        order = torch.randperm(len(self.y))
        labels = self.y[order]
        parts = (part.split(setting.batch) for part in (order, labels, self.logits))
        for chosen, y, seen in zip(*parts, strict=True):
            group["lr"] = setting.lr / (1 + setting.decay * self.step)
            optimizer.zero_grad(set_to_none=True)
            logits, loss = self.loss(self.x.index_select(0, chosen), y)
            loss.backward()
            optimizer.step()
            seen.copy_(logits.detach())
            self.step += 1
        return {"loss": functional.cross_entropy(self.logits, labels).item(),
                "train_accuracy": (self.logits.argmax(1) == labels).float().mean().item()}

    def accuracy(self) -> float:
        x, y = torch.from_numpy(self.task.x_test), torch.from_numpy(self.task.y_test)
        self.model.eval()
        with torch.no_grad():
            return float((self.model(x).argmax(1) == y).float().mean())


def variants(task: Task) -> dict[str, Run]:
    torch.set_flush_denormal(True)
    return {f"{form}, {plural(threads)}": Loop(task, threads, form)
            for form in ("fused", "foreach", "compiled") for threads in thread_counts()
            if is_likely(task.setting, form, threads)}


def is_likely(setting: Setting, form: str, threads: int) -> bool:
    """Return whether a variant has ever been the fastest: compiling takes longest of all."""
    wide, all_threads = setting.batch > SMALL_BATCH, threads == thread_counts()[-1]
    return all_threads if form == "foreach" or wide else form == "fused"


FORMS: dict[str, dict[str, bool]] = {
    "fused": {"fused": True}, "foreach": {"foreach": True}, "single": {"foreach": False}}


def steps_of(memory: Memory) -> dict[str, Step]:
    """Return the step of each form of the optimizer that has this name.

    Every step finds new ``.grad`` tensors, as after ``zero_grad(set_to_none=True)``, but for "same
    gradients". State lies where fastmom's does, where both keep the same. PyTorch's Muon is for
    matrices only: its fused AdamW steps the rest, as fastmom's Muon does.
    """
    case = memory.case
    make: Any = getattr(torch.optim, case.optimizer, None)
    matrices_only = case.optimizer == "Muon"
    params = [torch.from_numpy(a).requires_grad_() for a in memory.params]
    mine = [p for p in params if p.ndim == 2 or not matrices_only]
    rest = [p for p in params if p.ndim != 2 and matrices_only]
    if make is None or not mine:
        return {}
    lists = [[torch.from_numpy(g) for g in grads] for grads in memory.lists]
    hand = partial(set_gradients, params)
    from fastmom.integrations.torch_state import TORCH  # epochs do without fastmom

    names = TORCH.get(case.optimizer, ({}, {}))[1]
    known, steps = inspect.signature(make).parameters, {}
    for form, options in FORMS.items():
        offered = {name: value for name, value in options.items() if name in known}
        if (offered or form == "single") and (form == "fused" or not memory.large):
            optimizers = [make(mine, **case.hyper, **offered)]
            if rest:
                optimizers.append(torch.optim.AdamW(rest, lr=LR, fused=True))
            step = stepper(params, optimizers, case.clip)
            hand(lists[0])
            step(None)
            share_state(optimizers[0], params, memory.state, names)
            steps[f" {form}"] = Step(step, lists, hand)
            if form == "fused" and not memory.large:
                steps[f" {form}, same gradients"] = Step(step, lists[:1], hand)
    return steps


def set_gradients(params: list[Any], grads: list[Any]) -> None:
    for p, g in zip(params, grads, strict=True):
        p.grad = g


def share_state(optimizer: Any, params: list[Any], state: list[dict[str, Any]],
                names: dict[str, tuple[str, str | None]]) -> None:
    """Let an optimizer that has taken a step keep its state in these arrays."""
    for p, arrays in zip(params, state, strict=True):
        for key, tensor in optimizer.state.get(p, {}).items():
            array = arrays.get(names[key][0]) if key in names else None
            if array is not None and array.shape == tuple(tensor.shape):
                optimizer.state[p][key] = torch.from_numpy(array)


def stepper(params: list[Any], optimizers: list[Any],
            clip: float | None) -> Callable[[Any], object]:
    def run(_: Any) -> None:
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(params, clip)
        for optimizer in optimizers:
            optimizer.step()
    return run
