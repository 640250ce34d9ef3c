"""PERF-001..008 and the Phase 1-2 endpoints as benchmark tests, for `dbperf bench`; the project's own tests do not
collect them."""
