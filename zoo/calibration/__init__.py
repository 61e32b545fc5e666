"""Calibration: token samples move through the layers, and quantizers learn what each weight's inputs look like."""
