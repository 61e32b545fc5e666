"""Verification: a package against transformers on the original weights, layer by layer."""
