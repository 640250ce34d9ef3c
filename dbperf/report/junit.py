"""JUnit XML: each service level a test case, so that any CI shows what was missed.

Format: the schema that Jenkins and GitLab read (testsuites, testsuite, testcase, failure, skipped). A level that can't
be told is "skipped" with its reason: neither a pass nor a failure. Nothing judged gives a suite with one error-free,
skipped case, so that an empty file never reads as a success.
"""

from __future__ import annotations

import re
from collections import defaultdict
from xml.etree import ElementTree

from dbperf.records.verdicts import LevelVerdict
from dbperf.report.change_words import VERDICTS, change_summary, change_text
from dbperf.report.changes_model import ChangesReport
from dbperf.report.model import Report
from dbperf.report.text import visible
from dbperf.report.words import METRICS, quantity

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 (2.2, Characters) does not allow, escaped or not."""


def render_junit(report: Report) -> str:
    """The XML document."""
    suites: dict[str, list[LevelVerdict]] = defaultdict(list)
    for level in [*(v for e in report.endpoints for v in e.levels), *report.levels]:
        suites[level.stage].append(level)
    root = ElementTree.Element("testsuites", {"name": _clean(f"dbperf {report.name}")})
    for stage, levels in suites.items():
        _suite(root, report, stage, levels)
    if report.gates:
        _gates(root, report)
    if report.changes:
        _changes(root, report.changes)
    if len(root) == 0:
        suite = _element(root, "testsuite", name="service levels", tests="1", failures="0", errors="0", skipped="1")
        case = _element(suite, "testcase", classname="dbperf", name="service levels")
        _element(case, "skipped", message=report.verdict.text)
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(s.get(key, "0")) for s in root)))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(root: ElementTree.Element, report: Report, stage: str, levels: list[LevelVerdict]) -> None:
    suite = _element(
        root,
        "testsuite",
        name=stage,
        timestamp=f"{report.started_at:%Y-%m-%dT%H:%M:%S}",
        tests=str(len(levels)),
        failures=str(sum(v.verdict == "fail" for v in levels)),
        errors="0",
        skipped=str(sum(v.verdict == "cant_tell" for v in levels)),
    )
    properties = _element(suite, "properties")
    for name, value in (("provenance", report.provenance), ("dbperf", report.environment.dbperf_version)):
        _element(properties, "property", name=name, value=value)
    for level in levels:
        side = "at least" if level.metric == "requests_per_s" else "at most"
        name = f"{METRICS[level.metric]} {side} {quantity(level.limit, level.unit)}"
        case = _element(suite, "testcase", classname=level.endpoint, name=name)
        message = f"{quantity(level.observed, level.unit)}: {level.reason}"
        if level.verdict == "fail":
            _element(case, "failure", type="service level", message=message)
        elif level.verdict == "cant_tell":
            _element(case, "skipped", message=f"can't tell: {message}")


def _gates(root: ElementTree.Element, report: Report) -> None:
    suite = _element(
        root,
        "testsuite",
        name="gates",
        tests=str(len(report.gates)),
        failures=str(sum(g.verdict == "fail" for g in report.gates)),
        errors="0",
        skipped=str(sum(g.verdict == "cant_tell" for g in report.gates)),
    )
    for gate in report.gates:
        case = _element(suite, "testcase", classname="gates", name=gate.expr)
        if gate.verdict == "fail":
            _element(case, "failure", type="gate", message=gate.reason)
        elif gate.verdict == "cant_tell":
            _element(case, "skipped", message=f"can't tell: {gate.reason}")


def _changes(root: ElementTree.Element, changes: ChangesReport) -> None:
    """What gates: a regression fails, what is open or not comparable is skipped; what is accepted passes."""
    gating = [m for m in changes.metrics if m.gate and not m.accepted]
    failed = [m for m in gating if m.verdict == "worse"]
    unsure = [m for m in gating if m.verdict in ("cant_tell", "not_comparable")]
    nothing = not gating
    suite = _element(
        root,
        "testsuite",
        name=f"against {changes.against}",
        tests=str(len(gating) + nothing),
        failures=str(len(failed)),
        errors="0",
        skipped=str(len(unsure) + nothing),
    )
    for m in gating:
        case = _element(suite, "testcase", classname=m.subject, name=f"{m.metric} at most {m.tolerance}")
        if m in failed:
            _element(case, "failure", type="regression", message=f"{' '.join(change_text(m))}: {m.reason}")
        elif m in unsure:
            _element(case, "skipped", message=f"{VERDICTS[m.verdict]}: {m.reason}")
    if nothing:
        _element(
            _element(suite, "testcase", classname="changes", name="comparison"),
            "skipped",
            message=change_summary(changes),
        )


def _element(parent: ElementTree.Element, tag: str, **attributes: str) -> ElementTree.Element:
    return ElementTree.SubElement(parent, tag, {k: _clean(v) for k, v in attributes.items()})


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", visible(text))
