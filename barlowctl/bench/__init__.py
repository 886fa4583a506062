"""Benchmarks as functions: ours against the alternatives, in turns, with the spread beside every number."""
