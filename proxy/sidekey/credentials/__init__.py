"""Kinds of credential: what each is made of and how it becomes a grant. What must be read or called is handed in.

zoneinfo is imported here, before pydantic imports it, and without what it would look for time zones by, which nothing
here uses: all variables of Python's build, 0.6 MB of an idle process.
"""

from sidekey.lean_imports import set_while_importing

with set_while_importing({"PYTHONTZPATH": ""}):
    import zoneinfo  # noqa: F401
