"""Write the log-probabilities of a GGUF file at every position, asked from llama.cpp's own server.

    logits_llama_cpp.py SERVER MODEL.gguf TOKENS.npy LOGITS.npy

TOKENS is [windows, length]; LOGITS becomes float32 [windows, length, vocab].  The server takes token ids as a prompt
and returns the probability of every token that may follow; its cache keeps the prefix, so each request costs one step.
"""

import json
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np

server, model, tokens, out = sys.argv[1:5]
windows = np.load(tokens)
WHOLE = 300
"""A token that is whole characters: the server says nothing of probabilities after half a character, so this one is
sampled always.  The probabilities are those before sampling, which the bias does not touch."""
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
base = f"http://127.0.0.1:{port}"
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def post(body: dict[str, object]) -> dict[str, object]:
    """Ask for a completion."""
    body = {"n_predict": 1, "temperature": 0, "logit_bias": [[WHOLE, 1e4]], **body}
    request = urllib.request.Request(
        f"{base}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with opener.open(request, timeout=120) as answer:
        return json.load(answer)


def wait(process: subprocess.Popen) -> None:
    """Return once the server says that it is ready."""
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit(f"llama-server ended with {process.returncode}")
        try:
            opener.open(f"{base}/health", timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("llama-server did not become ready")


def last(ids: list[int], vocab: int) -> np.ndarray:
    """Return the log-probabilities of the token after `ids`."""
    answer = post({"prompt": ids, "n_probs": vocab, "cache_prompt": True})
    row = np.full(vocab, -np.inf, np.float32)
    for entry in answer["completion_probabilities"][0]["top_logprobs"]:
        row[entry["id"]] = entry["logprob"]
    return row


with open(model, "rb"):
    process = subprocess.Popen(
        [server, "-m", model, "--port", str(port), "-np", "1", "-c", str(2 * windows.shape[1]), "--no-webui"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
try:
    wait(process)
    probe = post({"prompt": [1], "n_probs": 1 << 20})
    vocab = len(probe["completion_probabilities"][0]["top_logprobs"])
    result = [[last(ids[: n + 1].tolist(), vocab) for n in range(len(ids))] for ids in windows]
finally:
    process.terminate()
    process.wait()
np.save(out, np.array(result, np.float32))
