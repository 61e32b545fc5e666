"""How the pages write numbers and licences."""

from __future__ import annotations

import json
from typing import Any

from zoo.declarations.licence import Licence


def size(value: float | None) -> str:
    """Write bytes, decimal: 1 GB is 10⁹."""
    if value is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit in ("B", "kB") or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def figure(value: float) -> str:
    """Write a measured number with four significant digits, large ones with thousands apart."""
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def plain(value: Any) -> str:
    """Write a declared value."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and abs(value) >= 10_000:
        return f"{value:,}"
    if isinstance(value, list) and all(not isinstance(item, dict | list) for item in value):
        return ", ".join(plain(item) for item in value)
    if value is None:
        return "none"
    return json.dumps(value, ensure_ascii=False)


def use_of(licence: Licence) -> tuple[str, str]:
    """Say what a licence allows, in a word for the table and in a sentence."""
    gate = " The hub gives access to the files after its terms are accepted." if licence.gated else ""
    if licence.commercial_use is True:
        return "commercial", f"Commercial use is allowed; read the terms.{gate}"
    if licence.commercial_use is False:
        return "non-commercial", f"Commercial use is not allowed.{gate}"
    return "unstated", f"It is not stated whether commercial use is allowed; read the licence.{gate}"
