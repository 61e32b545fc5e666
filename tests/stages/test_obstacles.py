"""`zoo new --from` compares tensors: everything that does not fit is said at once, layers taken together."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from tests.checkpoints import SMALL
from zoo.cli import app
from zoo.plugins import host
from zoo.testing.checkpoint import write_random


def test_all_obstacles_at_once(tmp_path: Path, monkeypatch, caplog) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    numbers = {**SMALL, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True}
    config = {"model_type": "llama", **numbers}
    (folder / "config.json").write_text(json.dumps(config))
    part = host().registry.architecture("decoder")
    arch = part.read_config(config, {})
    tensors = dict(part.tensors(arch))
    tensors.pop("model.norm.weight")
    tensors["mystery.scale"] = (3,)
    for layer in range(2):
        tensors[f"model.layers.{layer}.self_attn.q_norm.weight"] = (16,)
        tensors[f"model.layers.{layer}.mlp.up_proj.weight"] = (112, 65)
    write_random(folder, tensors, seed=1)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["new", "odd", "--from", str(folder), "-o", "made"])
    assert done.exit_code == 0, done.output
    assert [record.getMessage().removeprefix("odd: ") for record in caplog.records] == [
        "tensor 'model.layers.*.mlp.up_proj.weight' has shape [112, 65], "
        "but the numbers of config.json make it [112, 64] (2 such)",
        "tensor 'model.norm.weight' of shape [64] is missing",
        "tensor 'mystery.scale' of shape [3] is unused",
        "tensor 'model.layers.*.self_attn.q_norm.weight' of shape [16] is unused (2 such)",
    ]
    assert (tmp_path / "made" / "pyproject.toml").is_file()
    # Fields that are not supported do not hide one another, nor the tensors.
    caplog.clear()
    odd = {**config, "hidden_act": "weird", "rope_scaling": {"rope_type": "odd", "factor": 2.0}}
    (folder / "config.json").write_text(json.dumps(odd))
    done = CliRunner().invoke(app, ["new", "odd2", "--from", str(folder), "-o", "other"])
    assert done.exit_code == 1
    assert "hidden_act 'weird' is not supported" in done.stderr
    told = [record.getMessage() for record in caplog.records]
    assert (told[0], len(told)) == (
        "odd: config.json: rope_scaling: rope_type 'odd' is not supported by this decoder",
        5,
    )
    assert not (tmp_path / "other").exists()
