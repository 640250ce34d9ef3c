"""The pytest plugin, sampling, and interleaved measurement. Statistics live in stats/.

Importing `dbperf.bench.plugin` (pytest does so in every session) imports pytest only; everything else is imported
when a test asks for it.
"""
