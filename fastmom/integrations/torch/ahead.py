"""Steps of tensors whose gradients have arrived, while the backward pass makes the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from fastmom.kernels import Engine
from fastmom.optim import Optimizer as Ours

ENOUGH = 2 ** 21        # elements that are worth a step of their own: some milliseconds


class Bucket:
    """Some tensors, whose gradients are worked on together when all have arrived.

    Parameters
    ----------
    ours : Optimizer
        That has them, beside others.
    places : list of int
        Which ones.
    threads : int
    """

    def __init__(self, ours: Ours, places: list[int], threads: int) -> None:
        self.places, self.part = places, part_of(ours, places)
        engine = self.engine = self.part._bound_engine()
        self.prober = Engine(engine.params, [()] * len(places), False, engine.stochastic)
        engine.parts = self.prober.parts = threads

    def begin(self, whole: Engine) -> None:
        """Await gradients for the coming step."""
        self.engine.restore(whole.steps[self.places], whole.iterations)
        self.part._changed()
        self.grads: dict[int, Any] = {}
        self.events: list[Any] = []

    def work(self, step: bool) -> list[float]:
        """Step the tensors that have gradients, or return the norms of these."""
        for event in self.events:
            event.synchronize()
        grads, norms = [self.grads.get(i) for i in self.places], []

        def look() -> list[Any]:
            norms.extend(self.prober.norms())
            return []
        if step:
            self.part.step(grads)
        else:
            self.prober.run(grads, look)
        return norms


class Ahead:
    """What is done of an optimizer's step before all gradients are there, by a thread of its own.

    Parameters
    ----------
    ours : Optimizer
        With parameters.
    threads : int
        How many work on a bucket.
    """

    def __init__(self, ours: Ours, threads: int) -> None:
        self.ours, self.whole = ours, ours._bound_engine()
        self.whole.parts = threads
        self.buckets = [Bucket(ours, places, threads)
                        for places in shared_out([p.size for p in self.whole.params])]
        self.bucket_of = {i: bucket for bucket in self.buckets for i in bucket.places}
        self.pool: ThreadPoolExecutor | None = None     # from the first gradient to the step

    def begin(self) -> None:
        """Await the gradients of the coming step."""
        check_ahead(self.ours)          # a group may have been changed
        options = self.ours._options
        self.steps = options["clip_norm"] is None and options["nonfinite"] == "ignore"
        for bucket in self.buckets:
            bucket.begin(self.whole)
        self.results: list[Future[list[float]]] = []
        # threads of a pool that lasts would be missed by a process that forks
        self.pool = ThreadPoolExecutor(1, "fastmom-offload")

    def take(self, i: int, gradient: Any, event: Any) -> None:
        """Have a gradient worked on once the event is over, and its bucket full."""
        assert self.pool is not None
        bucket = self.bucket_of[i]
        bucket.grads[i] = gradient
        if event is not None:
            bucket.events.append(event)
        if len(bucket.grads) == len(bucket.places):
            self.results.append(self.pool.submit(bucket.work, self.steps))

    def finish(self) -> bool:
        """Take the rest of the step, and return whether one was taken.

        Raises
        ------
        Exception
            That of a bucket, which has not been stepped then.
        """
        assert self.pool is not None
        rest = [bucket for bucket in self.buckets if 0 < len(bucket.grads) < len(bucket.places)]
        self.results += [self.pool.submit(bucket.work, self.steps) for bucket in rest]
        self.pool.shutdown()
        self.pool = None
        if not self.steps:
            norm = math.hypot(*(norm for result in self.results for norm in result.result()))
            return self._step_all(norm)
        steps = self.whole.steps.copy()
        for bucket in self.buckets:
            steps[bucket.places] = bucket.engine.steps
        self.whole.restore(steps, self.whole.iterations + 1)
        self.ours._changed()
        for result in self.results:
            result.result()
        return True

    def _step_all(self, norm: float) -> bool:
        """Step all tensors, whose gradients have this norm together."""
        ours = self.ours
        grads = [self.bucket_of[i].grads.get(i) for i in range(len(self.whole.params))]
        scale, limit = ours._options["grad_scale"], ours._options["clip_norm"]
        excess = norm if limit is None else norm / limit
        if not math.isfinite(excess):
            return ours.step(grads)     # which looks more closely
        ours._is_part = True            # so that it does not look again
        try:
            if limit is not None and excess > 1:
                ours.grad_scale = excess
            ours._changed()
            return ours.step(grads)
        finally:
            ours._is_part, ours.grad_scale = False, scale


def check_ahead(ours: Ours) -> None:
    """Raise ValueError if an optimizer's tensors cannot be stepped one after the other."""
    ours._check_divisible("together, and with threads= each is stepped as it arrives; leave "
                          "threads= out")


def part_of(ours: Ours, places: Sequence[int]) -> Ours:
    """Return an optimizer of some of another's tensors, on the memory and with the values of that.

    Limits of the norm of all gradients are not its business.
    """
    whole = ours._bound_engine()

    def some(values: Sequence[Any]) -> list[Any]:
        return [values[i] for i in places]
    engine = Engine(some(whole.params), some(whole.state), False, whole.stochastic)
    engine.copy_into(some(whole.copies))
    part = object.__new__(type(ours))
    vars(part).update(vars(ours), _engine=engine, _is_part=True, **{
        name: some(getattr(ours, name)) for name in ("_apart", "_masters", "_group_of",
                                                     "_kind_of")})
    return part


def shared_out(sizes: list[int]) -> list[list[int]]:
    """Return buckets of neighbours, the last first, as backward passes go, with enough in each."""
    buckets: list[list[int]] = [[]]
    held = 0
    for i in range(len(sizes) - 1, -1, -1):
        if held >= ENOUGH:
            buckets.append([])
            held = 0
        buckets[-1].append(i)
        held += sizes[i]
    return buckets
