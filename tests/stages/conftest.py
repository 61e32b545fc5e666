"""Fixtures of other rooms that stages need too."""

from tests.sources.conftest import server

__all__ = ["server"]
