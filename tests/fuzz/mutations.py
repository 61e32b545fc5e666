"""Ways to spoil a file: bytes changed, cut, doubled and moved; for JSON, values replaced by what nobody expects."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, 10**30, -(2**63),
    0.0, -0.5, 1e-300, 1e308, float("inf"), float("nan"), "", "x", "..", "../x", "/etc/passwd", "\0", "é\ud800",
    "x" * 5000, "1", "{{ 1 }}", [], [[]], [1], [None], ["x"], [1] * 300, {}, {"x": 1}, {"": {}}, {"content": None},
    [[[[[[[[]]]]]]]],
)  # fmt: skip
SNIPPETS = (
    b"\0", b"\xff", b"\n", b"{", b"}", b"[", b'"', b"'", b"&a ", b"*a", b"!!python/object:os.system ", b"<<: ", b"? ",
    b"%}", b"{{", b"{%", b"{% for i in range(9) %}", b"{% endfor %}", b"{{ x.__class__ }}", b" ** 99", b" * 99999999",
    b"\xff" * 8, b"\x7f\xff\xff\xff", b"\xed\xa0\x80", b"PK\x05\x06", b"PK\x01\x02", b"99999999999999999999", b"1e999",
    b"  - ", b"|length",
)  # fmt: skip


def spoil(raw: bytes, draw: random.Random, *, text: bool = False) -> bytes:
    """Change a file in a few places."""
    if text and draw.random() < 0.75:
        try:
            return _spoil_values(json.loads(raw), draw)
        except ValueError:
            pass
    data = bytearray(raw)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data) + 1)
        end = min(len(data), at + draw.choice((1, 2, 4, 8, 64, 1024)))
        how = draw.randrange(7)
        if how == 0 and data:
            data[at - 1] = draw.randrange(256)
        elif how == 1 and data:
            data[at - 1] ^= 1 << draw.randrange(8)
        elif how == 2:
            del data[at:end]
        elif how == 3:
            data[at:at] = data[at:end]
        elif how == 4:
            data[at:at] = draw.choice(SNIPPETS)
        elif how == 5:
            other = draw.randrange(len(data) + 1)
            data[other:other] = data[at:end]
        elif draw.random() < 0.3:
            del data[at:]
    return bytes(data)


def _spoil_values(value: Any, draw: random.Random) -> bytes:
    value = copy.deepcopy(value)
    for _ in range(draw.randint(1, 3)):
        parent, key = _place(value, draw)
        if parent is None:
            value = draw.choice(ODD)
        elif draw.random() < 0.2:
            del parent[key]
        elif isinstance(parent, dict) and draw.random() < 0.15:
            parent[str(draw.choice(ODD))[:50]] = parent[key]
        else:
            parent[key] = copy.deepcopy(draw.choice(ODD))
    raw = json.dumps(value).encode()
    if draw.random() < 0.1:
        raw = raw.replace(b": ", b": " * draw.randint(1, 2), 1)
    return raw


def _place(value: Any, draw: random.Random) -> tuple[Any, Any]:
    """Choose a place in nested values."""
    parent, key = None, None
    while isinstance(value, dict | list) and value and (parent is None or draw.random() < 0.7):
        parent = value
        key = draw.choice(list(value)) if isinstance(value, dict) else draw.randrange(len(value))
        value = parent[key]
    return parent, key
