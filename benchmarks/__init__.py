"""The costs of lazymig as ratios: `python -m benchmarks`, or `make bench`."""
