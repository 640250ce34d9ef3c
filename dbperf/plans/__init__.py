"""Plan trees: readers (JSON, text), derived times, rules -> findings. Pure: no I/O.

Imports only records, units, errors. `read_*` take EXPLAIN output, `derive` adds self times and row errors.
"""
