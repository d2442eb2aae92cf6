"""How fast jaxloss is, next to its peers and to what the machine can do: `python -m benchmarks`."""
