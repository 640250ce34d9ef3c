"""Frozen, typed data that flows between the rooms, units in the names. Imports only errors and units.

Each module holds the records of one subject; `base` has the JSON round trip, `rundir` the run directory.
"""
