"""Folders that hold something else than a checkpoint: what they are, and what to do."""

from __future__ import annotations

import json

import pytest

from tests.builds import architecture, write_checkpoint
from zoo.errors import ZooError
from zoo.plugins import host
from zoo.sources.otherkinds import explain
from zoo.stages.locations import path_location
from zoo.stages.subject import identify

KINDS = {
    "an adapter": (
        ["adapter_model.safetensors"],
        "holds an adapter for org/base, not a model; name its base: zoo build BASE --adapter",
    ),
    "GGUF": (["small-q4.gguf"], r"holds GGUF; name the file: .*/small-q4\.gguf"),
    "a trainer's": (
        ["checkpoint-90/x", "checkpoint-500/x"],
        "with 2 of its checkpoints inside; name one, as checkpoint-500",
    ),
    "partitioned state": (["zero_to_fp32.py", "global_step7/x"], "python zero_to_fp32.py"),
    "the authors' layout": (["params.json", "consolidated.00.pth"], "in the layout of their authors' own code"),
    "nothing": (["notes.txt"], "neither a checkpoint nor a package: it holds no config.json and no zoo.json"),
}


@pytest.fixture
def make(tmp_path):
    def write(kind: str):
        folder = tmp_path / "given"
        for name in KINDS[kind][0]:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
        if kind == "an adapter":
            (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
        return folder

    return write


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_said_to_be_what_it_is(make, kind):
    folder = make(kind)
    for ask in (lambda: identify(host().registry, str(folder)), lambda: path_location(host().registry, folder)):
        with pytest.raises(ZooError, match=KINDS[kind][1]) as caught:
            ask()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "nothing"])
def test_a_configuration_beside_it_changes_nothing(make, kind):
    folder = make(kind)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    checkpoint = path_location(host().registry, folder).open(host().registry)
    with pytest.raises(ZooError, match=KINDS[kind][1]):
        checkpoint.bring()


def test_a_base_that_is_a_path_is_not_shown(make):
    folder = make("an adapter")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/home/me/base"}')
    with pytest.raises(ZooError, match="holds an adapter, not a model"):
        identify(host().registry, str(folder))


def test_a_file(tmp_path):
    (tmp_path / "m.txt").write_text("")
    with pytest.raises(ZooError, match="is a file that no source reads"):
        identify(host().registry, str(tmp_path / "m.txt"))


def test_a_gguf_file_without_the_plugin(tmp_path):
    (tmp_path / "m.gguf").touch()
    assert explain(tmp_path / "m.gguf").startswith("is a GGUF file, which no loaded plugin reads")


def test_what_lies_beside_weights_does_not_matter(tmp_path):
    folder = write_checkpoint(tmp_path / "ck", architecture())
    for name in ("params.json", "consolidated.safetensors", "small.gguf", "zero_to_fp32.py"):
        (folder / name).write_text("")
    assert path_location(host().registry, folder).open(host().registry).bring().tensors
