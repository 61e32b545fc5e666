"""The package: a folder that is complete or absent."""

from __future__ import annotations

from zoo.package.folder import MANIFEST, Package, check_hashes, open_package, read_manifest

__all__ = ["MANIFEST", "Package", "check_hashes", "open_package", "read_manifest"]
