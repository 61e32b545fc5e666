"""Checkpoint folders: one file or shards, nothing outside, nothing that contradicts itself."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.builds import architecture, values_of, write_checkpoint, write_safetensors
from zoo.errors import ZooError
from zoo.sources.folder import open_folder
from zoo.sources.local import BinFolder, SafetensorsFolder

INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_reads_any_rows_from_any_thread(tmp_path, shards, dtype):
    arch = architecture()
    checkpoint = open_folder(write_checkpoint(tmp_path / "ck", arch, dtype=dtype, shards=shards))
    expected = values_of(arch)
    assert checkpoint.name == "ck"
    assert {name: one.shape for name, one in checkpoint.tensors.items()} == {n: v.shape for n, v in expected.items()}

    def check(name):
        for start, stop in ((0, expected[name].shape[0]), (3, 7), (5, 5)):
            buffer = np.full(expected[name].nbytes + 3, 255, np.uint8)
            for out in (None, buffer):
                found = checkpoint.read(name, start, stop, out)
                if dtype == "BF16":
                    found = (found.astype(np.uint32) << 16).view(np.float32)
                assert np.array_equal(found.astype(np.float32), expected[name][start:stop])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(check, list(expected) * 4))


def test_the_digest_changes_with_what_decides_the_build(tmp_path):
    folder = write_checkpoint(tmp_path / "ck", architecture())
    seen = {open_folder(folder).digest}
    for name, text in (("tokenizer.json", "{}"), ("config.json", '{"a": 1}'), ("LICENSE.txt", "free"), ("x.md", "")):
        (folder / name).write_text(text)
        seen.add(open_folder(folder).digest)
    assert len(seen) == 4
    write_checkpoint(folder, architecture(num_hidden_layers=2))
    (folder / "config.json").write_text('{"a": 1}')
    assert open_folder(folder).digest not in seen


def test_the_hub_cache_links_into_its_blobs(tmp_path):
    repository = tmp_path / "models--org--small-model"
    plain = write_checkpoint(tmp_path / "plain", architecture(), shards=2)
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, file in enumerate(sorted(plain.iterdir())):
        file.rename(repository / "blobs" / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    checkpoint = open_folder(snapshot)
    assert checkpoint.name == "org/small-model"
    assert checkpoint.read("head.weight", 0, 2).shape == (2, 64)


def edit_index(folder, edit):
    index = json.loads((folder / INDEX).read_text())
    edit(index)
    (folder / INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize("name", ["../out.safetensors", "/etc/passwd", "a\\b.safetensors", "", "C:x"])
def test_an_index_that_leads_out_of_the_folder(tmp_path, name):
    folder = write_checkpoint(tmp_path / "ck", architecture(), shards=2)
    (folder / "model-00001-of-00002.safetensors").rename(tmp_path / "out.safetensors")
    edit_index(folder, lambda index: index["weight_map"].update({"head.weight": name}))
    with pytest.raises(ZooError, match="not the name of a file inside") as caught:
        open_folder(folder)
    assert INDEX in str(caught.value)


def test_links_that_the_user_put_there_are_followed(tmp_path):
    store = write_checkpoint(tmp_path / "store", architecture(), shards=2)
    folder = tmp_path / "ck"
    folder.mkdir()
    for path in store.iterdir():
        (folder / path.name).symlink_to(path)
    linked, plain = open_folder(folder), open_folder(store)
    assert linked.digest == plain.digest
    assert np.array_equal(linked.read("head.weight", 0, 9), plain.read("head.weight", 0, 9))
    (store / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ZooError, match=r"model-00002-of-00002\.safetensors' is a link to what is not there"):
        open_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_snapshot_of_the_hub_that_links_out_of_its_cache(tmp_path, name):
    plain = write_checkpoint(tmp_path / "plain", architecture())
    snapshot = tmp_path / "hub" / "models--org--small" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    blobs = tmp_path / "another-disk"
    blobs.mkdir()
    (snapshot.parent.parent / "blobs").symlink_to(blobs)
    for path in plain.iterdir():
        (blobs / path.name).write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    assert open_folder(snapshot).tensors
    (snapshot / name).unlink()
    (snapshot / name).symlink_to(plain / name)
    with pytest.raises(ZooError, match=f"{name}' is a link that leaves the hub's cache"):
        open_folder(snapshot)


def test_shards_without_an_index(tmp_path):
    folder = write_checkpoint(tmp_path / "ck", architecture(), shards=3)
    indexed = open_folder(folder)
    (folder / INDEX).unlink()
    (folder / "adapter_model.safetensors").write_bytes(b"of something else")
    found = open_folder(folder)
    assert found.tensors == indexed.tensors
    assert SafetensorsFolder().recognise(str(folder))
    assert not BinFolder().recognise(str(folder))
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ZooError, match=r"no index, and of its shards model-00002-of-00003\.safetensors is missing"):
        open_folder(folder)


def test_two_sets_of_shards_without_an_index_are_not_guessed_between(tmp_path):
    folder = write_checkpoint(tmp_path / "ck", architecture(), shards=2)
    write_checkpoint(folder, architecture(), shards=3)
    (folder / INDEX).unlink()
    with pytest.raises(ZooError, match="which of its safetensors files belong together is not said"):
        open_folder(folder)


def test_shards_without_an_index_that_hold_a_tensor_twice(tmp_path):
    folder = write_checkpoint(tmp_path / "ck", architecture(), shards=2)
    (folder / INDEX).unlink()
    one, two = (folder / f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
    two.write_bytes(one.read_bytes())
    with pytest.raises(ZooError, match="one of them is stale"):
        open_folder(folder)


@pytest.mark.parametrize("name", ["inv_freq", "cos_cached", "sin_cached"])
@pytest.mark.parametrize("where", ["both shards", "a shard alone", "the index alone", "another shard"])
def test_rotary_tables_are_read_nowhere(tmp_path, name, where):
    folder = write_checkpoint(tmp_path / "ck", architecture(), shards=2)
    plain = open_folder(folder).tensors
    buffer = f"model.layers.0.self_attn.rotary_emb.{name}"
    table = ("F32", np.ones(8, np.float32))
    for number in {"both shards": (1, 2), "the index alone": ()}.get(where, (1,)):
        path = folder / f"model-0000{number}-of-00002.safetensors"
        stored = open_folder(folder) if number == 1 else None
        held = {one: info for one, info in plain.items() if info.file == path.name}
        opened = stored or open_folder(folder)
        write_safetensors(
            path, {**{one: ("F16", opened.read(one, 0, held[one].shape[0])) for one in held}, buffer: table}
        )
    if where in ("the index alone", "another shard"):
        edit_index(folder, lambda index: index["weight_map"].update({buffer: "model-00002-of-00002.safetensors"}))
    assert open_folder(folder).tensors.keys() == plain.keys()


def test_float64_comes_as_float32(tmp_path):
    folder = write_checkpoint(tmp_path / "ck", architecture())
    values = {name: value.astype(np.float64) for name, value in values_of(architecture()).items()}
    values["head.weight"][0, 0] = 1e300
    write_safetensors(folder / "model.safetensors", {name: ("F64", value) for name, value in values.items()})
    checkpoint = open_folder(folder)
    assert {info.dtype for info in checkpoint.tensors.values()} == {"F32"}
    assert checkpoint.tensors["head.weight"].nbytes == values["head.weight"].nbytes // 2
    out = np.full(values["embed.weight"].nbytes, 255, np.uint8)
    for buffer in (None, out):
        found = checkpoint.read("embed.weight", 3, 90, buffer)
        assert np.array_equal(found, values["embed.weight"][3:90].astype(np.float32))
    assert np.isinf(checkpoint.read("head.weight", 0, 1)[0, 0])


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 5\n"


@pytest.mark.parametrize("name", ["config.json", INDEX, "model-00001-of-00002.safetensors"])
def test_a_pointer_in_place_of_a_file(tmp_path, name):
    folder = write_checkpoint(tmp_path / "ck", architecture(), shards=2)
    (folder / name).write_bytes(POINTER)
    with pytest.raises(ZooError, match=r"a Git LFS pointer, not the file itself; run `git lfs pull`") as caught:
        open_folder(folder)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model", "generation_config.json", "LICENSE.txt"])
def test_a_pointer_beside_the_weights(tmp_path, name):
    folder = write_checkpoint(tmp_path / "ck", architecture())
    (folder / name).write_bytes(POINTER)
    with pytest.raises(ZooError, match=f"{name}: a Git LFS pointer"):
        _ = open_folder(folder).digest


def test_index_and_shards_that_disagree(tmp_path):
    folder = write_checkpoint(tmp_path / "ck", architecture(), shards=2)
    good = (folder / INDEX).read_text()
    edit_index(folder, lambda index: index["weight_map"].pop("head.weight"))
    with pytest.raises(ZooError, match=r"'head\.weight' is there, but .* does not name it"):
        open_folder(folder)
    (folder / INDEX).write_text(good)
    edit_index(folder, lambda index: index["weight_map"].update({"ghost": "model-00001-of-00002.safetensors"}))
    with pytest.raises(ZooError, match="'ghost' is missing"):
        open_folder(folder)
    (folder / INDEX).write_text(good)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ZooError, match=r"model-00002-of-00002\.safetensors is missing"):
        open_folder(folder)


def test_a_tensor_in_two_shards(tmp_path):
    folder = write_checkpoint(tmp_path / "ck", architecture(), shards=2)
    one = folder / "model-00001-of-00002.safetensors"
    write_safetensors(folder / "model-00002-of-00002.safetensors", {"a": ("F32", np.ones(1, np.float32))})
    write_safetensors(one, {"a": ("F32", np.ones(1, np.float32))})
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": one.name, "b": "model-00002-of-00002.safetensors"}}))
    with pytest.raises(ZooError):
        open_folder(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"[]", "not an object"),
        ("config.json", b"{", "not JSON"),
        ("config.json", b'{"a": 1, "a": 2}', "twice"),
        ("config.json", b'{"a": NaN}', "NaN is not a JSON number"),
        ("config.json", b"\xff", "not UTF-8"),
        ("config.json", b" " * (17 * 2**20), "larger than"),
        (INDEX, b"{}", "weight_map must map"),
        (INDEX, b'{"weight_map": {"a": 1}}', "weight_map must map"),
    ],
)
def test_files_that_are_not_what_they_should_be(tmp_path, name, content, message):
    folder = write_checkpoint(tmp_path / "ck", architecture(), shards=2)
    (folder / name).write_bytes(content)
    with pytest.raises(ZooError, match=message) as caught:
        open_folder(folder)
    assert name in str(caught.value)


def test_folders_that_are_no_checkpoint(tmp_path):
    with pytest.raises(ZooError, match="no such folder"):
        open_folder(tmp_path / "gone")
    with pytest.raises(ZooError, match=r"holds no config\.json"):
        open_folder(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ZooError, match="weights"):
        open_folder(tmp_path)


def test_a_file_that_shrinks_after_it_was_opened(tmp_path):
    folder = write_checkpoint(tmp_path / "ck", architecture())
    checkpoint = open_folder(folder)
    os.truncate(folder / "model.safetensors", 4000)
    with pytest.raises(ZooError, match="before its tensors do"):
        checkpoint.read("head.weight", 0, 101)
