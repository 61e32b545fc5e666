"""Packages of the target vllm by vLLM where it is installed, and by transformers; weights as others read them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import zoo
from tests.checkpoints import make_checkpoint
from zoo.cli import app
from zoo.plugins import host
from zoo.stages import verify as stage
from zoo.testing.checkpoint import write_tokenizer

pytest.importorskip("torch")
pytest.importorskip("compressed_tensors")
PROMPT = [5, 300, 17, 42, 99]
W8A8: dict[str, Any] = {
    "quantizer_options": {"block_size": "row"}, "target_options": {"format": "int-quantized"},
}  # fmt: skip


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    make_checkpoint(
        folder, dtype="bfloat16", hidden_size=128, intermediate_size=256, vocab_size=320, initializer_range=0.03
    )
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def built(original, tmp_path_factory) -> Any:
    root = tmp_path_factory.mktemp("built")

    def build(precision: str, **choices: Any) -> Path:
        return zoo.build(
            original, precision, output=root / f"{precision}-{len(choices)}", target="vllm", **choices
        ).path

    return build


@pytest.mark.parametrize(("format", "array"), [("pack-quantized", "weight_packed"), ("gptq", "qweight")])
def test_a_package_is_verified_by_another_reader_and_a_swapped_nibble_fails_it(original, tmp_path, format, array):
    from safetensors import safe_open

    package = zoo.build(
        original, "int4", output=tmp_path / "whole", target="vllm", quantizer_options={"block_size": 32},
        target_options={"format": format},
    ).path  # fmt: skip
    figures = stage.verify(host().registry, str(package), weights=str(original), quick=True).verdict.figures
    assert max(weight.share for weight in figures.weights) <= 1
    assert {weight.name for weight in figures.weights} >= {"model.embed_tokens.weight", "model.norm.weight"}
    spoiled = Path(shutil.copytree(package, tmp_path / "spoiled"))
    name = f"model.layers.1.mlp.up_proj.{array}"
    file = json.loads((spoiled / "model.safetensors.index.json").read_text())["weight_map"][name]
    raw = bytearray((spoiled / file).read_bytes())
    with safe_open(package / file, "pt") as opened:
        levels = opened.get_tensor(name).numpy().tobytes()
    at = raw.index(levels)
    byte = next(place for place in range(at, at + len(levels)) if abs((raw[place] >> 4) - (raw[place] & 15)) > 6)
    raw[byte] = raw[byte] >> 4 | (raw[byte] & 15) << 4
    (spoiled / file).write_bytes(raw)
    manifest = json.loads((spoiled / "zoo.json").read_text())
    manifest["files"][file]["sha256"] = hashlib.sha256(raw).hexdigest()
    (spoiled / "zoo.json").write_text(json.dumps(manifest))
    done = CliRunner().invoke(app, ["verify", str(spoiled), "--weights", str(original), "--quick"])
    assert done.exit_code == 1, done.output
    assert "the first that diverges: model.layers.1.mlp.up_proj.weight" in done.stdout


@pytest.mark.parametrize(("precision", "choices"), [("fp16", {}), ("int8", W8A8)])
def test_transformers_answers_and_gives_logits(built, precision, choices):
    engine = zoo.open(built(precision, **choices), engine="transformers")
    answer = engine.generate(PROMPT, max_new_tokens=5, ignore_eos=True)
    logits = engine.logits([*PROMPT, *answer.token_ids], 6)
    assert logits.shape == (6, 320)
    assert logits[:5].argmax(1).tolist() == answer.token_ids


FAKE = """#!{python}
import http.server, json, sys
if {how!r} == "dies":
    sys.exit("(EngineCore) ValueError: no GPU\\nRuntimeError: Engine core failed. See root cause above.")
class Asked(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(json.dumps({{"version": {how!r}.partition(" ")[2]}} if {how!r} != "none" else []).encode())
    def do_POST(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(b"data: " + json.dumps({{"choices": [{{"ids": [5]}}]}}).encode())
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Asked).serve_forever()
"""


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("absent", "vllm is not installed; install it with: pip install vllm, in an environment of its own"),
        ("dies", r"vllm ended with exit code 1 while it opened .*: \(EngineCore\) ValueError: no GPU"),
        ("version 0.6.1", r"vllm is version 0\.6\.1; this zoo needs 0\.11 or later"),
        ("none", r"vllm is version \[\]; this zoo needs 0\.11 or later"),
        ("version 9.1.0", r"vllm 9\.1\.0 answered otherwise than this zoo reads \(KeyError: 'token_ids'\)"),
    ],
)
def test_a_vllm_that_is_absent_dies_or_is_another_version(built, tmp_path, monkeypatch, how, reason):
    if how != "absent":
        (tmp_path / "vllm").write_text(FAKE.format(python=sys.executable, how=how))
        (tmp_path / "vllm").chmod(0o755)
    monkeypatch.delenv("ZOO_VLLM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(zoo.ZooError, match=reason):
        zoo.open(built("fp16")).generate(PROMPT)


@pytest.mark.vllm
@pytest.mark.skipif(
    "ZOO_VLLM" not in os.environ and shutil.which("vllm") is None, reason="vLLM is not installed (or named by ZOO_VLLM)"
)
@pytest.mark.parametrize(("precision", "choices"), [("fp16", {}), ("int8", W8A8)])
def test_vllm_chooses_the_tokens_that_transformers_does(built, precision, choices):
    package = built(precision, **choices)
    ours = zoo.open(package, engine="transformers")
    engine = zoo.open(package)
    try:
        answer = engine.generate(PROMPT, max_new_tokens=8, ignore_eos=True)
        assert len(answer.token_ids) == 8
        logits = ours.logits([*PROMPT, *answer.token_ids], 9)[:8]
        behind = logits.max(1) - logits[range(8), answer.token_ids]
        assert float(behind.max()) < 0.1, behind
        assert engine.generate(PROMPT, max_new_tokens=8, stop_token_ids=answer.token_ids[:1]).token_ids == []
    finally:
        engine.close()
