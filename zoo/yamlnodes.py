"""Compose YAML within bounds: nothing that a file says can exhaust the stack, the memory or the clock.

The parser hands over events, one at a time, and does not recurse. Its own composer does, in C: a hundred thousand
opening brackets end the process.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

MAX_DEPTH = 40
MAX_NODES = 200_000
MAX_NUMBER = 64
"""Characters of a number; Python reads longer ones in quadratic time, or not at all."""
SMALLEST, LARGEST = -(2**63), 2**64 - 1

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_PLAIN = frozenset(f"{_TAG}{kind}" for kind in ("null", "bool", "int", "float", "str", "timestamp"))
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")
_construct = yaml.constructor.SafeConstructor().construct_object


_MENDS = {
    "found a tab": "indent with spaces",
    "mapping values are not allowed": "put a text that holds ': ' in quotes, and indent fields alike",
    "did not find expected": "close what was opened, and indent fields alike",
    "could not find expected ':'": "a field is written `name: value`",
    "found character that cannot start": "put the text in quotes, and indent with spaces",
    "found unexpected end of stream": "close the quote",
}
"""What libyaml complains about, and what to do about it."""


class YamlProblem(Exception):
    """Something that is wrong with a YAML text, at a line and a column, both counted from 1."""

    def __init__(self, line: int, column: int, message: str) -> None:
        super().__init__(message)
        self.line, self.column, self.message = line, column, message


def compose(raw: bytes) -> yaml.Node | None:
    """Compose the one document of a YAML text; None where it is empty.

    Raises:
        YamlProblem: it is not YAML, has a second document, nests deeper than ``MAX_DEPTH`` or holds more than
            ``MAX_NODES`` nodes.
    """
    loader = None
    try:
        loader = _Loader(raw)
        return _compose(loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = error.problem or "not YAML"
        mend = "".join(f"; {words}" for start, words in _MENDS.items() if problem.startswith(start))
        raise YamlProblem(line, column, problem + mend) from None
    except (yaml.YAMLError, UnicodeError, ValueError) as error:
        raise YamlProblem(1, 1, f"not YAML: {(str(error).splitlines() or [''])[0]}") from None
    finally:
        if loader is not None:
            loader.dispose()


def _compose(loader: Any) -> yaml.Node | None:
    root: yaml.Node | None = None
    anchors: dict[str, yaml.Node] = {}
    open_nodes: list[Any] = []
    left = MAX_NODES
    while True:
        event = loader.get_event()
        if isinstance(event, yaml.StreamEndEvent):
            return root
        if isinstance(event, yaml.DocumentStartEvent) and root is not None:
            raise _problem(event, "a second document begins here; a declaration is one")
        if isinstance(event, yaml.CollectionEndEvent):
            open_nodes.pop()
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        left -= 1
        if left < 0:
            raise _problem(event, f"more than {MAX_NODES} values")
        if len(open_nodes) >= MAX_DEPTH and isinstance(event, yaml.CollectionStartEvent):
            raise _problem(event, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            anchor = event.anchor or ""
            if anchor not in anchors:
                raise _problem(event, f"the alias *{anchor[:40]} names no anchor above it")
            node = anchors[anchor]
        else:
            node = _node(loader, event)
            if event.anchor is not None:
                if event.anchor in anchors:
                    raise _problem(event, f"the anchor &{event.anchor[:40]} stands here twice")
                anchors[event.anchor] = node
        if open_nodes:
            _append(open_nodes[-1], node)
        else:
            root = node
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append(node)


def _node(loader: Any, event: Any) -> Any:
    """Make the node that an event begins; a collection is filled by the events that follow."""
    tag: Any
    if isinstance(event, yaml.ScalarEvent):
        tag = event.tag
        if tag is None or tag == "!":
            tag = loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        scalar_node: Any = yaml.ScalarNode
        return scalar_node(tag, event.value, event.start_mark, event.end_mark, style=event.style)
    kind: Any = yaml.MappingNode if isinstance(event, yaml.MappingStartEvent) else yaml.SequenceNode
    tag = event.tag
    if tag is None or tag == "!":
        tag = loader.resolve(kind, None, event.implicit)
    return kind(tag, [], event.start_mark, event.end_mark, flow_style=event.flow_style)


def _append(parent: Any, node: Any) -> None:
    """Add a node to an open collection; a mapping's keys and values come in turn."""
    if isinstance(parent, yaml.SequenceNode):
        parent.value.append(node)
    elif parent.value and len(parent.value[-1]) == 1:
        parent.value[-1] = (parent.value[-1][0], node)
    else:
        parent.value.append((node,))


def scalar(node: yaml.ScalarNode) -> Any:
    """Read a plain value: None, a bool, an int of 64 bits, a finite float, or text without control characters.

    Numbers of base 60 and dates, which YAML 1.1 knows and nobody means, are text.

    Raises:
        ValueError: it is not one of these; the message says why.
    """
    text = node.value
    kind = node.tag.removeprefix(_TAG)
    if node.tag not in _PLAIN:
        raise ValueError(f"the tag {node.tag.replace(_TAG, '!!')} is not read; only plain values are")
    if kind == "timestamp" or (kind in ("int", "float") and ":" in text):
        kind = "str"
    if kind == "str":
        control = _CONTROL.search(text)
        if control is not None:
            raise ValueError(f"text holds the control character U+{ord(control[0]):04X}; remove it")
        return text
    if len(text) > MAX_NUMBER:
        raise ValueError(f"a number of {len(text)} characters; at most {MAX_NUMBER} are read")
    try:
        value = _construct(node)
    except (ValueError, OverflowError, KeyError, yaml.YAMLError):
        raise ValueError(f"cannot read {text!r} as {kind}") from None
    if kind == "int" and not SMALLEST <= value <= LARGEST:
        raise ValueError(f"{text} does not fit 64 bits")
    if kind == "float" and not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def _problem(event: Any, message: str) -> YamlProblem:
    return YamlProblem(event.start_mark.line + 1, event.start_mark.column + 1, message)
