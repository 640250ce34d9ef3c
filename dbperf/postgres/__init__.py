"""The only room that talks to PostgreSQL: connect, capabilities, embedded server, snapshots, EXPLAIN.

Imports records, plans, stats.
"""
