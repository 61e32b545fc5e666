"""A pickle machine that can only describe tensors: it imports nothing, calls nothing and bounds its own work.

``torch.save`` writes a dict of tensors as a pickle whose tensors are calls of ``torch._utils._rebuild_tensor_v2`` on
storages named by persistent ids. Python's own unpickler would resolve and call whatever a file names; this one knows
the opcodes that such a dict needs and a closed table of names, each of which stands for a plain value here.

Source: the opcodes are those of Python's ``pickletools``; what torch writes is described in PyTorch's notes on
serialization semantics and its ``torch.load(weights_only=True)``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from zoo.declarations.dtypes import BY_NAME, BY_STORAGE
from zoo.errors import ZooError

MAX_PICKLE = 16 * 2**20
MAX_STEPS = 2_000_000
"""Opcodes; a tensor takes about sixty."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A named run of numbers in the archive."""

    key: str
    dtype: str
    numel: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage; offset and strides count elements."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Name:
    """A name of the closed table, standing for itself."""

    kind: str
    value: str = ""


_MARK = object()


def _names() -> dict[tuple[str, str], _Name]:
    table = {("torch", name): _Name("storage", dtype.code) for name, dtype in BY_STORAGE.items()}
    table |= {(module, "UntypedStorage"): _Name("storage", "U8") for module in ("torch", "torch.storage")}
    table |= {("torch", name): _Name("dtype", dtype.code) for name, dtype in BY_NAME.items()}
    for name in ("_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter"):
        table[("torch._utils", name)] = _Name(name)
    table[("collections", "OrderedDict")] = _Name("dict")
    return table


NAMES = _names()


def describe(raw: bytes, where: str) -> Any:
    """Read a pickle of plain values and tensors; tensors come as ``Tensor``.

    Args:
        raw: the pickle, protocol 2 to 5.
        where: what it is, for messages.

    Raises:
        ZooError: it is damaged, too large, or asks for anything but tensors (the message names what).
    """
    if len(raw) > MAX_PICKLE:
        raise ZooError(
            f"{where}: a description of {len(raw)} bytes, more than {MAX_PICKLE}, which no list of tensors is"
        )
    try:
        return _Machine(raw, where).run()
    except (IndexError, KeyError, struct.error, UnicodeDecodeError, AttributeError, TypeError):
        raise ZooError(f"{where}: the list of tensors is damaged; fetch the file again") from None


class _Machine:
    """One run over one pickle."""

    def __init__(self, raw: bytes, where: str) -> None:
        self.raw = raw
        self.where = where
        self.at = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(MAX_STEPS):
            code = self.raw[self.at]
            self.at += 1
            if code == 0x2E:  # STOP
                if len(self.stack) != 1:
                    self._bad("it ends with values left over")
                return self.stack[0]
            step = _STEPS.get(code)
            if step is None:
                self._bad(f"opcode 0x{code:02x} has no place in it")
            else:
                step(self)
        return self._bad(f"more than {MAX_STEPS} steps")

    def _bad(self, what: str) -> Any:
        raise ZooError(f"{self.where}: not a plain list of tensors ({what}); it is damaged or not a file of weights")

    def take(self, size: int) -> bytes:
        if size < 0 or self.at + size > len(self.raw):
            self._bad("it ends in the middle")
        self.at += size
        return self.raw[self.at - size : self.at]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        text, newline, _ = self.raw[self.at : self.at + 1024].partition(b"\n")
        if not newline:
            self._bad("an endless name")
        self.at += len(text) + 1
        return text.decode("utf-8")

    def since_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                values = self.stack[index + 1 :]
                del self.stack[index:]
                return values
        return list(self._bad("a mark is missing"))

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            self._bad("a name that is not text")
        known = NAMES.get((module, name))
        if known is None:
            raise ZooError(
                f"{self.where}: asks for {f'{module}.{name}'[:120]!r}, which no plain file of tensors does and which "
                "could run code; refused. Get these weights as safetensors, or as a plain state dict"
            )
        self.stack.append(known)

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            self._bad("a call of something that is not a function")
        if function.kind == "dict" and not arguments:
            self.stack.append({})
        elif function.kind == "_rebuild_tensor_v2" and len(arguments) in (6, 7):
            self.stack.append(self.tensor(arguments, None))
        elif function.kind == "_rebuild_tensor_v3" and len(arguments) in (7, 8):
            self.stack.append(self.tensor(arguments, arguments[6]))
        elif function.kind == "_rebuild_parameter" and len(arguments) == 3 and isinstance(arguments[0], Tensor):
            self.stack.append(arguments[0])
        else:
            self._bad("a call with other arguments than torch writes")

    def tensor(self, arguments: tuple[Any, ...], dtype: Any) -> Tensor:
        storage, offset, shape, strides = arguments[:4]
        if dtype is not None and not (isinstance(dtype, _Name) and dtype.kind == "dtype"):
            self._bad("a tensor whose type is not one of torch's")
        if not isinstance(storage, Storage) or not _count(offset) or not _sizes(shape) or not _sizes(strides):
            self._bad("a tensor without storage, offset, shape and strides")
        if len(shape) != len(strides):
            self._bad("a tensor with more strides than axes")
        return Tensor(storage, storage.dtype if dtype is None else dtype.value, offset, shape, strides)

    def storage(self) -> None:
        fields = self.stack.pop()
        if not isinstance(fields, tuple) or len(fields) != 5 or not all(isinstance(fields[i], str) for i in (0, 2, 3)):
            self._bad("a persistent id that is not a storage")
        tag, kind, key, _, numel = fields
        if tag != "storage" or not isinstance(kind, _Name) or kind.kind != "storage" or not _count(numel):
            self._bad("a storage without type and size")
        self.stack.append(Storage(key, kind.value, numel))

    def put(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            self._bad("items of something that is not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # A nested tuple could take exponential time to hash.
            if type(key) not in (str, int):
                self._bad("a key that is neither text nor number")
            if key in target:
                self._bad(f"the name {str(key)[:80]!r} appears twice")
            target[key] = value

    def extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            self._bad("an element of something that is not a list")
        self.stack[-1].extend(items)

    def build(self) -> None:
        # The attributes of a state dict (its `_metadata`) carry no weights.
        self.stack.pop()
        if type(self.stack[-1]) is not dict:
            self._bad("attributes of something that is not a dict")

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def remember(self, index: int) -> None:
        if self.stack[-1] is _MARK:
            self._bad("it remembers a mark")
        self.memo[index] = self.stack[-1]

    def tuple_of(self, size: int) -> None:
        values = tuple(self.stack[-size:])
        if len(values) < size or _MARK in values:
            self._bad("a tuple of too few values")
        del self.stack[-size:]
        self.stack.append(values)

    def text(self, form: str) -> None:
        self.stack.append(self.take(self.number(form)).decode("utf-8"))

    def long(self, form: str) -> None:
        size = self.number(form)
        if size > 8:
            self._bad("a number of more than 8 bytes")
        self.stack.append(int.from_bytes(self.take(size), "little", signed=True))

    def named_from_stack(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.name(module, name)


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _sizes(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) <= 64 and all(_count(item) for item in value)


def _pair(machine: _Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.put([key, value])


_STEPS: dict[int, Any] = {
    0x80: lambda m: m.take(1),  # PROTO
    0x95: lambda m: m.take(8),  # FRAME
    0x28: lambda m: m.stack.append(_MARK),
    0x30: lambda m: m.stack.pop(),  # POP
    0x4E: lambda m: m.stack.append(None),
    0x88: lambda m: m.stack.append(True),
    0x89: lambda m: m.stack.append(False),
    0x4A: lambda m: m.stack.append(m.number("<i")),
    0x4B: lambda m: m.stack.append(m.number("<B")),
    0x4D: lambda m: m.stack.append(m.number("<H")),
    0x8A: lambda m: m.long("<B"),
    0x8B: lambda m: m.long("<i"),
    0x47: lambda m: m.stack.append(m.number(">d")),
    0x58: lambda m: m.text("<I"),
    0x8C: lambda m: m.text("<B"),
    0x8D: lambda m: m.text("<Q"),
    0x54: lambda m: m.text("<i"),  # BINSTRING and SHORT_BINSTRING come from Python 2
    0x55: lambda m: m.text("<B"),
    0x7D: lambda m: m.stack.append({}),
    0x5D: lambda m: m.stack.append([]),
    0x29: lambda m: m.stack.append(()),
    0x85: lambda m: m.tuple_of(1),
    0x86: lambda m: m.tuple_of(2),
    0x87: lambda m: m.tuple_of(3),
    0x74: lambda m: m.stack.append(tuple(m.since_mark())),
    0x73: _pair,
    0x75: lambda m: m.put(m.since_mark()),
    0x61: lambda m: m.extend([m.stack.pop()]),
    0x65: lambda m: m.extend(m.since_mark()),
    0x68: lambda m: m.get(m.number("<B")),
    0x6A: lambda m: m.get(m.number("<I")),
    0x71: lambda m: m.remember(m.number("<B")),
    0x72: lambda m: m.remember(m.number("<I")),
    0x94: lambda m: m.remember(len(m.memo)),  # MEMOIZE
    0x63: lambda m: m.name(m.line(), m.line()),
    0x93: lambda m: m.named_from_stack(),
    0x51: lambda m: m.storage(),  # BINPERSID
    0x52: lambda m: m.call(),  # REDUCE
    0x62: lambda m: m.build(),
}
