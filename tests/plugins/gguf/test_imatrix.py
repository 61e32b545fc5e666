"""Imatrix files of llama.cpp in both forms, and rounding that goes by them."""

from __future__ import annotations

import hashlib
import json
import struct

import numpy as np
import pytest
from typer.testing import CliRunner

import zoo
from tests.plugins.gguf import made
from tests.plugins.gguf.test_source import model_of
from tests.stages.test_takeover import tile_of
from zoo.cli import app
from zoo.errors import ZooError
from zoo.package import open_package

pytest.importorskip("gguf", reason="writes the files")
import gguf
from zoo_gguf.imatrix import read_imatrix

LINEARS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
DOWN = "blk.1.ffn_down.weight"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "ck"
    return folder, model_of(folder, "llama", intermediate_size=96)


@pytest.fixture(scope="module")
def means(model) -> dict[str, np.ndarray]:
    """Mean squares of inputs; column 7 of each block of one linear is worth a million times more."""
    draw = np.random.default_rng(0)
    shapes = {name: values.shape[1] for name, values in made.tensors(model[1], "llama").items() if values.ndim == 2}
    held = {
        name: draw.random(columns).astype(np.float32) + 0.5
        for name, columns in shapes.items()
        if any(f".{one}." in name for one in LINEARS)
    }
    held[DOWN][7::32] = 1e6
    return held


def as_gguf(path, means, calls: int = 512, kind: str = "imatrix"):
    """Write the newer form with the package gguf, two matrices for a tensor, as for experts."""
    writer = gguf.GGUFWriter(str(path), "")
    writer.add_string("general.type", kind)
    writer.add_uint32("imatrix.chunk_count", 1)
    for name, mean in means.items():
        writer.add_tensor(f"{name}.in_sum2", np.stack([mean * calls, mean * calls * 3]).astype(np.float32))
        writer.add_tensor(f"{name}.counts", np.array([[calls], [calls * 3]], np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def as_dat(path, means, calls: int = 4):
    """Write the older form; layout: llama.cpp's ``save_imatrix_legacy``."""
    raw = struct.pack("<i", len(means))
    for name, mean in means.items():
        raw += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", calls, len(mean))
        raw += (mean * calls).astype("<f4").tobytes()
    path.write_bytes(raw + struct.pack("<ii", 4, 4) + b"text")
    return path


def test_both_forms_state_the_same(tmp_path, means) -> None:
    for path in (as_gguf(tmp_path / "imatrix.gguf", means), as_dat(tmp_path / "imatrix.dat", means)):
        values = read_imatrix(path)
        assert values.keys() == means.keys()
        for name, mean in means.items():
            assert np.allclose(values[name], mean, rtol=1e-5), name


@pytest.mark.parametrize(("precision", "target"), [("int4", "ort"), ("int8", "ort"), ("int4", "gguf")])
def test_what_counts_more_loses_less(tmp_path, model, means, precision, target) -> None:
    folder, torch_model = model
    path = as_gguf(tmp_path / "imatrix.gguf", means)
    command = ["build", str(folder), "-p", precision, "--quantizer", "imatrix", "--target", target]
    done = CliRunner().invoke(app, [*command, "--quantizer-option", f"file={path}", "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    recipe = json.loads((tmp_path / "out" / "zoo.json").read_text())["recipe"]
    assert recipe["quantizer"]["options"]["file"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert str(tmp_path) not in json.dumps(recipe)
    if (precision, target) != ("int4", "ort"):
        return
    options = {"block_size": 32}
    zoo.build(folder, precision, output=tmp_path / "plain", smoothing="none", quantizer_options=options)
    weight = torch_model.model.layers[1].mlp.down_proj.weight.detach().numpy()
    lost = {}
    for name in ("out", "plain"):
        tile = tile_of(open_package(tmp_path / name), "model.layers.1.mlp.down_proj.weight")
        stored = tile.scales[..., None] * (tile.levels.astype(np.float32) - tile.zero_points[..., None])
        error = (stored.reshape(len(weight), -1)[:, : weight.shape[1]] - weight) ** 2
        lost[name] = error[:, 7::32].sum(), error.sum()
    assert lost["out"][0] < lost["plain"][0] / 100
    assert lost["out"][1] > lost["plain"][1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda held: held | {DOWN: held[DOWN] * np.nan}, "ffn_down.weight' holds NaN, infinite or negative"),
        (lambda held: held | {DOWN: held[DOWN] - 2}, "ffn_down.weight' holds NaN, infinite or negative"),
        (lambda held: held | {DOWN: held[DOWN][:64]}, "has 64 values for model.layers.1.mlp.down_proj.weight"),
        (lambda held: {name: one for name, one in held.items() if name != DOWN}, f"no entry '{DOWN}'"),
    ],
)
def test_a_file_of_another_model_or_damaged(tmp_path, model, means, change, message) -> None:
    path = as_dat(tmp_path / "imatrix.dat", change(means))
    options = {"file": str(path)}
    with pytest.raises(ZooError) as error:
        zoo.build(model[0], "int4", quantizer="imatrix", quantizer_options=options, output=tmp_path / "out")
    assert message in str(error.value)
    assert not (tmp_path / "out").exists()


def test_files_that_are_not_imatrices(tmp_path, model, means) -> None:
    whole = as_dat(tmp_path / "whole.dat", means).read_bytes()
    for at in (0, 3, 8, 20, 60, len(whole) // 2):
        (tmp_path / "cut.dat").write_bytes(whole[:at])
        with pytest.raises(ZooError, match=r"cut.dat: not an imatrix"):
            read_imatrix(tmp_path / "cut.dat")
    (tmp_path / "long.dat").write_bytes(struct.pack("<ii", 2**31 - 1, 2**30))
    with pytest.raises(ZooError, match="a name of 1073741824 bytes"):
        read_imatrix(tmp_path / "long.dat")
    with pytest.raises(ZooError, match="a GGUF file, but not an imatrix"):
        read_imatrix(as_gguf(tmp_path / "other.gguf", means, kind="model"))
    with pytest.raises(ZooError, match="No such file"):
        read_imatrix(tmp_path / "missing.gguf")
