"""Stacks: captured, read, worked on, drawn and compared.

capture   pyspy, profiled (cProfile), sampler (in process)        -> records.stacks.Stacks
readers   collapsed, speedscope, pstats, perf script, our JSON    -> Stacks
ops       focus, fold, merge, filter: Stacks -> Stacks, pure
fullstack endpoint -> Python -> statement -> plan node            -> Stacks
changes   before against after;  hotspots: what takes the time, and what to do
writers, drawing                                                  -> collapsed, speedscope, SVG, HTML
"""
