"""What a server of the reference target needs to know, from arguments or from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime

from dbperf.errors import ConfigError
from dbperf.phase3.service import IMPLEMENTATIONS, ImplementationName
from dbperf.records.base import Record

_PREFIX = "DBPERF_PHASE3_"


class Settings(Record, frozen=True, kw_only=True):
    """Settings of `app.create_app`."""

    dsn: str
    implementation: ImplementationName
    api_key: str
    pool_size: int = 20
    """Connections per worker, at most."""
    pool_timeout_s: float = 30
    """A request that gets no connection for so long is answered with 503."""
    application_name: str = "phase3-api"
    """What pg_stat_activity shows."""
    llm: str | None = None
    """``package.module:callable`` that returns a `llm.SuggestionClient`; None: suggestions come from rules."""
    now: datetime | None = None
    """Stands in for the time of day in the rules about inactive cases, for tests; None: the real one."""

    def environment(self) -> dict[str, str]:
        """For a child process; the DSN and the key must not appear in its arguments."""
        values = {
            "DSN": self.dsn,
            "IMPLEMENTATION": self.implementation,
            "API_KEY": self.api_key,
            "POOL_SIZE": str(self.pool_size),
            "POOL_TIMEOUT_S": str(self.pool_timeout_s),
            "APPLICATION_NAME": self.application_name,
            "LLM": self.llm,
            "NOW": self.now.isoformat() if self.now else None,
        }
        return {_PREFIX + key: value for key, value in values.items() if value is not None}

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """The settings that `environment` wrote.

        Raises:
            ConfigError: one is missing or makes no sense.
        """
        env = os.environ if environ is None else environ

        def get(key: str, default: str | None = None) -> str:
            value = env.get(_PREFIX + key, default)
            if value is None:
                raise ConfigError(f"the environment variable {_PREFIX}{key} is not set", hint="use dbperf target up")
            return value

        implementation = get("IMPLEMENTATION")
        if implementation not in IMPLEMENTATIONS:
            raise ConfigError(f"{_PREFIX}IMPLEMENTATION must be one of {', '.join(IMPLEMENTATIONS)}")
        now = env.get(_PREFIX + "NOW")
        try:
            return cls(
                dsn=get("DSN"),
                implementation=implementation,
                api_key=get("API_KEY"),
                pool_size=int(get("POOL_SIZE", "20")),
                pool_timeout_s=float(get("POOL_TIMEOUT_S", "30")),
                application_name=get("APPLICATION_NAME", "phase3-api"),
                llm=env.get(_PREFIX + "LLM"),
                now=datetime.fromisoformat(now) if now else None,
            )
        except ValueError as e:
            raise ConfigError(f"a variable {_PREFIX}... does not fit: {e}") from e
