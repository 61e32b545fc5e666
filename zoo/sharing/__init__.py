"""Packages in registries and on the hub: pushed, pulled, signed, described."""
