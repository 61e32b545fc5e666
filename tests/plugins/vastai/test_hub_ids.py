"""A hub id that nobody declared: its configuration is brought, its weights are not."""

from __future__ import annotations

import json

import yaml

from tests.hubserver import HubServer
from tests.plugins.vastai.conftest import CONFIG
from tests.sources.conftest import server  # noqa: F401  a fixture


def test_only_the_small_files_are_brought(zoo, tmp_path, server: HubServer) -> None:  # noqa: F811
    files = {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": b"never read", "tokenizer.json": b"{}"}
    server.add("someone/Small-Llama-HF", files=files)
    out = tmp_path / "out"
    result = zoo("build", "someone/Small-Llama-HF", "--target", "vamc", "-p", "fp16", "-o", out)
    assert result.exit_code == 0, result.output
    assert server.asked("GET", "config.json")
    assert not server.asked("GET", "model.safetensors")
    document = yaml.safe_load((out / "Small-Llama-HF-fp16-tp2-256-512.yaml").read_bytes())
    assert document["frontend"]["checkpoint"] == "./Small-Llama-HF"
    assert "hf download someone/Small-Llama-HF --local-dir Small-Llama-HF" in result.stdout


def test_with_the_network_off_it_says_what_to_do(zoo, tmp_path) -> None:
    result = zoo("build", "someone/Small-Llama-HF", "--target", "vamc", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "the network is off; with the network on: zoo fetch someone/Small-Llama-HF" in result.stderr
