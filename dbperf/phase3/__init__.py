"""The reference target: the SPEC Phase 3 API in two implementations, and its seed data. Imports no analysis.

seed.py      load.. generate.py (numpy), texts.py, embedding.py: the data, written with COPY
app.py       routes and models.py (tables), schemas.py (requests and answers)
rules.py     the business rules that both implementations share
naive.py     as first written with an ORM;  tuned.py  set-based SQL
launch.py    the server as a child process;  background.py  as a process that outlives the command
levels.py    the service levels and the limits of DB-001..006
"""
