"""One command for several targets: a folder for each, all refused before any is written."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from typer.testing import CliRunner

from tests.checkpoints import make_checkpoint
from tests.stages.test_calibrate import words
from zoo.cli import app
from zoo.datasets.texts import read_texts
from zoo.errors import ZooError
from zoo.package.folder import read_manifest
from zoo.stages import calibrate

WIDE = {"hidden_size": 128, "intermediate_size": 256, "vocab_size": 320}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    make_checkpoint(folder, dtype="bfloat16", **WIDE)
    return folder


def run(*args: object, code: int = 0):
    result = CliRunner().invoke(app, ["build", *map(str, args)])
    assert result.exit_code == code, (result.output, result.stderr)
    return result


def test_each_target_gets_a_folder_and_a_manifest_of_its_own(checkpoint, tmp_path):
    folder = tmp_path / "all"
    options = ("-p", "int8", "--target", "ort,vllm,gguf", "--target-option", "shard_gb=1", "-o", folder, "--json")
    plans = json.loads(run(checkpoint, *options, "--dry-run").stdout)
    assert not folder.exists()
    told = json.loads(run(checkpoint, *options).stdout)
    assert [Path(one["package"]) for one in told] == [folder / name for name in ("ort", "vllm", "gguf")]
    for name, one in zip(plans, told, strict=True):
        recipe = read_manifest(folder / name).recipe
        assert (recipe.target.name, recipe.hash) == (name, plans[name]["recipe_hash"])
        assert one["bytes"] <= plans[name]["disk_output_bytes"] * 1.05 + 40_000
    assert read_manifest(folder / "vllm").recipe.target.options["shard_gb"] == 1
    assert all(one["already_built"] for one in json.loads(run(checkpoint, *options).stdout))
    shown = run(checkpoint, *options[:-1], "--dry-run").stdout
    assert "disk of all: " in shown


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (("--target", "ort,vllm", "--block-size", 16), 1, "groups of 16 columns, which vLLM has no kernels for"),
        (
            ("--target", "ort,vllm", "--target-option", "nope=1"),
            2,
            "none of the targets ort, vllm has an option 'nope'",
        ),
        (("--target", "ort,ort"), 2, "takes different names"),
        (("--target", "ort,nosuch"), 2, "nosuch"),
        (("--target", "ort,vllm", "-p", "fp16", "--target-option", "weights=original"), 1, "writes no weights"),
    ],
)
def test_what_one_target_refuses_is_refused_before_any_is_written(checkpoint, tmp_path, options, code, reason):
    done = run(checkpoint, "-o", tmp_path / "all", *options, code=code)
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "all").exists()
    assert "-o DIR" in run(checkpoint, "--target", "ort,vllm", code=2).stderr


TOGETHER = (
    "-p", "int4", "--smoothing", "none", "--block-size", 32, "--quantizer-option", "symmetric=true", "--threads", 2
)  # fmt: skip


@pytest.fixture
def read_bytes(monkeypatch) -> Counter[str]:
    """Bytes of each tensor that are read of the file from here on, in slabs so small that a matrix has many."""
    from zoo.package import memory, slabs
    from zoo.sources import shared
    from zoo.sources.folder import FolderCheckpoint

    for module in (memory, slabs, shared):
        monkeypatch.setattr(module, "SLAB", 8192)
    counted: Counter[str] = Counter()
    original = FolderCheckpoint.read

    def read(self, name, start, stop, out=None):
        values = original(self, name, start, stop, out)
        counted[name] += values.nbytes
        return values

    monkeypatch.setattr(FolderCheckpoint, "read", read)
    return counted


@pytest.fixture
def passed(monkeypatch) -> list[object]:
    """The segments that batches of samples are sent through from here on, one for each time."""
    from zoo.calibration.execute import Executor

    counted: list[object] = []
    original = Executor.run

    def run(self, segment, *args, **more):
        counted.append(segment)
        return original(self, segment, *args, **more)

    monkeypatch.setattr(Executor, "run", run)
    return counted


def sizes(checkpoint: Path) -> dict[str, int]:
    """Bytes of each tensor."""
    raw = (checkpoint / "model.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    places = {name: info["data_offsets"] for name, info in header.items() if name != "__metadata__"}
    return {name: stop - start for name, (start, stop) in places.items()}


def calibrated(checkpoint: Path, tmp_path: Path, options: tuple) -> tuple[Path, tuple]:
    """Give a checkpoint a tokenizer, and options calibration data."""
    (tmp_path / "text.txt").write_text(words(400))
    more = ("--calibration", tmp_path / "text.txt", "--samples", 4, "--sequence-length", 16)
    tokenizer = Tokenizer(BPE({text: index for index, text in enumerate(sorted(ByteLevel.alphabet()))}, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    folder = shutil.copytree(checkpoint, tmp_path / "m")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder, (*options, *more)


def files(folder: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in folder.iterdir() if one.name != "zoo.json"}


@pytest.mark.parametrize("quantizer", ["rtn", "gptq", "awq"])
def test_weights_are_read_once_for_all_and_come_out_as_built_apart(
    checkpoint, tmp_path, monkeypatch, read_bytes, passed, quantizer
):
    targets, options = ("ort", "vllm", "gguf"), (*TOGETHER, "--quantizer", quantizer)
    if quantizer != "rtn":
        checkpoint, options = calibrated(checkpoint, tmp_path, options)
        read_bytes.clear()
    with monkeypatch.context() as patch:
        texts = []
        patch.setattr(calibrate, "read_texts", lambda *args: (texts.append(args), read_texts(*args))[1])
        run(checkpoint, *options, "--target", ",".join(targets), "-o", tmp_path / "all")
    assert len(texts) == (0 if quantizer == "rtn" else 1)
    assert read_bytes == sizes(checkpoint)
    # The samples are one batch: it goes through the embedding and each layer, and at int4 no further than the head.
    assert len(passed) == (0 if quantizer == "rtn" else 4)
    for name in targets:
        alone = () if quantizer == "rtn" else ("--activations", "original")
        run(checkpoint, *options, *alone, "--target", name, "-o", tmp_path / name)
        assert files(tmp_path / "all" / name) == files(tmp_path / name)
        assert read_manifest(tmp_path / "all" / name).recipe.hash == read_manifest(tmp_path / name).recipe.hash
        assert read_manifest(tmp_path / name).notes == ()
    ways = ("read",) if quantizer == "rtn" else ("read", "calibrated")
    notes = read_manifest(tmp_path / "all" / "ort").notes
    assert notes == tuple(f"{way} in one pass with the package for {name}" for way in ways for name in targets[1:])


def test_each_target_may_follow_what_it_stored(checkpoint, tmp_path):
    checkpoint, options = calibrated(checkpoint, tmp_path, (*TOGETHER, "--quantizer", "gptq"))
    run(checkpoint, *options, "--target", "ort,gguf", "-o", tmp_path / "all", "--activations", "stored")
    run(checkpoint, *options, "--target", "gguf", "-o", tmp_path / "stored")
    run(checkpoint, *options, "--target", "gguf", "-o", tmp_path / "original", "--activations", "original")
    stored = files(tmp_path / "stored")
    assert files(tmp_path / "all" / "gguf") == stored
    assert files(tmp_path / "original") != stored
    assert read_manifest(tmp_path / "original").recipe.calibration.activations == "original"
    sequential = (*options, "--quantizer-option", "true_sequential=true", "--activations", "original")
    assert "observes what was stored" in run(checkpoint, *sequential, "-o", tmp_path / "no", code=2).stderr


def test_levels_are_shared_where_blocks_and_scales_agree(tmp_path, read_bytes):
    make_checkpoint(tmp_path / "m", dtype="float16", **WIDE)
    run(tmp_path / "m", *TOGETHER, "--target", "vllm,gguf", "-o", tmp_path / "all")
    # Of two layers all but q and k, whose rows llama.cpp has in another order.
    notes = read_manifest(tmp_path / "all" / "vllm").notes
    assert notes[1] == "10 weights have the levels of the package for gguf"
    for name in ("vllm", "gguf"):
        run(tmp_path / "m", *TOGETHER, "--target", name, "-o", tmp_path / name)
        assert files(tmp_path / "all" / name) == files(tmp_path / name)


@pytest.mark.parametrize(("quantizer", "targets"), [("rtn", "ort,vllm,gguf"), ("gptq", "ort,vllm")])
def test_what_was_interrupted_goes_on_for_each_target(checkpoint, tmp_path, monkeypatch, quantizer, targets):
    from zoo.package.journal import Journal

    options = (*TOGETHER, "--target", targets, "--quantizer", quantizer)
    if quantizer == "gptq":
        checkpoint, options = calibrated(checkpoint, tmp_path, options)
    for name in targets.split(","):
        alone = () if quantizer == "rtn" else ("--activations", "original")
        run(checkpoint, *options, *alone, "--target", name, "-o", tmp_path / name)
    original, left = Journal.mark, [5]

    def mark(self, stop, checksum):
        left[0] -= 1
        if left[0] == 0:
            raise ZooError("the test pulls the plug")
        original(self, stop, checksum)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "mark", mark)
        assert "pulls the plug" in run(checkpoint, *options, "-o", tmp_path / "all", code=1).stderr
    assert all(one.name.startswith(".") for one in (tmp_path / "all").iterdir())
    run(checkpoint, *options, "-o", tmp_path / "all")
    for name in targets.split(","):
        assert files(tmp_path / "all" / name) == files(tmp_path / name)
