"""Statements that are too long to stand in a function."""

from importlib.resources import files


def read_query(name: str) -> str:
    """Return the text of a `.sql` file of this folder."""
    return (files(__name__) / f"{name}.sql").read_text(encoding="utf-8")
