"""The same rate as bench_load_latency.py asks for, as one would write it for Locust: 20 users at 10 a second each."""

from __future__ import annotations

from locust import FastHttpUser, constant_throughput, task


class Constant(FastHttpUser):
    wait_time = constant_throughput(10)

    @task
    def known(self) -> None:
        self.client.get("/known")
