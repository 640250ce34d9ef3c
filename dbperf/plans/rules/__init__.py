"""What is wrong in a plan. One small function per rule, grouped by subject; `find` runs them all.

A rule looks at a plan (and, where they are known, the statement's text and facts about its tables) and returns findings
with evidence in numbers, the time they explain, and advice. docs/rules.md has a page and an example for each.
"""

from dbperf.plans.rules.base import RULES, Context, Facts, Index, Rule, Table, Thresholds
from dbperf.plans.rules.run import find

__all__ = ["RULES", "Context", "Facts", "Index", "Rule", "Table", "Thresholds", "find"]
