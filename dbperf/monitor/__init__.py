"""The Prometheus exporter (`dbperf serve`). Alert rules for it are in `monitor/prometheus/`."""
