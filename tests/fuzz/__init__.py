"""Hostile input: every reader ends in a value or in one line, in bounded time and memory, inside its folder."""
