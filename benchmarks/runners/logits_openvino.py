"""Write the logits of an OpenVINO package at every position.  Runs in the peer's own environment.

    logits_openvino.py PACKAGE TOKENS.npy LOGITS.npy

TOKENS is [windows, length]; LOGITS becomes float32 [windows, length, vocab].
"""

import sys

import numpy as np
import openvino as ov

package, tokens, out = sys.argv[1:4]
windows = np.load(tokens)
request = ov.Core().compile_model(f"{package}/openvino_model.xml", "CPU").create_infer_request()
names = {name for port in request.model_inputs for name in port.names}
rows = []
for ids in windows.astype(np.int64):
    feeds = {
        "input_ids": ids[None],
        "attention_mask": np.ones((1, len(ids)), np.int64),
        "position_ids": np.arange(len(ids), dtype=np.int64)[None],
        "beam_idx": np.zeros(1, np.int32),
    }
    request.reset_state()
    request.infer({name: value for name, value in feeds.items() if name in names})
    rows.append(request.get_tensor("logits").data[0].astype(np.float32))
np.save(out, np.stack(rows))
