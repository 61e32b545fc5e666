"""Quantize a checkpoint by GPTQModel and save what its weights stand for.  Runs in the peer's environment.

    gptq_gptqmodel.py CHECKPOINT TOKENS OUT BITS BLOCK

TOKENS is int32 [samples, length] as .npy.  OUT gets model.safetensors: every weight in float32 under its own name, the
linears of the layers as they come back from their stored form.
"""

import json
import os
import sys
import tempfile
from importlib.metadata import version

import numpy as np

# On a machine of two cores its pool has one thread, of which its own loader asks two (7.6.0).
cores = os.cpu_count() or 1
os.cpu_count = lambda: max(4, cores)

from gptqmodel import BACKEND, GPTQModel, QuantizeConfig  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

checkpoint, tokens_file, out, bits, block = sys.argv[1:6]
tokens = np.load(tokens_file)
settings = QuantizeConfig(bits=int(bits), group_size=int(block), sym=True, desc_act=False)
samples = [{"input_ids": row.tolist(), "attention_mask": [1] * len(row)} for row in tokens]
model = GPTQModel.load(checkpoint, settings)
model.quantize(samples, batch_size=4)
with tempfile.TemporaryDirectory() as folder:
    model.save(folder)
    read = GPTQModel.load(folder, backend=BACKEND.TORCH, device="cpu")
    found = load_file(f"{checkpoint}/model.safetensors")
    for name, module in read.model.named_modules():
        if hasattr(module, "dequantize_weight"):
            values = module.dequantize_weight().float().T  # it has inputs as rows
            assert values.shape == found[f"{name}.weight"].shape
            found[f"{name}.weight"] = values
save_file({name: one.float().reshape(found[name].shape).contiguous().clone() for name, one in found.items()},
          f"{out}/model.safetensors")  # fmt: skip
print(json.dumps({"versions": {one: version(one) for one in ("gptqmodel", "torch")}}))
