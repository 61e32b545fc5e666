"""A Jinja environment for templates that nobody checked: no way out, and a bound on what a rendering takes.

Jinja's sandbox keeps a template away from Python; it does not keep it from looping for ever over nested loops or from
writing a string of a terabyte. Here loops, calls and growing values draw on a budget.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.filters import do_format
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_STEPS = 500_000
"""Turns of loops, calls and filters of one rendering."""
CALL = 5
"""Steps that a call counts for, since a macro takes as long as several turns of a loop."""
MAX_TEXT = 4_000_000
"""Characters of a value, and of the whole."""
MAX_BITS = 4096
"""Bits of a whole number."""
_WIDE = re.compile(r"\d{6,}")
_WIDTH_ARGUMENT = re.compile(r"%[^a-zA-Z%]*\*|\{[^}]*\{")
"""A place to fill whose width is an argument: ``%*d``, ``{:{}}``."""
_LOOP, _TEXT = "zoo_loop", "zoo_text"


class BoundedSandbox(ImmutableSandboxedEnvironment):
    """The sandbox, with a budget that ``begin`` renews."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._steps = 0
        self.filters = {name: self._guarded(one) for name, one in self.filters.items()}
        self.filters |= {_LOOP: self._turns, _TEXT: self._checked}

    def begin(self) -> None:
        """Start a rendering."""
        self._steps = 0

    def charge(self, steps: int = 1) -> None:
        """Count work.

        Raises:
            SecurityError: the budget is used up.
        """
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise SecurityError(f"it takes more than {MAX_STEPS} steps")

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        for loop in source.find_all(nodes.For):
            loop.iter = _filtered(loop.iter, _LOOP)
        _replace_concatenations(source)
        return super()._generate(source, *args, **kwargs)

    def _turns(self, items: Iterable[Any]) -> Iterable[Any]:
        return _Turns(self, items)

    def _checked(self, value: Any) -> Any:
        if isinstance(value, str) and len(value) > MAX_TEXT:
            raise SecurityError(f"it makes a text of more than {MAX_TEXT} characters")
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise SecurityError("it makes a number that is too large")
        return value

    def _check_arguments(self, subject: Any, arguments: Iterable[Any], *, widths: bool = True) -> None:
        """Refuse a call whose result could be huge: a padding, a repetition, a replacement."""
        size = 1
        if widths and any(isinstance(width, int) and abs(width) > MAX_TEXT for width in arguments):
            raise SecurityError("it asks for a width that is too large")
        for argument in (subject, *arguments):
            if isinstance(argument, str | list | tuple | dict):
                # At worst every part of one meets all of another, as in a replacement or a join.
                size *= 1 + len(argument)
            if isinstance(argument, list | tuple):
                self.charge(len(argument))
                size += sum(len(item) for item in argument if isinstance(item, str))
        if size > 16 * MAX_TEXT:
            raise SecurityError(f"it makes a text of more than {MAX_TEXT} characters")

    def _check_format(self, form: Any, arguments: Iterable[Any]) -> None:
        """Refuse to fill a text that asks for a large width, itself or by an argument."""
        text = str(form)[:MAX_TEXT]
        if _WIDE.search(text) and ("%" in text or "{" in text):
            raise SecurityError("it asks for a width that is too large")
        self._check_arguments(form, arguments, widths=_WIDTH_ARGUMENT.search(text) is not None)

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call what a template calls."""
        self.charge(CALL)
        if not isinstance(obj, Macro | _Formatting):  # which are checked where they do their work
            self._check_arguments(getattr(obj, "__self__", None), (*args, *kwargs.values()))
        return self._checked(super().call(context, obj, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Check what a text's own formatting is asked for."""
        formatted = super().wrap_str_format(value)
        if formatted is None:
            return None

        def check(*arguments: Any) -> None:
            self._check_format(value.__self__, arguments)

        return _Formatting(check, formatted)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute what may grow."""
        self.charge()
        if operator == "*":
            for one, other in ((left, right), (right, left)):
                if isinstance(one, str | list | tuple) and isinstance(other, int) and len(one) * other > MAX_TEXT:
                    raise SecurityError("it repeats too much")
        elif operator == "**":
            if not isinstance(right, int | float) or abs(right) > MAX_BITS:
                raise SecurityError("it makes a number that is too large")
            if isinstance(left, int) and left.bit_length() * right > MAX_BITS:
                raise SecurityError("it makes a number that is too large")
        elif operator == "%" and isinstance(left, str):
            self._check_format(left, right if isinstance(right, tuple) else (right,))
        elif operator == "+" and isinstance(left, list | tuple):
            self.charge(len(left))
        return self._checked(super().call_binop(context, operator, left, right))

    def _guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Let a filter draw on the budget."""

        @functools.wraps(function)  # and with it what jinja passes first
        def guarded(*args: Any, **kwargs: Any) -> Any:
            self.charge()
            values = [argument for argument in args if isinstance(argument, str | int | list | tuple | dict)]
            if values and function is do_format:
                self._check_format(values[0], (*values[1:], *kwargs.values()))
            elif values:
                self._check_arguments(values[0], (*values[1:], *kwargs.values()))
            return self._checked(function(*args, **kwargs))

        return guarded


class GenerationBlock(Extension):
    """``{% generation %}`` marks what the assistant wrote, for training; here it is just its content."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Read the block."""
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


class _Formatting:
    """A text's ``format``, checked before it is called."""

    def __init__(self, check: Callable[..., None], formatted: Callable[..., str]) -> None:
        self._check, self._formatted = check, formatted

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        self._check(*args, *kwargs.values())
        return str(self._formatted(*args, **kwargs))


class _Turns:
    """Counts the turns of a loop; knows its length where that is known."""

    def __init__(self, sandbox: BoundedSandbox, items: Iterable[Any]) -> None:
        self._sandbox = sandbox
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            self._sandbox.charge()
            yield item

    def __len__(self) -> int:
        return len(self._items)  # type: ignore[arg-type]  # a TypeError is what jinja expects otherwise


def _filtered(node: Any, name: str) -> nodes.Filter:
    made = nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
    made.set_environment(node.environment)
    return made


def _replace_concatenations(node: nodes.Node) -> None:
    """Check what ``~`` puts together; inner ones first."""
    for field, value in node.iter_fields():
        if isinstance(value, nodes.Node):
            _replace_concatenations(value)
            if isinstance(value, nodes.Concat):
                setattr(node, field, _filtered(value, _TEXT))
        elif isinstance(value, list):
            for index, one in enumerate(value):
                if isinstance(one, nodes.Node):
                    _replace_concatenations(one)
                    if isinstance(one, nodes.Concat):
                        value[index] = _filtered(one, _TEXT)
