"""Write the logits of a checkpoint at every position, computed by transformers in float32.

    logits_reference.py CHECKPOINT TOKENS.npy LOGITS.npy

TOKENS is [windows, length]; LOGITS becomes float32 [windows, length, vocab].
"""

import sys

import numpy as np
import torch
from transformers import AutoModelForCausalLM

checkpoint, tokens, out = sys.argv[1:4]
windows = torch.from_numpy(np.load(tokens).astype(np.int64))
model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
with torch.inference_mode():
    rows = [model(ids[None]).logits[0].float().numpy() for ids in windows]
np.save(out, np.stack(rows))
