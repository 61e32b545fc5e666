"""The command line, and checkpoints without weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result


@pytest.fixture
def zoo() -> Callable[..., Result]:
    """Run the command line in this process."""
    from zoo.cli import app

    def run(*args: str | Path) -> Result:
        return CliRunner().invoke(app, [str(one) for one in args], prog_name="zoo")

    return run


CONFIG = {
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 96,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 320,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}


@pytest.fixture
def config_folder(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder with a ``config.json`` and no weights."""

    def make(name: str = "Small-Llama-HF", **changes: object) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))
        return folder

    return make
