"""A comparison as JUnit XML: each gating metric a test case. What can't be told or compared is skipped with its
reason: neither a pass nor a failure (the schema that Jenkins and GitLab read)."""

from __future__ import annotations

import re
from collections import defaultdict
from xml.etree import ElementTree

from dbperf.records.comparison import Comparison, MetricComparison
from dbperf.regress.words import OVERALL, VERDICTS, change, visible

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(comparison: Comparison) -> str:
    """The XML document. Without any metric it holds one skipped case, so that it never reads as a success."""
    by_service: dict[str, list[MetricComparison]] = defaultdict(list)
    for m in comparison.metrics:
        if m.gate or m.verdict == "not_comparable":
            by_service[m.service or "comparison"].append(m)
    root = ElementTree.Element("testsuites", {"name": "dbperf compare"})
    for service, metrics in by_service.items():
        suite = _element(root, "testsuite", name=service, timestamp=f"{comparison.compared_at:%Y-%m-%dT%H:%M:%S}")
        for m in metrics:
            case = _element(suite, "testcase", classname=m.subject, name=f"{m.name} {m.tolerance}")
            message = f"{change(m)}: {m.reason}"
            if m.verdict == "worse" and m.accepted is None:
                _element(case, "failure", type="regression", message=message)
            elif m.verdict == "worse":
                assert m.accepted is not None
                _element(case, "skipped", message=f"accepted until {m.accepted.until}: {m.accepted.reason}; {message}")
            elif m.verdict in ("cant_tell", "not_comparable"):
                _element(case, "skipped", message=f"{VERDICTS[m.verdict]}: {message}")
        _count(suite)
    if not by_service:
        suite = _element(root, "testsuite", name="comparison")
        case = _element(suite, "testcase", classname="dbperf", name="comparison")
        _element(case, "skipped", message=OVERALL[comparison.verdict])
        _count(suite)
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(s.get(key, "0")) for s in root)))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _count(suite: ElementTree.Element) -> None:
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", "0")
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))


def _element(parent: ElementTree.Element, tag: str, **attributes: str) -> ElementTree.Element:
    clean = {k: _NOT_XML.sub("\ufffd", visible(v)) for k, v in attributes.items()}
    return ElementTree.SubElement(parent, tag, clean)
