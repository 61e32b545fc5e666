"""Varied strings and conversations, drawn by a seed, for comparisons of tokenizers and chat templates."""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

WORDS = (
    "the", "of", "and", "zoo", "model", "don't", "I'LL", "we've", "naïve", "café", "Straße", "Ελλάδα", "Привет",
    "мир", "مرحبا", "בעולם", "日本語", "한국어", "你好", "世界", "हिन्दी", "ภาษา", "x1", "3.14159", "1234567890", "0x1F",
    "foo_bar", "camelCase", "HTTPServer", "e\u0301", "ﬁ", "Ⅷ", "½", "²", "\u200d", "\u00ad", "🦓",
    "👩\u200d👩\u200d👧", "🇩🇪", "🏳\ufe0f\u200d🌈", "…—", "“quoted”", "‘s",
)  # fmt: skip
SPACES = (" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", " \n ", "\u00a0", "\u3000", "\u2028", "")
CODE = (
    "def f(x):\n    return x ** 2  # squared\n", "for (int i = 0; i < n; ++i) {\n\ta[i] += 1;\n}",
    '{"a": [1, 2.5e-3, null]}',
    "SELECT * FROM t WHERE id='it''s';", "<div class=\"a\">&nbsp;</div>",
    "$ ls -la | grep '^d' > out.txt", "\\frac{1}{2}",
    "https://example.org/a?b=c&d=%20e#f", "a@b.example", "C:\\Users\\x", "```python\nprint('hi')\n```",
)  # fmt: skip
BLOCKS = (
    (0x20, 0x7F), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x500), (0x590, 0x700), (0x900, 0x980), (0xE00, 0xE80),
    (0x1100, 0x1200), (0x2000, 0x2070), (0x2190, 0x2400), (0x3040, 0x3100), (0x4E00, 0x5200), (0xAC00, 0xAD00),
    (0xFE00, 0xFE10), (0xFF00, 0xFFF0), (0x1F300, 0x1F700), (0x20000, 0x20100), (0xE0000, 0xE0080), (0x0, 0x20),
)  # fmt: skip


def strings(count: int, special: Sequence[str], seed: int = 0) -> Iterator[str]:
    """Draw strings: words of many scripts, code, spaces at either end, any characters, special tokens inside."""
    draw = random.Random(seed)
    prose = _prose()
    for number in range(count):
        kind = number % 6
        if kind == 0:
            text = "".join(draw.choice(WORDS) + draw.choice(SPACES) for _ in range(draw.randint(0, 12)))
        elif kind == 1:
            text = "".join(chr(draw.randrange(*draw.choice(BLOCKS))) for _ in range(draw.randint(1, 24)))
        elif kind == 2:
            text = draw.choice(CODE) + draw.choice(SPACES) + draw.choice(CODE)
        elif kind == 3:
            text = draw.choice(prose)
        elif kind == 4:
            text = "".join(str(draw.randrange(10 ** draw.randint(1, 9))) + draw.choice(SPACES) for _ in range(6))
        else:
            parts = [draw.choice([*WORDS, *SPACES, draw.choice(special)]) for _ in range(draw.randint(1, 8))]
            text = "".join(parts)
        yield draw.choice(SPACES) + text if number % 3 == 0 else text


def _prose() -> list[str]:
    """Paragraphs of this repository's own pages."""
    root = Path(__file__).resolve().parents[1]
    pages = [root / "README.md", *sorted((root / "docs").glob("*.md"))[:6]]
    return [part for page in pages for part in page.read_text(encoding="utf-8").split("\n\n") if part.strip()]


TOOLS = [
    {"type": "function", "function": {
        "name": "weather", "description": "Tell the weather – \"now\" or later.",
        "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "A city's name"}, "days": {"type": "integer", "enum": [1, 2]},
        }, "required": ["city"]},
    }},
    {"type": "function", "function": {
        "name": "now", "description": "Tell the time", "parameters": {"type": "object", "properties": {}},
    }},
]  # fmt: skip


def conversations(count: int, seed: int = 0) -> Iterator[tuple[list[dict[str, Any]], list[Any] | None, dict[str, Any]]]:
    """Draw conversations: messages, tools or None, variables of the template such as ``enable_thinking``."""
    draw = random.Random(seed)
    contents = list(strings(400, ["</s>", "<|im_end|>", "<|eot_id|>", "<think>"], seed=seed + 1))
    for number in range(count):
        tools = TOOLS[: draw.randint(1, 2)] if number % 3 == 1 else None
        messages = [{"role": "system", "content": draw.choice(contents)}] if draw.random() < 0.5 else []
        for turn in range(draw.randint(1, 4)):
            messages.append({"role": "user", "content": draw.choice(contents)})
            if tools and draw.random() < 0.6:
                messages += _call(draw, number * 10 + turn)
            answer: dict[str, Any] = {"role": "assistant", "content": draw.choice(contents)}
            if draw.random() < 0.3:
                answer["content"] = f"<think>\n{draw.choice(contents)}\n</think>\n\n{answer['content']}"
            elif draw.random() < 0.3:
                answer["reasoning_content"] = draw.choice(contents)
            messages.append(answer)
        if draw.random() < 0.8:  # else it ends with an answer
            messages.append({"role": "user", "content": draw.choice(contents)})
        variables: dict[str, Any] = [{}, {"enable_thinking": False}, {"enable_thinking": True}][number % 3]
        yield messages, tools, variables


def _call(draw: random.Random, number: int) -> list[dict[str, Any]]:
    """An assistant's call of a tool, and the tool's answer."""
    arguments: Any = {"city": draw.choice(["Zürich", "東京"]), "days": draw.randint(1, 2)}
    if draw.random() < 0.5:
        arguments = json.dumps(arguments, ensure_ascii=False)
    call = {"type": "function", "id": f"call_{number}", "function": {"name": "weather", "arguments": arguments}}
    return [
        {"role": "assistant", "content": draw.choice([None, "", "Let me see."]), "tool_calls": [call]},
        {"role": "tool", "name": "weather", "tool_call_id": f"call_{number}", "content": '{"sky": "klar ☀"}'},
    ]
