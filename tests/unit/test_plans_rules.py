"""Rules and their documentation go together."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from dbperf.plans.expressions import compared, create_index, parse
from dbperf.plans.rules import RULES
from tests.support.rule_docs import DOCS, examples


def test_every_rule_is_documented_with_an_example_and_its_title() -> None:
    documented = examples()
    assert set(documented) == set(RULES)
    assert set(re.findall(r"^### (.+)$", DOCS.read_text(), re.MULTILINE)) == set(RULES)
    for rule_id, example in documented.items():
        assert f"**{RULES[rule_id].title}.**" in example.text, rule_id
        assert example.statement
    assert len(RULES) >= 40


def test_rules_have_short_distinct_ids_and_titles() -> None:
    assert len({r.title for r in RULES.values()}) == len(RULES)
    for rule in RULES.values():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)+", rule.id)
        assert len(rule.title) < 70
        assert rule.check.__doc__


@pytest.mark.parametrize(
    "expression",
    [
        "(NOT (hashed SubPlan 1))",
        "((total)::numeric > $0)",
        "(total > (InitPlan 1).col1)",
        "(id = ANY ('{1,2}'::integer[]))",
        "((status)::text = ANY ('{a,b}'::text[]))",
        "(((t.a)::text ~~ 'x%'::text) AND (t.b IS NULL))",
        "(ROW(a, b) > ROW(1, 2))",
        "((doc ->> 'k'::text) = 'v'::text)",
        "(embedding <=> '[1,2]'::vector)",
    ],
)
def test_conditions_as_explain_prints_them_are_parsed(expression: str) -> None:
    assert parse(expression) is not None


def test_what_is_compared() -> None:
    found = compared("(((t.code)::text = '5'::text) AND (5 < t.\"Size\") AND (t.a = t.b) AND (lower(t.x) = 'y'::text))")
    assert [(c.column, c.operator, c.cast_to, c.function) for c in found] == [
        ("code", "=", "text", None),
        ("Size", "<", None, None),
        ("x", "=", None, "lower(x)"),
    ]
    assert compared("this is ( no SQL") == []


def test_create_index_quotes_names() -> None:
    assert create_index("My Schema", "order", ["a"]) == 'CREATE INDEX CONCURRENTLY ON "My Schema"."order" (a);'
    assert create_index(None, "t", []) is None


def test_importing_dbperf_imports_nothing_else() -> None:
    code = (
        "import dbperf, sys; print(sorted(m for m in sys.modules if m.startswith(('dbperf.', 'asyncpg', 'postgast'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
