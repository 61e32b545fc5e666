"""Quantize a checkpoint by llm-compressor's GPTQ and save what its weights stand for.  Runs in the peer's environment.

    gptq_llmcompressor.py CHECKPOINT TOKENS OUT BITS BLOCK

TOKENS is int32 [samples, length] as .npy.  OUT gets model.safetensors: every weight in float32 under its own name, the
linears of the layers as they come back from their stored form.
"""

import json
import sys
from importlib.metadata import version

import numpy as np
import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import GPTQModifier
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

checkpoint, tokens_file, out, bits, block = sys.argv[1:6]
tokens = np.load(tokens_file)
model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
names = list(model.state_dict())
weights = QuantizationArgs(num_bits=int(bits), type="int", symmetric=True, strategy="group", group_size=int(block))
rows = {"input_ids": tokens.tolist(), "attention_mask": np.ones_like(tokens).tolist()}
oneshot(
    model=model,
    dataset=Dataset.from_dict(rows),
    recipe=GPTQModifier(
        config_groups={"all": QuantizationScheme(targets=["Linear"], weights=weights)}, ignore=["lm_head"]
    ),
    num_calibration_samples=len(tokens),
    max_seq_length=tokens.shape[1],
    shuffle_calibration_samples=False,
)
state = model.state_dict()
tied = model.config.tie_word_embeddings
stored = {name: state[name].float().clone() for name in names if not (tied and name == "lm_head.weight")}
save_file(stored, f"{out}/model.safetensors")
print(json.dumps({"versions": {one: version(one) for one in ("llmcompressor", "compressed-tensors", "torch")}}))
