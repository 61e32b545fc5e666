"""A model zoo framework: declare a model family once; list, plan, fetch, build, verify, run, measure and serve it."""

from zoo.hookspecs import hookimpl

__version__ = "0.1.0"

__all__ = ["__version__", "hookimpl"]
