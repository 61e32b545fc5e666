"""Smoothing: channels rescaled before weights are rounded, so that the inputs of a layer lose less by rounding."""
