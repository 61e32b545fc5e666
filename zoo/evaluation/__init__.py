"""Scoring with lm-evaluation-harness: the engine as its model, tasks over local files, and what two runs differ in."""
