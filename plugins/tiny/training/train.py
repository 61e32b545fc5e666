"""Train zoo-tiny: the tokenizer, then the model, on text made by corpus.py. Needs torch, transformers and tokenizers.

    python train.py --work WORK --output ../zoo_tiny/checkpoint [--steps 1750] [--resume]

The learning rate warms up, stays, and falls to zero over the last part, so that ``--resume --steps N`` with another N
is fine: a run stopped early only needs its falling part. A tokenizer already in the output is kept. WORK keeps the
token stream and the training state.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from corpus import SEED, documents
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM

SPECIAL = ["<pad>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
PAD, BOS, EOS, END = 0, 1, 2, 6
VOCAB, CONTEXT, BATCH = 2048, 512, 8
WRITTEN = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "head_dim", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings", "attention_bias", "mlp_bias",
    "bos_token_id", "eos_token_id", "pad_token_id", "initializer_range",
)  # fmt: skip
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] | trim + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def config() -> LlamaConfig:
    """Give the model's numbers: 5.0 M parameters, eight query heads on two KV heads, tied embeddings."""
    return LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        tie_word_embeddings=True,
        attention_bias=False,
        mlp_bias=False,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
        initializer_range=0.02,
    )


def train_tokenizer(output: Path) -> Tokenizer:
    """Train a byte-level BPE on the first documents; all 256 bytes are tokens, so every text comes back as it was."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(islice(documents(SEED), 60_000), trainer)
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", BOS)]),
    ])  # fmt: skip
    if tokenizer.get_vocab_size() != VOCAB:
        raise SystemExit(f"train.py: the text gives only {tokenizer.get_vocab_size()} tokens, not {VOCAB}; add words")
    output.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(output / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONTEXT,
        "chat_template": CHAT_TEMPLATE,
        "additional_special_tokens": SPECIAL[3:],
    }
    (output / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    return tokenizer


def token_stream(tokenizer: Tokenizer, path: Path, tokens: int) -> np.ndarray:
    """Give at least ``tokens`` uint16 tokens of documents, each between bos and eos, kept in ``path``."""
    if path.exists() and path.stat().st_size >= 2 * tokens:
        return np.fromfile(path, dtype=np.uint16)
    stream, total = documents(SEED), 0
    with open(path, "wb") as file:
        while total < tokens:
            for encoded in tokenizer.encode_batch(list(islice(stream, 5000))):
                ids = np.array([*encoded.ids, EOS], dtype=np.uint16)
                file.write(ids.tobytes())
                total += len(ids)
    return np.fromfile(path, dtype=np.uint16)


def rate(step: int, steps: int, warmup: int = 60, fall: float = 0.25) -> float:
    """Give the share of the full learning rate: linear warm-up, constant, then falling to zero over the end."""
    start = int(steps * (1 - fall))
    return min(1.0, (step + 1) / warmup) * (
        1.0 if step < start else max(0.0, 1 - (step - start) / max(1, steps - start))
    )


def save(weights: dict[str, torch.Tensor], output: Path) -> None:
    """Write float16 weights, config and generation settings; the tied head is left out, as transformers does."""
    kept = {
        name: tensor.detach().to(torch.float16).contiguous()
        for name, tensor in weights.items()
        if name != "lm_head.weight"
    }
    save_file(kept, output / "model.safetensors.part", metadata={"format": "pt"})
    os.replace(output / "model.safetensors.part", output / "model.safetensors")
    values: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "float16",
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "use_cache": True,
        "rope_theta": 10000.0,
        "rope_scaling": None,
    }
    made = config()
    values |= {key: getattr(made, key) for key in WRITTEN}
    (output / "config.json").write_text(json.dumps(dict(sorted(values.items())), indent=2) + "\n")
    generation = {"bos_token_id": BOS, "eos_token_id": [EOS, END], "pad_token_id": PAD, "do_sample": False}
    (output / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


def optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Give Muon for the matrices of the layers (momentum made orthogonal), AdamW for embeddings and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if not (p.ndim == 2 and "embed" not in name)]
    return [
        torch.optim.Muon(matrices, lr=4e-3, momentum=0.95, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=4e-3, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1750)
    parser.add_argument("--save-every", type=int, default=200)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16 where the processor is good at it")
    options = parser.parse_args()
    torch.manual_seed(SEED)
    options.work.mkdir(parents=True, exist_ok=True)
    known = options.output / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(known)) if known.exists() else train_tokenizer(options.output)
    tokens = token_stream(tokenizer, options.work / "tokens.bin", options.steps * BATCH * CONTEXT + 1)
    model = LlamaForCausalLM(config())
    print(sum(p.numel() for p in model.parameters()), "parameters,", len(tokens), "tokens", file=sys.stderr)
    tools = optimizers(model)
    full = [tool.param_groups[0]["lr"] for tool in tools]
    mean = {name: p.detach().clone() for name, p in model.state_dict().items()}
    first, state = 0, options.work / "state.pt"
    if options.resume and state.exists():
        kept = torch.load(state)
        model.load_state_dict(kept["model"])
        mean, first = kept["mean"], kept["step"]
        for tool, saved in zip(tools, kept["optimizers"], strict=True):
            tool.load_state_dict(saved)
    began, running = time.monotonic(), 0.0
    for step in range(first, options.steps):
        share = rate(step, options.steps)
        for tool, most in zip(tools, full, strict=True):
            tool.param_groups[0]["lr"] = most * share
        at = step * BATCH * CONTEXT
        rows = torch.from_numpy(tokens[at : at + BATCH * CONTEXT].astype(np.int64)).view(BATCH, CONTEXT)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for tool in tools:
            tool.step()
            tool.zero_grad(set_to_none=True)
        with torch.no_grad():
            keep = min(0.99, step / (step + 10))
            for name, tensor in model.state_dict().items():
                mean[name].lerp_(tensor, 1 - keep)
        running = loss.item() if not running else 0.95 * running + 0.05 * loss.item()
        if not math.isfinite(running):
            raise SystemExit(f"train.py: the loss is {running} at step {step}; lower the learning rate")
        done = step + 1
        if done % 20 == 0:
            speed = (done - first) * BATCH * CONTEXT / (time.monotonic() - began)
            print(f"step {done} loss {running:.4f} {speed:.0f} tokens/s lr {share:.2f}", file=sys.stderr, flush=True)
        if done % options.save_every == 0 or done == options.steps:
            save(mean, options.output)
            torch.save(
                {
                    "model": model.state_dict(),
                    "mean": mean,
                    "step": done,
                    "optimizers": [t.state_dict() for t in tools],
                },
                state,
            )


if __name__ == "__main__":
    main()
