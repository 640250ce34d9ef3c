"""Histograms, percentiles with intervals, comparisons: pure, over numpy only."""
