"""What a stranger may hand over, and what must not be lost: one test for each attack, beside variants of it."""
