"""The benchmarks run, count what they say they count, and keep their keys."""
