"""The Prometheus exporter (`dbperf serve`). Rules and dashboards for it are in the folder `monitor/`."""
