"""Write the logits of an ONNX package at every position.  Runs in the peer's own environment.

    logits_onnx.py PACKAGE TOKENS.npy LOGITS.npy

TOKENS is [windows, length]; LOGITS becomes float32 [windows, length, vocab].  The graph follows onnxruntime-genai's
names and gives logits for each position it is fed.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

package, tokens, out = sys.argv[1:4]
windows = np.load(tokens)
session = ort.InferenceSession(f"{package}/model.onnx", providers=["CPUExecutionProvider"])
DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


def feed(spec: ort.NodeArg, ids: np.ndarray) -> np.ndarray:
    """Return the value of one graph input: the tokens, all-ones mask, positions, or an empty cache."""
    if spec.name == "input_ids":
        return ids
    if spec.name == "attention_mask":
        return np.ones_like(ids)
    if spec.name == "position_ids":
        return np.arange(ids.shape[1], dtype=np.int64)[None]
    if spec.name.startswith("past"):
        decoder = json.loads(Path(package, "genai_config.json").read_text())["model"]["decoder"]
        return np.zeros((1, decoder["num_key_value_heads"], 0, decoder["head_size"]), DTYPES[spec.type])
    raise SystemExit(f"unknown graph input {spec.name}")


rows = [
    session.run(["logits"], {spec.name: feed(spec, ids[None].astype(np.int64)) for spec in session.get_inputs()})[0][0]
    for ids in windows
]
np.save(out, np.stack(rows).astype(np.float32))
