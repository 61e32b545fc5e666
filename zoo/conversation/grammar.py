"""Grammars of answers that must call tools, or that may think before they take a form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.declarations.conversation import Thinking, ToolFormat
from zoo.errors import UsageError
from zoo.structured import Structure
from zoo.structured.structure import Part, grammar_text, quote

BLANKS = r"/\s{0,8}/"


@dataclass(frozen=True)
class Tool:
    """A function that may be called."""

    name: str
    parameters: Mapping[str, Any]
    """A JSON schema of its arguments."""


class GrammarWriter:
    """Writes the grammar of one kind of answer.

    Args:
        special: special tokens of the vocabulary: text → id.
    """

    def __init__(self, special: Mapping[str, int]) -> None:
        self._special = sorted(((text, token) for text, token in special.items() if text), key=lambda one: -len(one[0]))
        self._parts: dict[str, Part] = {}
        self._rules: list[str] = []

    def form(self, structure: Structure, thinking: Thinking | None, opened: bool) -> str:
        """Write the grammar of a form, after thoughts where the model has them.

        Raises:
            UsageError: the form cannot be followed.
        """
        part = structure.part()
        if thinking is None:
            return grammar_text({"answer": part})
        self._parts["answer"] = part
        return self._whole("@answer", thinking, opened)

    def calls(
        self,
        form: ToolFormat,
        tools: Sequence[Tool],
        parallel: bool,
        thinking: Thinking | None,
        opened: bool,
        otherwise: Structure | None = None,
    ) -> str:
        """Write the grammar of an answer that calls one of some tools, or several.

        Args:
            parallel: several may be called.
            thinking: how thoughts before it are marked; None for none.
            opened: the prompt ends inside thoughts.
            otherwise: the form of an answer that calls none; without one, there is no such answer.

        Raises:
            UsageError: a tool's schema cannot be followed; the message names the tool.
        """
        names = []
        for at, tool in enumerate(tools):
            try:
                names.append(self._call(form, at, tool))
            except UsageError as error:
                raise UsageError(f"the tool {tool.name!r}: {error}") from None
        self._rules.append(f"call: {' | '.join(names)}")
        pieces = [self.literal(form.start)] if form.start else []
        between = form.between
        if form.calls in ("list", "pythonic"):
            pieces.append('"["')
            between = ", "
        more = f"({self.literal(between)} call)*" if between else "call*"
        pieces.append(f"call {more}" if parallel else "call")
        if form.calls in ("list", "pythonic"):
            pieces.append('"]"')
        if form.end:
            pieces.append(self.literal(form.end))
        body = " ".join(pieces)
        if otherwise is not None:
            self._parts["answer"] = otherwise.part()
            body = f"(({body}) | @answer)"
        return self._whole(body, thinking, opened)

    def _whole(self, body: str, thinking: Thinking | None, opened: bool) -> str:
        start = body
        if thinking is not None:
            self._rules.append(f"thoughts: {self._thoughts(thinking)}")
            start = f"{self._thinking(thinking, opened)} {body}"
        return grammar_text(self._parts, "\n".join([f"start: {start}", *self._rules]))

    def _thinking(self, thinking: Thinking, opened: bool) -> str:
        if opened:
            return f"thoughts {BLANKS}"
        return f"({self.literal(thinking.start)} thoughts {BLANKS})?"

    def _thoughts(self, thinking: Thinking) -> str:
        """Write thoughts up to their end: a special token cannot stand in text, so it ends it by itself."""
        if any(text == thinking.end for text, _ in self._special):
            return f"/(?s:.*)/ {self.literal(thinking.end)}"
        self._rules.append(f"thought[suffix={quote(thinking.end)}]: /(?s:.*)/")
        return "thought"

    def _call(self, form: ToolFormat, at: int, tool: Tool) -> str:
        rule = f"call_{at}"
        if form.calls == "pythonic":
            body = f'{quote(tool.name + "(")} {self._keywords(at, tool)} ")"'
        else:
            self._parts[f"arguments_{at}"] = Structure("schema", dict(tool.parameters) or {"type": "object"}).part()
            body = self._with_arguments(form, tool, f"@arguments_{at}")
        pieces = [self.literal(form.before)] if form.before else []
        pieces += [body] + ([self.literal(form.after)] if form.after else [])
        self._rules.append(f"{rule}: {' '.join(pieces)}")
        return rule

    def _with_arguments(self, form: ToolFormat, tool: Tool, arguments: str) -> str:
        if form.calls == "named":
            return f"{quote(tool.name)} {self.literal(form.separator)} {arguments}"
        head = f"{{{quote(form.name)}: {quote(tool.name)}, {quote(form.arguments)}: "
        return f'{quote(head)} {arguments} "}}"'

    def _keywords(self, at: int, tool: Tool) -> str:
        """Write keyword arguments: those that are required in order, then any of the others in order."""
        properties = tool.parameters.get("properties", {})
        if not isinstance(properties, Mapping) or not all(str(name).isidentifier() for name in properties):
            raise UsageError("its parameters are not named as Python names them, as this model's calls need")
        required = [name for name in tool.parameters.get("required", ()) if name in properties]
        values = []
        for place, (name, schema) in enumerate(properties.items()):
            part = f"value_{at}_{place}"
            if isinstance(schema, Mapping) and "$defs" in tool.parameters:
                schema = {**schema, "$defs": tool.parameters["$defs"]}
            self._parts[part] = Structure("schema", schema).part()
            values.append((name, f"{quote(name + '=')} @{part}"))
        first = [text for name, text in values if name in required]
        others = [text for name, text in values if name not in required]
        written = ' ", " '.join(first)
        if first:
            return written + "".join(f' (", " {text})?' for text in others)
        ways = [
            text + "".join(f' (", " {later})?' for later in others[place + 1 :]) for place, text in enumerate(others)
        ]
        return f"({' | '.join(f'({way})' for way in ways)})?" if ways else '""'

    def literal(self, text: str) -> str:
        """Write a text of which parts may be special tokens."""
        pieces, plain, at = [], "", 0
        while at < len(text):
            special = next(((name, token) for name, token in self._special if text.startswith(name, at)), None)
            if special is None:
                plain += text[at]
                at += 1
                continue
            if plain:
                pieces.append(quote(plain))
                plain = ""
            pieces.append(f"<[{special[1]}]>")
            at += len(special[0])
        if plain:
            pieces.append(quote(plain))
        return " ".join(pieces) or '""'
