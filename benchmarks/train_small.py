#!/usr/bin/env python3
"""Train a small Llama on any text, for the table of quantizers: a second trained model beside zoo-tiny.

    python benchmarks/train_small.py --text TEXT --output CHECKPOINT [--hidden-size 256] [--steps 900]

The first nine tenths of the text are trained on; the rest is written to CHECKPOINT/heldout.txt.  A byte-level BPE of
1024 tokens, four layers with four full attention heads, untied embeddings.  Of width 256 it has 4 M parameters and
takes some minutes on two cores, of width 128 1.1 M and a quarter of the time.  The narrower a model, the more its
quantization shows: of width 128, a whole row of a matrix is one block of the default size.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM

VOCAB, CONTEXT, BATCH, SEED = 1024, 128, 16, 5
PAD, BOS, EOS = 0, 1, 2


def train_tokenizer(text: str) -> Tokenizer:
    """Train a byte-level BPE; every text comes back as it was."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    return tokenizer


def config(vocab: int, hidden: int, layers: int) -> LlamaConfig:
    """Give the model's numbers."""
    return LlamaConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )


def rate(step: int, steps: int) -> float:
    """Give the share of the full learning rate: linear warm-up, then half a cosine to zero."""
    if step < 50:
        return (step + 1) / 50
    return 0.5 * (1 + math.cos(math.pi * (step - 50) / max(1, steps - 50)))


def train(model: LlamaForCausalLM, tokens: torch.Tensor, steps: int) -> float:
    """Train on random windows led by bos; return the last losses' mean."""
    matrices = [weight for weight in model.parameters() if weight.ndim == 2]
    vectors = [weight for weight in model.parameters() if weight.ndim != 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.512 / model.config.hidden_size, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    generator = torch.Generator().manual_seed(SEED)
    losses, began = [], time.monotonic()
    for step in range(1, steps + 1):
        starts = torch.randint(len(tokens) - CONTEXT, (BATCH,), generator=generator)
        rows = torch.stack([tokens[start : start + CONTEXT - 1] for start in starts.tolist()])
        rows = torch.cat([torch.full((BATCH, 1), BOS), rows], dim=1)
        loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step % 50 == 0:
            speed = step * BATCH * CONTEXT / (time.monotonic() - began)
            print(f"step {step} loss {sum(losses[-50:]) / 50:.3f}, {speed:.0f} tokens/s", flush=True)
    return sum(losses[-50:]) / len(losses[-50:])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="a text of a megabyte or so")
    parser.add_argument("--output", type=Path, required=True, help="the checkpoint folder to make")
    parser.add_argument("--hidden-size", type=int, default=512, help="a multiple of 8 [512]")
    parser.add_argument("--layers", type=int, default=2, help="decoder layers [2]")
    parser.add_argument("--steps", type=int, default=900, help="steps of 2048 tokens [900]")
    options = parser.parse_args()
    torch.manual_seed(SEED)
    text = options.text.read_text(encoding="utf-8")
    cut = text.rfind("\n", 0, len(text) * 9 // 10) + 1
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "heldout.txt").write_text(text[cut:], encoding="utf-8")
    tokenizer = train_tokenizer(text[:cut])
    model = LlamaForCausalLM(config(tokenizer.get_vocab_size(), options.hidden_size, options.layers))
    tokens = torch.tensor(tokenizer.encode(text[:cut], add_special_tokens=False).ids)
    print(f"{sum(weight.numel() for weight in model.parameters()):,} parameters, {len(tokens):,} tokens", flush=True)
    train(model, tokens, options.steps)
    model.to(torch.float16).save_pretrained(options.output)
    tokenizer.save(str(options.output / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (options.output / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


if __name__ == "__main__":
    main()
