"""Prometheus rules, Grafana dashboards and a compose file for `dbperf serve`; dashboards.py makes the dashboards."""
