"""Baselines, comparison, change points, gates, issue filing. Reads run directories and the files of other tools.

`compare(a, b)` takes two sides, each read by `read_side`, and returns a `records.comparison.Comparison`.
"""
