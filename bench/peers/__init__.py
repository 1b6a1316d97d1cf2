"""Steps and training epochs in each library, each in a process of its own; see `bench.turns`."""
