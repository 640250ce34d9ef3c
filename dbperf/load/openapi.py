"""A suite from what an API says about itself: its GET endpoints that need no parameters."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from dbperf.errors import TargetError
from dbperf.load.probe import checked_url, probe
from dbperf.records.load import LeftOut
from dbperf.records.suite import Endpoint, Stage, Suite, ThinkTime

_LIMIT_BYTES = 32 << 20
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def derive_suite(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    users: int = 10,
    duration_s: float = 30.0,
    verify_tls: bool = True,
) -> tuple[Suite, list[LeftOut]]:
    """A suite over `/openapi.json`, and the operations that it leaves out. Blocks up to 10 s.

    Only GET operations without required parameters are called: they change nothing (RFC 9110, section 9.2.1) and
    need no made-up values.

    Raises:
        TargetError: nothing answers, there is no OpenAPI document, or it offers no such operation.
    """
    base = checked_url(url)
    probe(base, headers=headers, verify_tls=verify_tls)
    document = _fetch(f"{base}/openapi.json", headers or {}, verify_tls)
    endpoints: list[Endpoint] = []
    left_out: list[LeftOut] = []
    for path, item in sorted((document.get("paths") or {}).items()):
        for method, operation in item.items() if isinstance(item, dict) else ():
            if method not in _METHODS:
                continue
            name = f"{method.upper()} {path}"
            if reason := _why_not(method, path, item, operation):
                left_out.append(LeftOut(endpoint=name, reason=reason))
            else:
                endpoints.append(Endpoint(name=name, method="GET", path=path, weight=1.0, timeout_s=60.0))
    if not endpoints:
        raise TargetError(
            f"{base}/openapi.json describes no GET endpoint without required parameters",
            hint="write a suite (loadtests/suites/phase3.toml is an example) and give it with --suite",
        )
    suite = Suite(
        name="openapi",
        description=f"GET endpoints without required parameters, from {base}/openapi.json",
        source=f"{base}/openapi.json",
        stages=[Stage(name=f"{users} users", users=users, duration_s=duration_s, ramp_s=2.0, warm_up_s=3.0)],
        endpoints=endpoints,
        think_time=ThinkTime(min_s=0.05, max_s=0.15),
    )
    return suite, left_out


def _why_not(method: str, path: str, item: dict[str, Any], operation: Any) -> str | None:
    if method != "get":
        return "not a GET: it may change data, and needs a body that dbperf doesn't know"
    parameters = [*item.get("parameters", []), *(operation or {}).get("parameters", [])]
    # A $ref is not followed: it may be required, and the name after its last slash says which one it is.
    needed = [p.get("name") or str(p.get("$ref", "")).rpartition("/")[2] for p in parameters if _required(p)]
    if "{" in path and not needed:
        needed = [path[path.index("{") + 1 : path.index("}")]]
    return f"it needs {', '.join(needed)}" if needed else None


def _required(parameter: dict[str, Any]) -> bool:
    return bool(parameter.get("required") or parameter.get("in") == "path" or "$ref" in parameter)


def _fetch(url: str, headers: Mapping[str, str], verify_tls: bool) -> dict[str, Any]:
    # checked_url() has seen to it that this is http or https; --insecure asks for the unverified context.
    request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310
    context = None if verify_tls else ssl._create_unverified_context()  # noqa: S323
    hint = "give a suite with --suite; loadtests/suites/phase3.toml is an example"
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as response:  # noqa: S310
            document = json.loads(response.read(_LIMIT_BYTES))
    except urllib.error.HTTPError as e:
        raise TargetError(f"{url} answers {e.code}: the endpoints are unknown", hint=hint) from e
    except (OSError, http.client.HTTPException, ValueError) as e:
        raise TargetError(f"{url} can't be read: {e}", hint=hint) from e
    if not isinstance(document, dict):
        raise TargetError(f"{url} holds no OpenAPI document", hint=hint)
    return document
