"""Measure how fast a model answers: workloads, clients that send them, and the figures of what came back."""
