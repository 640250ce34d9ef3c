"""Locust scenarios and suites: the only importers of locust (importing it patches the process).

`driver.py` is the program that dbperf starts for a load, `scenario.py` the user that a suite describes, `recorder.py`
what listens to Locust's request events, `suites/` the ready suites. Nothing in `dbperf/` imports from here.
"""
