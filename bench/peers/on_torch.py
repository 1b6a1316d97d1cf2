"""PyTorch: its optimizers, and the best training loop written by hand.

The loop has no DataLoader, and computes its metrics once per epoch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from bench.workloads import LR, Case, Run, Task, plural, thread_counts

VERSIONS = f"torch {torch.__version__}"
NOTE = "loop by hand, subnormals flushed"


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
            for form in ("fused", "foreach", "compiled") for threads in thread_counts()}


FORMS: dict[str, dict[str, bool]] = {
    "fused": {"fused": True}, "foreach": {"foreach": True}, "single": {"foreach": False}}


def steps(case: Case) -> dict[str, Callable[[], object]]:
    """Return the step of each form of the optimizer that has this name; all share the arrays.

    PyTorch's Muon is for matrices only: its fused AdamW steps the rest, as fastmom's Muon does.
    """
    make: Any = getattr(torch.optim, case.optimizer, None)
    matrices_only = case.optimizer == "Muon"
    arrays, grads = case.tensors()
    params = [torch.from_numpy(a).requires_grad_() for a in arrays]
    for p, g in zip(params, grads, strict=True):
        p.grad = torch.from_numpy(g)
    mine = [p for p in params if p.ndim == 2 or not matrices_only]
    rest = [p for p in params if p.ndim != 2 and matrices_only]
    if make is None or not mine:
        return {}
    known, runs = inspect.signature(make).parameters, {}
    for form, options in FORMS.items():
        offered = {name: value for name, value in options.items() if name in known}
        if offered or form == "single":
            optimizers = [make(mine, **case.hyper, **offered)]
            if rest:
                optimizers.append(torch.optim.AdamW(rest, lr=LR, fused=True))
            runs[form] = stepper(params, optimizers, case.clip)
    return runs


def stepper(params: list[Any], optimizers: list[Any], clip: float | None) -> Callable[[], object]:
    if clip is None and len(optimizers) == 1:
        step: Callable[[], object] = optimizers[0].step
        return step

    def run() -> None:
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(params, clip)
        for optimizer in optimizers:
            optimizer.step()
    return run
