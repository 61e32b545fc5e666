"""Answers of a conversation taken apart: thoughts, text, and calls of tools, as a family's models write them."""
