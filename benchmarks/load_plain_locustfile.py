"""The scenario of bench_load.py as one would write it for Locust."""

from __future__ import annotations

from locust import FastHttpUser, constant, task


class Plain(FastHttpUser):
    wait_time = constant(0)

    @task
    def ok(self) -> None:
        self.client.get("/ok")
