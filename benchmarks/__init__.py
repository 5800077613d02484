"""Benchmarks: each prints a table, none asserts a time. `make bench` runs all, `make bench BENCH=latency` one."""
