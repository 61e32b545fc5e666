"""How text is cut before byte-pair merges, by the names that GGUF files give it (``tokenizer.ggml.pre``).

The file has only the name; the patterns are llama.cpp's (``llama-vocab.cpp``), written as the tokenizers of the models
were published. Each pattern cuts the pieces that the one before it left. A name that is not here is not guessed.
"""

from __future__ import annotations

from dataclasses import dataclass

_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CAMEL = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*%s"
_SLASHED = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@dataclass(frozen=True)
class PreTokenizer:
    """What a name stands for.

    Attributes:
        patterns: regular expressions, one after the other.
        ignore_merges: a piece that is a token is that token, whatever the merges would make of it.
        begins: a text begins with the bos token unless the file says otherwise.
        composes: text is composed first (NFC), as the published tokenizer does and llama.cpp does not.
    """

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    begins: bool = False
    composes: bool = False


GPT2 = PreTokenizer((_GPT2,))
LLAMA3 = PreTokenizer(
    (rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}{_REST}",), ignore_merges=True, begins=True
)
QWEN2 = PreTokenizer((rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{_REST}",), composes=True)
DIGITS = PreTokenizer((r"\p{N}", _GPT2))
DEEPSEEK = PreTokenizer(
    (
        r"\p{N}{1,3}",
        r"[一-龥぀-ゟ゠-ヿ]+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
        r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    )
)
TEKKEN = PreTokenizer((_CAMEL % ("", "") + r"|\p{N}" + _SLASHED,), ignore_merges=True, begins=True)
O200K = PreTokenizer((_CAMEL % (f"{_ENDINGS}?", f"{_ENDINGS}?") + r"|\p{N}{1,3}" + _SLASHED,))

PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    **dict.fromkeys(("gpt-2", "phi-2"), GPT2),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3"), LLAMA3),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), QWEN2),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell"), DIGITS),
    "deepseek-v3": DEEPSEEK,
    "tekken": TEKKEN,
    "gpt-4o": O200K,
}
