"""The same rate as bench_load_latency.py asks for, as one would write it for Locust: 40 users at 5 a second each."""

from __future__ import annotations

from locust import FastHttpUser, constant_throughput, task


class Constant(FastHttpUser):
    wait_time = constant_throughput(5)

    @task
    def known(self) -> None:
        self.client.get("/known")
