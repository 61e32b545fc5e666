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


@pytest.mark.parametrize(
    "name", ["../out.safetensors", "/etc/passwd", "a\\b.safetensors", "", "C:x", "link.safetensors"]
)
def test_an_index_that_leads_out_of_the_folder(tmp_path, name):
    folder = write_checkpoint(tmp_path / "ck", architecture(), shards=2)
    (folder / "model-00001-of-00002.safetensors").rename(tmp_path / "out.safetensors")
    (folder / "link.safetensors").symlink_to(tmp_path / "out.safetensors")
    edit_index(folder, lambda index: index["weight_map"].update({"head.weight": name}))
    with pytest.raises(ZooError, match=r"no name of a file inside|leaves the folder") as caught:
        open_folder(folder)
    assert INDEX in str(caught.value)


def test_a_config_that_is_a_link_out_of_the_folder(tmp_path):
    folder = write_checkpoint(tmp_path / "ck", architecture())
    (folder / "config.json").rename(tmp_path / "config.json")
    (folder / "config.json").symlink_to(tmp_path / "config.json")
    with pytest.raises(ZooError, match="leaves the folder"):
        open_folder(folder)


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
        ("config.json", b'{"a": NaN}', "NaN is no JSON number"),
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
