"""The benchmarks: each prints a table, writes JSON and a picture, and says how it measured."""
