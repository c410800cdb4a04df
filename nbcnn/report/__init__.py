"""What there is to say about a network, as plain data: the command line and the benchmarks print it."""
