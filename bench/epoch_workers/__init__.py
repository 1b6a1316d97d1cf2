"""One training epoch in each library, each in a process of its own; see `bench.epoch`."""
