"""Measure zoo-tiny with transformers: perplexity, the choice task, samples, conversations. Prints JSON.

    python evaluate.py [--checkpoint ../zoo_tiny/checkpoint] [--task ../zoo_tiny/task] [--dtype float32]

Perplexity: each document of heldout.txt after its bos, all tokens and the eos counted. The choice task is scored as
lm-evaluation-harness scores multiple choice: the log-likelihood of " " + ending after bos + context; ``acc`` takes the
largest sum, ``acc_norm`` the largest sum divided by the ending's length in characters.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).resolve().parent
PROMPTS = [
    "Once there was",
    "One morning, Tom",
    "The opposite of hot is",
    "In winter the weather is",
    "Anna wanted to dig a hole. She needed",
    "Question: What does a bee eat?\nAnswer:",
    "Mia had three apples. Ben gave her four more. Now Mia has",
]
CHATS = [
    "Hello!",
    "What does a cow eat?",
    "What is the capital of France?",
    "What is 7 + 5?",
    "Tell me a story about a fox.",
    "Name three birds.",
    "My name is Karim. I am eight years old. What is my name?",
    "Lily put the coin in the jar. Max went home. Where is the coin?",
    "Can a penguin spin a web?",
    "Which day comes after Friday?",
]


@torch.no_grad()
def log_likelihoods(model: Any, rows: list[list[int]], batch: int = 32) -> list[torch.Tensor]:
    """Give for each row of ids the log-probability of each id but the first."""
    out: list[torch.Tensor] = [torch.empty(0)] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for at in range(0, len(order), batch):
        some = order[at : at + batch]
        longest = max(len(rows[i]) for i in some)
        ids = torch.tensor([rows[i] + [0] * (longest - len(rows[i])) for i in some])
        logits = model(input_ids=ids).logits.float().log_softmax(-1)
        for line, i in enumerate(some):
            length = len(rows[i])
            out[i] = logits[line, : length - 1].gather(1, ids[line, 1:length, None])[:, 0]
    return out


def perplexity(model: Any, tokenizer: Any, text: str) -> dict[str, float]:
    """Give perplexity a token, bits a byte and the number of tokens."""
    documents = text.strip().split("\n\n")
    rows = [[*tokenizer(document).input_ids, tokenizer.eos_token_id] for document in documents]
    values = torch.cat(log_likelihoods(model, rows))
    size = len("".join(documents).encode())
    return {
        "perplexity": math.exp(-values.mean().item()),
        "bits_per_byte": -values.sum().item() / math.log(2) / size,
        "tokens": len(values),
    }


def choices(model: Any, tokenizer: Any, items: list[dict[str, Any]]) -> dict[str, Any]:
    """Give accuracy over all items and by kind, and the ids of the items that came out wrong."""
    rows, spans = [], []
    for item in items:
        context = tokenizer(item["context"]).input_ids
        for choice in item["choices"]:
            whole = tokenizer(item["context"] + " " + choice).input_ids
            rows.append(whole)
            spans.append(len(context))
    sums = [values[span - 1 :].sum().item() for values, span in zip(log_likelihoods(model, rows), spans, strict=True)]
    right, right_norm, wrong, kinds = 0, 0, [], {}
    for i, item in enumerate(items):
        scores = sums[4 * i : 4 * i + 4]
        norm = [score / len(choice) for score, choice in zip(scores, item["choices"], strict=True)]
        good = scores.index(max(scores)) == item["answer"]
        right += good
        right_norm += norm.index(max(norm)) == item["answer"]
        hits, count = kinds.get(item["kind"], (0, 0))
        kinds[item["kind"]] = (hits + good, count + 1)
        if not good:
            wrong.append(item["id"])
    by_kind = {kind: round(hits / count, 3) for kind, (hits, count) in sorted(kinds.items())}
    return {
        "items": len(items),
        "acc": right / len(items),
        "acc_norm": right_norm / len(items),
        "acc_by_kind": by_kind,
        "wrong": wrong,
    }


def continuations(model: Any, tokenizer: Any, texts: list[str], sample: bool) -> list[str]:
    """Continue each text, greedily or at temperature 0.8, for at most 90 tokens."""
    out = []
    for text in texts:
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=not text.startswith("<s>")).input_ids
        how = {"do_sample": True, "temperature": 0.8, "top_k": 0} if sample else {"do_sample": False}
        made = model.generate(ids, max_new_tokens=90, pad_token_id=0, **how)[0, ids.shape[1] :]
        out.append(tokenizer.decode(made, skip_special_tokens=True))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=HERE.parent / "zoo_tiny" / "checkpoint")
    parser.add_argument("--task", type=Path, default=HERE.parent / "zoo_tiny" / "task")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    options = parser.parse_args()
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(options.checkpoint)
    model = AutoModelForCausalLM.from_pretrained(options.checkpoint, dtype=getattr(torch, options.dtype)).eval()
    items = [
        json.loads(line) for line in (options.task / "zoo_tiny_choice.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    chats = [
        tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False)
        for text in CHATS
    ]
    result = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "held_out": perplexity(model, tokenizer, (options.task / "heldout.txt").read_text(encoding="utf-8")),
        "choice": choices(model, tokenizer, items),
        "greedy": dict(zip(PROMPTS, continuations(model, tokenizer, PROMPTS, False), strict=True)),
        "sampled": dict(zip(PROMPTS[:2], continuations(model, tokenizer, PROMPTS[:2], True), strict=True)),
        "chat": dict(zip(CHATS, continuations(model, tokenizer, chats, False), strict=True)),
    }
    print(json.dumps(result, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
