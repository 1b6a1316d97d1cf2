"""PyTorch's ZeroRedundancyOptimizer on gloo: ``on_gloo.py RANKS ELEMENTS STEPS``; prints JSON."""

from __future__ import annotations

import json
import os
import socket
import sys
import time

SIDE = 1000
NAME = "torch ZeroRedundancyOptimizer, gloo"


def work(rank: int, ranks: int, elements: int, steps: int, port: int) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    import torch
    import torch.distributed as dist
    from torch.distributed.optim import ZeroRedundancyOptimizer

    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    params = [torch.nn.Parameter(torch.full((SIDE, SIDE), 0.5))
              for _ in range(max(1, elements // SIDE**2))]
    # one bucket, as DistributedDataParallel would reduce
    flat = torch.full((sum(p.numel() for p in params),), 0.1)
    for p, grad in zip(params, flat.split(SIDE * SIDE)):        # noqa: B905
        p.grad = grad.view_as(p)
    optimizer = ZeroRedundancyOptimizer(params, optimizer_class=torch.optim.AdamW, lr=1e-3,
                                        fused=True)
    times = []
    for _ in range(steps + 1):
        dist.barrier()
        start = time.perf_counter()
        dist.all_reduce(flat)
        flat.div_(ranks)
        optimizer.step()
        took = torch.tensor(time.perf_counter() - start, dtype=torch.float64)
        dist.all_reduce(took, dist.ReduceOp.MAX)
        times.append(float(took))
    if rank == 0:
        print(json.dumps({NAME: min(times[1:])}), flush=True)
    dist.destroy_process_group()


def main(ranks: int, elements: int, steps: int) -> None:
    import torch.multiprocessing as mp
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(work, (ranks, elements, steps, port), nprocs=ranks)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
