"""Identity by content: changed weights are another recipe, a copy is the same one, and no byte goes unseen."""

from __future__ import annotations

import json
import os
import random
import shutil

import numpy as np
import pytest
import torch

from tests.builds import architecture, make_recipe, registry, values_of, write_checkpoint
from zoo.errors import ZooError
from zoo.home import zoo_home
from zoo.package.folder import read_manifest
from zoo.sources.content import _SETTLED, differing, known_digests, settle, settled_digest, tensor_digests
from zoo.sources.folder import open_folder
from zoo.sources.recording import Recording
from zoo.sources.samples import PLACES, SAMPLE
from zoo.stages.build import build

LARGE = 12_000
"""Rows of a tensor that is far larger than its samples."""
BETWEEN = 5 * SAMPLE
"""Bytes from its start to between the first two."""


@pytest.fixture
def large(tmp_path):
    """Make a folder with tensors far larger than their samples, in either format."""

    def make(kind: str = "safetensors", name: str = "ck"):
        arch = architecture(vocab_size=LARGE)
        folder = write_checkpoint(tmp_path / name, arch, shards=2 if kind == "shards" else 1)
        if kind == "bin":
            (folder / "model.safetensors").unlink()
            tensors = {key: torch.from_numpy(value).half() for key, value in values_of(arch).items()}
            torch.save(tensors, folder / "pytorch_model.bin")
        return folder

    return make


@pytest.fixture
def aged(monkeypatch):
    """Files are remembered although they were written a moment ago."""
    monkeypatch.setattr("zoo.sources.content._SETTLED", -(10**18))


def flip(path, offset):
    """Change one byte in place and put the modification time back."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def weights_file(folder):
    return max((path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin")), key=lambda one: one.name)


def note(folder):
    """Do what a build does at its end."""
    checkpoint = open_folder(folder)
    settle(checkpoint, checkpoint.digest, tensor_digests(checkpoint, checkpoint.tensors))
    return settled_digest(checkpoint, read=True)


@pytest.mark.parametrize("kind", ["safetensors", "shards", "bin"])
def test_one_changed_byte_anywhere_is_other_weights(large, kind):
    folder = large(kind)
    path = weights_file(folder)
    first = note(folder)
    assert first == open_folder(folder).digest
    begin = 8 + int.from_bytes(path.read_bytes()[:8], "little") if kind != "bin" else 0
    draw = random.Random(kind)
    seen = {first}
    for _ in range(10):
        offset = draw.randrange(begin, path.stat().st_size)
        flip(path, offset)
        try:
            changed = settled_digest(open_folder(folder), read=True)
        except ZooError as error:
            changed = f"refused: {error}"
        assert kind == "bin" or "refused" not in changed, offset  # a byte of the archive's own bookkeeping
        assert changed not in seen, offset
        seen.add(changed)
        flip(path, offset)
        assert settled_digest(open_folder(folder), read=True) == first


def test_a_byte_between_samples_has_the_digest_of_samples_and_a_digest_of_its_own(large):
    folder = large()
    checkpoint = open_folder(folder)
    first, sampled = note(folder), checkpoint.digest
    offset = checkpoint._offsets["embed.weight"]
    assert checkpoint.tensors["embed.weight"].nbytes > PLACES * 2 * BETWEEN
    flip(folder / "model.safetensors", offset + BETWEEN)
    changed = open_folder(folder)
    assert changed.digest == sampled
    assert settled_digest(changed, read=False) == sampled
    other = settled_digest(changed, read=True)
    assert other != first
    assert settled_digest(open_folder(folder), read=True) == other


def test_an_unchanged_copy_is_the_same_and_is_read_once(large, tmp_path, aged, monkeypatch):
    folder = large()
    first = note(folder)
    shutil.copytree(folder, tmp_path / "copy")
    copy = open_folder(tmp_path / "copy")
    assert not known_digests(copy)
    assert settled_digest(copy, read=True) == first
    monkeypatch.setattr("zoo.sources.content._digest_of", lambda *given: pytest.fail("read again"))
    assert settled_digest(open_folder(tmp_path / "copy"), read=True) == first
    os.rename(tmp_path / "copy", tmp_path / "moved")
    assert settled_digest(open_folder(tmp_path / "moved"), read=True) == first


def test_nothing_is_remembered_of_files_that_changed_a_moment_ago(large):
    folder = large()
    assert _SETTLED >= 10**9
    note(folder)
    assert not known_digests(open_folder(folder))


def test_memory_that_is_damaged_or_cannot_be_written_costs_reading_alone(large, aged):
    folder = large()
    first = note(folder)
    for entry in (zoo_home() / "digests").rglob("*.json"):
        entry.write_text('{"embed.weight": "no digest"}')
    assert not known_digests(open_folder(folder))
    assert settled_digest(open_folder(folder), read=True) == first
    shutil.rmtree(zoo_home() / "digests")
    (zoo_home() / "digests").write_text("in the way")
    assert note(folder) == first


def test_digests_that_another_user_may_have_written_are_ignored_with_a_line(large, aged, caplog):
    folder = large()
    note(folder)
    entry = next((zoo_home() / "digests" / "files").rglob("*.json"))
    assert known_digests(open_folder(folder))
    entry.chmod(0o666)
    assert not known_digests(open_folder(folder))
    assert f"{entry}: may be written by others" in caplog.text


def test_tensor_digests_are_blake3_of_the_rows_as_stored(large):
    from blake3 import blake3

    checkpoint = open_folder(large())
    values = checkpoint.read("head.weight", 0, LARGE)
    assert tensor_digests(checkpoint, ["head.weight"]) == {"head.weight": blake3(values.tobytes()).hexdigest()}


@pytest.mark.parametrize("order", ["ahead", "behind", "scattered", "twice"])
def test_a_recording_digests_whatever_comes_in_whatever_order(large, order):
    checkpoint = open_folder(large())
    expected = tensor_digests(checkpoint, checkpoint.tensors)
    recording = Recording(checkpoint, threads=2)
    slabs = [(at, min(at + 500, LARGE)) for at in range(0, LARGE, 500)]
    slabs = {
        "ahead": [slabs[1], slabs[0], *slabs[2:]],
        "behind": slabs[::-1],
        "scattered": [(7, 9), (0, 3), (3, 8), *slabs],
        "twice": slabs * 2,
    }[order]
    for start, stop in slabs:
        rows = recording.read("embed.weight", start, stop)
        assert np.array_equal(rows, checkpoint.read("embed.weight", start, stop))
    assert recording.digests() == expected


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_build_states_the_digest_of_every_tensor(large, tmp_path, threads):
    checkpoint = open_folder(large())
    arch = architecture(vocab_size=LARGE)
    package = build(make_recipe(arch), checkpoint, tmp_path / "out", registry(), threads=threads)
    assert package.manifest.inputs == tensor_digests(checkpoint, sorted(checkpoint.tensors))
    assert read_manifest(tmp_path / "out").inputs == package.manifest.inputs


def test_already_built_is_not_said_of_other_weights(large, tmp_path, aged):
    folder, arch = large(), architecture(vocab_size=LARGE)
    checkpoint = open_folder(folder)
    recipe = make_recipe(arch, digest=checkpoint.digest)
    first = build(recipe, checkpoint, tmp_path / "out", registry())
    assert build(recipe, open_folder(folder), tmp_path / "out", registry()).manifest == first.manifest
    flip(folder / "model.safetensors", checkpoint._offsets["head.weight"] + BETWEEN)
    with pytest.raises(ZooError, match=r"was built from other weights \(tensor 'head\.weight' differs\)"):
        build(recipe, open_folder(folder), tmp_path / "out", registry())
    assert differing(open_folder(folder), first.manifest.inputs) == "head.weight"


def test_a_recipe_is_not_built_from_weights_that_it_does_not_stand_for(large, tmp_path):
    folder, arch = large(), architecture(vocab_size=LARGE)
    recipe = make_recipe(arch, digest=open_folder(folder).digest)
    build(recipe, open_folder(folder), tmp_path / "out", registry())
    flip(folder / "model.safetensors", open_folder(folder)._offsets["head.weight"] + BETWEEN)
    with pytest.raises(ZooError, match="its weights changed since the build began"):
        build(recipe, open_folder(folder), tmp_path / "other", registry())


def test_a_retrained_folder_and_a_namesake_are_other_packages(tmp_path):
    from typer.testing import CliRunner

    from tests.checkpoints import make_checkpoint
    from zoo.cli import app
    from zoo.plugins import host
    from zoo.stages.subject import find_package
    from zoo.testing.checkpoint import write_tokenizer

    def zoo(*arguments):
        result = CliRunner().invoke(app, [*map(str, arguments)])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def train(folder, seed):
        make_checkpoint(folder, seed=seed)
        write_tokenizer(folder)

    train(tmp_path / "a" / "model", 1)
    train(tmp_path / "b" / "model", 2)
    one, two = (zoo("build", tmp_path / room / "model", "--json") for room in "ab")
    assert one["recipe_hash"] != two["recipe_hash"]
    assert one["package"] != two["package"]
    for room, built in (("a", one), ("b", two)):
        assert str(find_package(host().registry, str(tmp_path / room / "model"))) == built["package"]
    train(tmp_path / "a" / "model", 3)
    with pytest.raises(ZooError, match="was built from other weights"):
        find_package(host().registry, str(tmp_path / "a" / "model"))
    again = zoo("build", tmp_path / "a" / "model", "--json")
    assert not again["already_built"]
    assert again["recipe_hash"] != one["recipe_hash"]
    shutil.copytree(tmp_path / "b" / "model", tmp_path / "c" / "model")
    copy = zoo("build", tmp_path / "c" / "model", "--json")
    assert (copy["already_built"], copy["recipe_hash"]) == (True, two["recipe_hash"])


def test_every_byte_of_a_tensor_of_three_axes_is_digested(tmp_path):
    """Its rows are counted over all axes but the last, whoever reads how many of them first."""
    from blake3 import blake3

    from tests.builds import write_safetensors

    values = np.random.default_rng(0).standard_normal((3, 5, 7)).astype(np.float32)
    (tmp_path / "ck").mkdir()
    (tmp_path / "ck" / "config.json").write_text('{"model_type": "flat"}')
    write_safetensors(tmp_path / "ck" / "model.safetensors", {"experts": ("F32", values)})
    checkpoint = open_folder(tmp_path / "ck")
    expected = blake3(values.tobytes()).hexdigest()
    assert tensor_digests(checkpoint, ["experts"]) == {"experts": expected}
    recording = Recording(checkpoint, 2)
    for start, stop in ((4, 9), (0, 3), (2, 6)):
        assert np.array_equal(recording.read("experts", start, stop), values.reshape(15, 7)[start:stop])
    assert recording.digests() == {"experts": expected}


def test_a_byte_between_samples_makes_another_package_and_is_refused_by_verify(tmp_path):
    from typer.testing import CliRunner

    from tests.checkpoints import make_checkpoint
    from zoo.cli import app
    from zoo.package import open_package
    from zoo.plugins import host
    from zoo.stages.subject import find_package, identify
    from zoo.stages.verify import original_weights

    folder = tmp_path / "model"
    make_checkpoint(folder, vocab_size=LARGE)

    def zoo_build():
        result = CliRunner().invoke(app, ["build", str(folder), "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def weights_of(built):
        package = open_package(find_package(host().registry, built["package"]))
        return original_weights(host().registry, package, identify(host().registry, built["package"]), str(folder))

    first = zoo_build()
    assert zoo_build()["already_built"]
    place = open_folder(folder)._offsets["lm_head.weight"] + BETWEEN
    flip(folder / "model.safetensors", place)
    with pytest.raises(ZooError, match=r"model is not what .* was built from: its tensor 'lm_head\.weight' differs"):
        weights_of(first)
    second = zoo_build()
    assert (second["already_built"], second["recipe_hash"] == first["recipe_hash"]) == (False, False)
    assert weights_of(second).tensors
    flip(folder / "model.safetensors", place)
    assert zoo_build() == first | {"already_built": True}
    with pytest.raises(ZooError, match="differs"):
        weights_of(second)
    (folder / "generation_config.json").write_text('{"top_k": 3}')
    with pytest.raises(ZooError, match="its tensors are the same, but its config"):
        weights_of(first)


def test_weights_of_the_hub_are_the_same_in_a_folder(tmp_path, monkeypatch):
    """What was built from a hub id is verified by a copy of its files, and the other way round."""
    import hashlib
    from pathlib import Path

    from tests.checkpoints import make_checkpoint
    from zoo.package.folder import Package
    from zoo.plugins import host
    from zoo.stages.request import Request
    from zoo.stages.resolve import resolve
    from zoo.stages.subject import identify
    from zoo.stages.verify import original_weights

    plain = tmp_path / "plain"
    make_checkpoint(plain)
    (plain / "tokenizer.json").write_text("{}")
    storage = Path(os.environ["HF_HOME"]) / "hub" / "models--org--small"
    snapshot = storage / "snapshots" / "abcdef"
    snapshot.mkdir(parents=True)
    for folder in ("blobs", "refs"):
        (storage / folder).mkdir()
    (storage / "refs" / "main").write_text("abcdef")
    for path in plain.iterdir():
        blob = storage / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(f"../../blobs/{blob.name}")

    def package(model):
        found = resolve(host().registry, Request(str(model)))
        inputs = tensor_digests(found.checkpoint, sorted(found.checkpoint.tensors))
        return Package(tmp_path / "package", manifest_of(found.recipe, inputs))

    def manifest_of(recipe, inputs):
        from zoo.declarations.manifest import Manifest

        return Manifest(
            recipe=recipe, recipe_hash=recipe.hash, parameters=1, bits_per_weight=8.0, files={}, inputs=inputs,
            versions={},
        )  # fmt: skip

    of_hub, of_folder = package("org/small"), package(plain)
    weights = of_hub.manifest.recipe.weights
    stated = hashlib.sha256((plain / "model.safetensors").read_bytes()).hexdigest()
    assert (weights.hub, weights.revision, weights.files) == ("org/small", "abcdef", {"model.safetensors": stated})
    assert package(snapshot).manifest.recipe_hash == of_folder.manifest.recipe_hash
    for built in (of_hub, of_folder):
        for given in (plain, snapshot, "org/small"):
            subject = identify(host().registry, str(plain))
            assert original_weights(host().registry, built, subject, str(given)).tensors
    (plain / "tokenizer.json").write_text("{} ")
    for built in (of_hub, of_folder):
        with pytest.raises(ZooError, match="its tensors are the same, but its config"):
            original_weights(host().registry, built, identify(host().registry, str(plain)), str(plain))


def test_rows_picked_in_turn_are_digested_as_they_come(tmp_path, monkeypatch):
    """Every second row, then the others: the first pass reads, and digests, what lies between."""
    from blake3 import blake3

    from tests.builds import write_safetensors
    from zoo.contracts import RowSlice
    from zoo.sources.rows import RowReader

    values = np.random.default_rng(0).standard_normal((40_000, 64)).astype(np.float32)
    (tmp_path / "ck").mkdir()
    (tmp_path / "ck" / "config.json").write_text('{"model_type": "flat"}')
    write_safetensors(tmp_path / "ck" / "model.safetensors", {"gate_up": ("F32", values)})
    recording = Recording(open_folder(tmp_path / "ck"), 2)
    reader = RowReader(recording, 20_000 * 256)
    for first in range(2):
        picked = RowSlice("gate_up", values.shape, range(first, 40_000, 2))
        for start in range(0, 20_000, 8_000):
            stop = min(start + 8_000, 20_000)
            assert np.array_equal(reader.read(picked, start, stop), values[first::2][start:stop])
    monkeypatch.setattr(recording.base, "read", lambda *given: pytest.fail("read twice"))
    assert recording.digests() == {"gate_up": blake3(values.tobytes()).hexdigest()}


def test_early_slabs_of_all_tensors_together_are_few(tmp_path):
    from tests.builds import write_safetensors

    tensors = {f"t{index}": ("F32", np.ones((8, 4), np.float32)) for index in range(20)}
    (tmp_path / "ck").mkdir()
    (tmp_path / "ck" / "config.json").write_text('{"model_type": "flat"}')
    write_safetensors(tmp_path / "ck" / "model.safetensors", tensors)
    recording = Recording(open_folder(tmp_path / "ck"), 3)
    for name in tensors:
        recording.read(name, 4, 6)
    assert sum(len(tensor.early) for tensor in recording._tensors.values()) == 3
    assert len(recording.digests()) == 20
