"""Index candidates, what-if planners, selection, verification, SQL. Imports postgres and below."""
