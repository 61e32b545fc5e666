"""Answers of a given form: JSON by a schema, text by an expression or a grammar. llguidance says what may come."""

from zoo.structured.structure import Structure

__all__ = ["Structure"]
