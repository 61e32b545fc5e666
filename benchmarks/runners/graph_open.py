"""Open a graph in onnxruntime without rearranging weights: what is left of loading then.

    graph_open.py PACKAGE

Steps would be slow like that; it shows what of loading is the kernels' own.
"""

import json
import os
import sys
import time
from pathlib import Path

import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = os.cpu_count() or 1
options.add_session_config_entry("session.disable_prepacking", "1")
start = time.perf_counter()
onnxruntime.InferenceSession(str(Path(sys.argv[1]) / "batch.onnx"), options, providers=["CPUExecutionProvider"])
print(json.dumps({"load_s": time.perf_counter() - start}))
