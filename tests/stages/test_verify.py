"""``zoo verify`` as a stage: what passes, what is caught and where, which weights belong to a package."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys

import numpy as np
import pytest

import zoo
from tests.checkpoints import make_checkpoint
from zoo.errors import ZooError
from zoo.package.folder import open_package, read_manifest
from zoo.package.running import opening_bytes
from zoo.plugins import host
from zoo.reports import is_verified, reports
from zoo.stages import verify as stage
from zoo.stages.verify import bad_files, verify

pytest.importorskip("torch")
pytest.importorskip("transformers")

LAYERS = 4
UP = "model.layers.2.mlp.up_proj.weight"


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    # Weights as wide as a trained model's, so that rounding them to 8 bits costs what it costs there.
    make_checkpoint(folder, num_hidden_layers=LAYERS, dtype="float16", initializer_range=0.03)
    return folder


def build(checkpoint, precision="fp32", **options):
    return zoo.build(str(checkpoint), precision, output=checkpoint.parent / f"package-{precision}", **options).path


def check(folder, checkpoint, **options):
    return verify(host().registry, str(folder), weights=str(checkpoint), quick=True, **options)


def spoil(folder, initializer, change) -> None:
    """Change a stored array of a package in place, and own up to it in the manifest."""
    import onnx

    graph = onnx.load(str(folder / "model.onnx"), load_external_data=False).graph
    tensor = next(one for one in graph.initializer if one.name == initializer)
    place = {entry.key: entry.value for entry in tensor.external_data}
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    data = np.memmap(folder / place["location"], dtype, "r+", int(place["offset"]), tuple(tensor.dims))
    data[...] = change(np.array(data))
    data.flush()
    manifest = json.loads((folder / "zoo.json").read_text())
    raw = (folder / place["location"]).read_bytes()
    manifest["files"][place["location"]]["sha256"] = hashlib.sha256(raw).hexdigest()
    (folder / "zoo.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4"])
def test_a_sound_build_is_verified(checkpoint, precision) -> None:
    folder = build(checkpoint, precision)
    done = check(folder, checkpoint)
    assert done.verdict.passed, done.verdict
    assert done.report.passed
    assert is_verified(read_manifest(folder).recipe_hash)
    greedy = done.verdict.figures.greedy
    assert greedy
    if precision.startswith("fp"):
        assert all(one.equal == one.tokens for one in greedy)


def test_the_report_holds_figures_tolerance_and_every_place(checkpoint) -> None:
    folder = build(checkpoint)
    done = check(folder, checkpoint)
    (kept,) = reports(read_manifest(folder).recipe_hash, "verify")
    assert kept == done.report
    data = json.loads(done.path.read_text())
    places = [one["name"] for one in data["measured"]["figures"]["places"]]
    assert places == ["embedding", *(f"layer {one}" for one in range(LAYERS)), "head"]
    assert data["settings"]["tolerance"]["kl_mean"] > 0
    assert {"torch", "transformers", "onnxruntime"} <= data["versions"].keys()
    assert str(checkpoint) not in done.path.read_text()


@pytest.mark.parametrize(
    ("precision", "array", "change", "place"),
    [
        ("fp32", "model.layers.2.attn.o_proj.weight", lambda one: one * np.float32(1.1), "layer 2"),
        ("fp32", "model.embed_tokens.weight", lambda one: one[::-1], "embedding"),
        ("fp32", "lm_head.weight", lambda one: one[::-1], "head"),
        ("int8", "model.layers.1.mlp.down_proj.weight_scales", lambda one: one * np.float32(2), "layer 1"),
        ("int8", "model.layers.3.attn.qkv_proj.weight", lambda one: one[::-1], "layer 3"),
        ("int4", UP, lambda one: (one << 4) | (one >> 4), UP),
    ],
)
def test_a_wrong_weight_is_caught_where_it_is(checkpoint, precision, array, change, place) -> None:
    folder = build(checkpoint, precision)
    spoil(folder, array, change)
    done = check(folder, checkpoint)
    assert not done.verdict.passed
    assert done.verdict.diverging == place
    assert not is_verified(read_manifest(folder).recipe_hash)


def test_one_swapped_pair_of_nibbles_is_caught(checkpoint) -> None:
    def swap(levels):
        low, high = levels & 15, levels >> 4
        at = np.unravel_index(np.abs(low.astype(int) - high).argmax(), levels.shape)
        levels[at] = (low[at] << 4) | high[at]
        return levels

    folder = build(checkpoint, "int4")
    spoil(folder, UP, swap)
    done = check(folder, checkpoint)
    assert not done.verdict.passed
    assert done.verdict.diverging == UP


def test_a_loss_is_taken_apart_into_weights_and_activations(checkpoint) -> None:
    done = check(build(checkpoint, "int4"), checkpoint)
    loss, (first, *_) = done.verdict.figures.loss, done.verdict.figures.places[1:]
    assert loss.weights > loss.activations > 0
    assert first.weights > first.arithmetic > 0
    assert first.own == pytest.approx((first.weights**2 + first.arithmetic**2) ** 0.5, rel=0.2)


def test_a_package_that_is_not_finite_fails(checkpoint) -> None:
    folder = build(checkpoint)
    spoil(folder, "model.layers.1.mlp.up_proj.weight", lambda one: np.full_like(one, np.nan))
    done = check(folder, checkpoint)
    assert not done.verdict.passed
    assert done.verdict.figures.not_finite == done.verdict.figures.positions
    assert done.verdict.diverging == "layer 1"
    json.loads(done.path.read_text(), parse_constant=pytest.fail)


def test_a_package_too_large_to_open_whole_is_verified_in_pieces(checkpoint, monkeypatch) -> None:
    monkeypatch.setattr(stage, "fits", lambda package: False)
    monkeypatch.setitem(sys.modules, "zoo.engine", None)
    done = check(build(checkpoint), checkpoint)
    assert done.verdict.passed
    assert done.verdict.figures.greedy is None


@pytest.mark.parametrize(("precision", "times"), [("fp16", 2.5), ("fp32", 0.95)])
def test_whether_a_package_is_opened_whole_counts_what_opening_takes(checkpoint, monkeypatch, precision, times) -> None:
    package = open_package(build(checkpoint, precision))
    needed = opening_bytes(package.manifest) / 0.8
    assert needed > times * package.manifest.files["model.onnx.data"].size / 0.8
    monkeypatch.setattr(stage, "free_memory", lambda: needed * 0.99)
    assert not stage.fits(package)
    monkeypatch.setattr(stage, "free_memory", lambda: needed * 1.01)
    assert stage.fits(package)


def test_other_weights_are_refused(checkpoint, tmp_path) -> None:
    folder = build(checkpoint)
    make_checkpoint(tmp_path / "other", num_hidden_layers=LAYERS, dtype="bfloat16", initializer_range=0.03)
    with pytest.raises(ZooError, match="is not what package-fp32 was built from"):
        check(folder, tmp_path / "other")


def test_a_package_knows_no_path(checkpoint) -> None:
    folder = build(checkpoint)
    with pytest.raises(ZooError, match="--weights"):
        verify(host().registry, str(folder), quick=True)


def test_a_checkpoint_folder_leads_to_its_package_in_the_store(checkpoint) -> None:
    package = zoo.build(str(checkpoint), "fp32")
    done = verify(host().registry, str(checkpoint), quick=True)
    assert done.verdict.passed
    assert done.report.recipe_hash == package.manifest.recipe_hash


def test_what_is_not_built_says_how_to(checkpoint) -> None:
    with pytest.raises(ZooError, match="zoo build"):
        verify(host().registry, str(checkpoint))


@pytest.mark.parametrize("module", ["torch", "transformers"])
def test_a_missing_reference_says_what_to_install(checkpoint, monkeypatch, module) -> None:
    folder = build(checkpoint)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ZooError, match=rf"{module}.*pip install 'model-zoo-framework\[verify\]'"):
        check(folder, checkpoint)


def test_progress_goes_through_every_layer(checkpoint) -> None:
    steps = []
    check(build(checkpoint), checkpoint, progress=lambda what, done, total: steps.append((what, done, total)))
    names = [what for what, _, _ in steps]
    assert names[-LAYERS - 2 :] == ["embedding", *(f"layer {one}" for one in range(LAYERS)), "head"]
    assert steps[-1][1:] == (LAYERS + 1, LAYERS + 2)


def test_every_bad_file_is_named(checkpoint) -> None:
    folder = build(checkpoint)
    assert bad_files(folder)[1] == []
    copy = folder.parent / "copy"
    shutil.copytree(folder, copy)
    with (copy / "model.onnx.data").open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))
    (copy / "config.json").unlink()
    lines = bad_files(copy)[1]
    assert len(lines) == 2
    assert {line.split(":")[0] for line in lines} == {"copy/config.json", "copy/model.onnx.data"}
