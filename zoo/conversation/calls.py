"""Calls of tools in an answer, as a declared format writes them; the answer comes piece by piece."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator

from zoo.conversation.jsonscan import CallScanner, ValueScanner
from zoo.conversation.parts import AnswerPart, HeldBack
from zoo.conversation.pythonic import read_calls
from zoo.declarations.conversation import ToolFormat

LONGEST = 200_000
"""Characters of calls that are held until they can be told; what is longer is text."""


class Calls(ABC):
    """Reads calls from where they begin; what stands between them is dropped."""

    def __init__(self, form: ToolFormat) -> None:
        self.form = form
        self.count = 0
        """Calls that were found."""

    @abstractmethod
    def add(self, character: str) -> Iterator[AnswerPart]:
        """Take a character."""

    def rest(self) -> Iterator[AnswerPart]:
        """Return what was held back."""
        return iter(())


class ObjectCalls(Calls):
    """Objects, or a list of objects."""

    def __init__(self, form: ToolFormat) -> None:
        super().__init__(form)
        self._scanner: CallScanner | None = None

    def add(self, character: str) -> Iterator[AnswerPart]:
        """Take a character."""
        if self._scanner is None:
            if character != "{":
                return
            self._scanner = CallScanner(self.form.name, self.form.arguments)
        scanner, known = self._scanner, self._scanner.tool
        for kind, text in scanner.add(character):
            yield AnswerPart("call" if kind == "call" else "arguments", text, self.count)
        if scanner.ended:
            self._scanner = None
            if known is not None or scanner.tool is not None:
                self.count += 1


class NamedCalls(Calls):
    """A name, a separator, and the arguments' object."""

    def __init__(self, form: ToolFormat) -> None:
        super().__init__(form)
        self._before = HeldBack(form.before) if form.before else None
        self._name: str | None = None if form.start and form.before else ""
        """What comes before the arguments; None between calls."""
        self._scan: ValueScanner | None = None

    def add(self, character: str) -> Iterator[AnswerPart]:
        """Take a character."""
        if self._scan is not None:
            yield AnswerPart("arguments", character, self.count)
            if self._scan.add(character):
                self._scan, self._name = None, None if self._before else ""
                self.count += 1
        elif self._name is None:
            if self._before is not None and self._before.add(character)[1] is not None:
                self._name = ""
        elif character == "{":
            yield AnswerPart(
                "call", self._name.replace(self.form.separator.strip(), "").split("\n")[0].strip(), self.count
            )
            self._scan = ValueScanner()
            self._scan.add(character)
            yield AnswerPart("arguments", character, self.count)
        else:
            self._name += character


class PythonicCalls(Calls):
    """A Python list of calls, which can be told only when it is whole."""

    def __init__(self, form: ToolFormat) -> None:
        super().__init__(form)
        self._text = ""

    def add(self, character: str) -> Iterator[AnswerPart]:
        """Take a character."""
        if len(self._text) < LONGEST:
            self._text += character
        return iter(())

    def rest(self) -> Iterator[AnswerPart]:
        """Read the list."""
        calls = read_calls(self._text.removesuffix(self.form.end) if self.form.end else self._text)
        for name, arguments in calls or ():
            yield AnswerPart("call", name, self.count)
            yield AnswerPart("arguments", arguments, self.count)
            self.count += 1
        if calls is None:
            yield AnswerPart("content", self._text)


KINDS: dict[str, type[Calls]] = {
    "object": ObjectCalls, "list": ObjectCalls, "named": NamedCalls, "pythonic": PythonicCalls,
}  # fmt: skip


class CallReader:
    """Finds where text ends and calls begin.

    Args:
        form: how calls are written.
        tools: the names that may be called. Where no marker shows that calls begin, an object or a list that begins the
            answer is a call if it names one of these, and text otherwise.
    """

    def __init__(self, form: ToolFormat, tools: Collection[str]) -> None:
        self._form, self._tools = form, frozenset(tools)
        markers = [marker for marker in (form.marker, form.optional_start.strip()) if marker]
        self._markers = HeldBack(*markers) if markers else None
        self._calls: Calls | None = None
        self._bare = not form.marker
        """Whether calls may begin without a marker; only at the very beginning."""
        self._held: str | None = None
        """An answer that may be a bare call, until it is known."""
        self._blanks = ""
        """Blanks before what may be a marker: they are not part of the text then."""
        self._parts: list[AnswerPart] = []

    @property
    def called(self) -> bool:
        """Whether a tool was called."""
        return self._calls is not None and self._calls.count > 0

    def add(self, piece: str) -> list[AnswerPart]:
        """Take a piece; return what is certain of it."""
        if self._calls is not None:
            return self._call(piece)
        if self._bare:
            piece = (self._held or "") + piece
            self._held = None
            begun = piece.lstrip()
            optional = self._form.optional_start.strip()
            if not begun or (optional and optional.startswith(begun)):
                self._held = piece
                return []
            opening = "[" if self._form.calls in ("list", "pythonic") else "{"
            if begun.startswith(opening):
                self._begin()
                self._held = piece
                return self._call(piece, held=True)
            self._bare = False
        if self._markers is None:
            return [AnswerPart("content", piece)] if piece else []
        before, marker, after = self._markers.add(piece)
        before = self._blanks + before
        text = before.rstrip()
        self._blanks = before[len(text) :]
        parts = [AnswerPart("content", text)] if text else []
        if marker is not None:
            self._blanks = ""
            self._begin()
            parts += self._call(after)
        return parts

    def rest(self) -> list[AnswerPart]:
        """Return what was held back."""
        if self._calls is None:
            text = (self._held or "") + self._blanks + (self._markers.rest() if self._markers else "")
            return [AnswerPart("content", text)] if text else []
        parts = [*self._parts, *self._calls.rest()]
        if self._held is not None and not self._is_known(parts):
            self._calls = None
            return [AnswerPart("content", self._held)]
        self._parts = []
        return parts

    def _begin(self) -> None:
        self._calls = KINDS[self._form.calls](self._form)

    def _call(self, text: str, *, held: bool = False) -> list[AnswerPart]:
        """Give text to the calls; a bare one is held until it names a tool."""
        assert self._calls is not None
        if self._held is not None and not held:
            self._held += text
        for character in text:
            self._parts += self._calls.add(character)
        if self._held is not None:
            if self._is_known(self._parts):
                self._held = None
            elif any(part.kind == "call" for part in self._parts) or len(self._held) > LONGEST:
                text, self._held, self._calls, self._parts, self._bare = self._held, None, None, [], False
                return [AnswerPart("content", text)]
            else:
                return []
        parts, self._parts = _joined(self._parts), []
        return parts

    def _is_known(self, parts: list[AnswerPart]) -> bool:
        names = [part.text for part in parts if part.kind == "call"]
        return bool(names) and self._tools.issuperset(names)


def _joined(parts: list[AnswerPart]) -> list[AnswerPart]:
    """Put neighbours of a kind together."""
    made: list[AnswerPart] = []
    for part in parts:
        last = made[-1] if made else None
        if last is not None and part.kind != "call" and (last.kind, last.call) == (part.kind, part.call):
            made[-1] = AnswerPart(part.kind, last.text + part.text, part.call)
        else:
            made.append(part)
    return made
