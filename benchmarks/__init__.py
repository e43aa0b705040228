"""Speed of the native kernels and the runtime, as ratios of arms that are timed side by side in one run.

`nox -s speed` runs `python -m benchmarks.kernels` and `python -m benchmarks.decoding`; both print a Markdown table and,
with `--out FILE`, store every raw time beside the figures.
"""
