"""Varied strings, drawn by a seed: what tokenizers stumble over."""

from __future__ import annotations

import random

PARTS = (
    *("Once upon a time", " there was a dog", "the", "The", "HELLO", "don't", "it's", "we'll", "naïve", "façade"),
    *("你好，世界", "中国考试的单项选择题", "答案：", "农学", "機器學習", "こんにちは", "カタカナ"),
    *("안녕하세요", "Привет", "שלום"),
    *("مرحبا", "नमस्ते", "ไทย", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "𠜎𠜱", "🙂", "👩‍👩‍👧‍👦", "🇩🇪", "👍🏽", "é", "ﬁ", "Å", "ı", "ß", "½"),
    *(" ", "  ", "   ", "        ", "\t", "\t\t", "\n", "\n\n", "\r\n"),
    *(" \n ", "\u00a0", "\u3000", "\u200b", "\ufeff", "\u2028"),
    *("0", "12", "123", "12345678901", "3.14", "-7", "1,000", "0x1F", "2024-02-07", "№", "²"),
    *(".", ",", "!", "?!", "...", "…", "--", "—", "(", ")", "[", "]", "{"),
    *("}", "<", ">", "\\", "/", "|", "`", "```", "'", '"', "“", "▁"),
    *("def f(x):\n    return x", "<div class='a'>", "http://example.org/?q=1&r=2"),
    *("a_b", "camelCase", "C++", "#", "\x00", "\x07", "\x7f"),
    *("<s>", "</s>", "<unk>", "<|begin|>", "<|end|>", "[INST]", "<<SYS>>", "<0x41>", "<pad>"),
)  # fmt: skip


def strings(count: int, seed: int = 0) -> list[str]:
    """Draw strings: each part by itself, then joined at random; none is half a surrogate pair."""
    rng = random.Random(seed)
    made = ["", *PARTS]
    while len(made) < count:
        text = "".join(rng.choice(PARTS) + rng.choice(("", "", " ")) for _ in range(rng.randint(2, 9)))
        if rng.random() < 0.3:
            text += "".join(chr(_code_point(rng)) for _ in range(rng.randint(1, 6)))
        made.append(text)
    return made


def _code_point(rng: random.Random) -> int:
    while True:
        drawn = rng.randrange(1, rng.choice((0x80, 0x800, 0x10000, 0x110000)))
        if not 0xD800 <= drawn < 0xE000:
            return drawn
