"""The hub: what is brought, what breaks on the way, and the one line that says so."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.builds import write_safetensors
from tests.hubserver import HubServer, break_off, hub, slow, status, without_ranges
from zoo.declarations.licence import Licence
from zoo.errors import UsageError, ZooError
from zoo.sources import hub_errors, repository, transfer
from zoo.sources.folder import open_folder
from zoo.sources.hub import cache_folder, check_id, download, fetch, locate, storage_folder
from zoo.sources.hub_remote import RemoteCheckpoint
from zoo.sources.hub_source import Hub
from zoo.sources.parallel import each

NAME = "example/tiny-model"
COMPANIONS = {
    "config.json": b'{"model_type": "example"}',
    "generation_config.json": b"{}",
    "tokenizer.json": b'{"version": "1.0"}',
    "tokenizer_config.json": b"{ }",
    "README.md": b"---\nlicense: mit\n---\n# Tiny\n",
    "LICENSE.txt": b"Do as you like.\n",
    "USE_POLICY.md": b"Be kind.\n",
}
OTHERS = {
    "flax_model.msgpack": b"flax",
    "tf_model.h5": b"tf",
    "model.gguf": b"gguf",
    "onnx/model.onnx": b"onnx",
    "original/consolidated.00.pth": b"meta",
    "training_args.bin": b"args",
    ".gitattributes": b"",
}


def weights_of(folder: Path, seed: int, names: tuple[str, ...] = ("a", "b")) -> bytes:
    path = folder / f"weights-{seed}.safetensors"
    values = np.random.default_rng(seed)
    write_safetensors(path, {name: ("F32", values.standard_normal((300, 200), np.float32)) for name in names})
    return path.read_bytes()


@pytest.fixture
def weights(tmp_path: Path) -> bytes:
    return weights_of(tmp_path, 0)


@pytest.fixture
def model(server: HubServer, weights: bytes) -> dict[str, bytes]:
    """A repository with one file of weights, its companions, and much that a build does not need."""
    files = {**COMPANIONS, **OTHERS, "model.safetensors": weights, "pytorch_model.bin": b"never"}
    server.add(NAME, files=files, card={"license": "mit"})
    return files


@pytest.fixture
def sharded(server: HubServer, tmp_path: Path) -> dict[str, bytes]:
    shards = {f"model-{i}.safetensors": weights_of(tmp_path, i, (f"t{i}", f"u{i}")) for i in (1, 2, 3)}
    weight_map = {f"{letter}{i}": f"model-{i}.safetensors" for i in (1, 2, 3) for letter in "tu"}
    index = {"model.safetensors.index.json": json.dumps({"weight_map": weight_map}).encode()}
    files = {**COMPANIONS, **OTHERS, **shards, **index, "model-9.safetensors": b"of no index"}
    server.add(NAME, files=files, card={"license": "mit"})
    return {**COMPANIONS, **shards, **index}


def partials() -> list[Path]:
    return list(cache_folder().rglob("*.zoo-partial"))


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def opened(*, offline: bool = False) -> Any:
    """Open the repository as its source does, headers included."""
    checkpoint = Hub().open(NAME, revision=None, offline=offline)
    assert checkpoint.tensors
    return checkpoint


def refusal(repository: str = NAME, revision: str = "main", **options: Any) -> str:
    with pytest.raises(ZooError) as caught:
        fetch(repository, revision, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert repository in message
    return message


def test_only_what_a_build_needs(server: HubServer, model: dict[str, bytes]) -> None:
    assert locate(NAME) is None
    fetched = fetch(NAME)
    wanted = {**COMPANIONS, "model.safetensors": model["model.safetensors"]}
    assert files_of(fetched.folder) == wanted
    assert fetched.files == {name: len(data) for name, data in wanted.items()}
    assert fetched.downloaded == sum(fetched.files.values()) == server.sent
    assert fetched.commit == server.repos[NAME].commit
    assert fetched.licence == Licence(id="mit")
    assert fetched.folder == locate(NAME) == locate(NAME, fetched.commit) == download(NAME)
    assert partials() == []
    assert set(open_folder(fetched.folder).tensors) == {"a", "b"}
    assert open_folder(fetched.folder).name == NAME


def test_what_is_there_is_not_brought_again(server: HubServer, model: dict[str, bytes]) -> None:
    fetch(NAME)
    sent = server.sent
    again = fetch(NAME)
    assert again.downloaded == 0
    assert server.sent == sent


def test_shards_by_their_index(sharded: dict[str, bytes]) -> None:
    folder = download(NAME)
    assert files_of(folder) == sharded
    assert set(open_folder(folder).tensors) == {"t1", "t2", "t3", "u1", "u2", "u3"}


def test_the_cache_is_the_librarys_own(server: HubServer, model: dict[str, bytes]) -> None:
    """What zoo brings huggingface_hub finds offline, and the other way round."""
    folder = download(NAME)
    script = "import sys, huggingface_hub as h; print(h.hf_hub_download(sys.argv[1], 'model.safetensors'))"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    found = subprocess.run(
        [sys.executable, "-c", script, NAME], env=environment, check=True, capture_output=True, text=True
    )
    assert Path(found.stdout.strip()) == folder / "model.safetensors"

    server.add("example/other", files=model)
    script = "import sys, huggingface_hub as h; print(h.snapshot_download(sys.argv[1]))"
    theirs = subprocess.run([sys.executable, "-c", script, "example/other"], check=True, capture_output=True, text=True)
    sent = server.sent
    assert locate("example/other") == Path(theirs.stdout.strip())
    assert fetch("example/other").downloaded == 0
    assert server.sent == sent


def test_bin_weights_where_there_are_no_safetensors(server: HubServer, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"w": torch.ones(3)}, tmp_path / "w.bin")
    files = {**COMPANIONS, **OTHERS, "pytorch_model.bin": (tmp_path / "w.bin").read_bytes()}
    server.add(NAME, files=files)
    planned = opened()
    folder = download(NAME)
    assert files_of(folder) == {**COMPANIONS, "pytorch_model.bin": files["pytorch_model.bin"]}
    assert planned.digest == open_folder(folder, hub=True).digest


def test_a_listing_without_siblings(server: HubServer, model: dict[str, bytes]) -> None:
    server.listing = "tree"
    assert (download(NAME) / "model.safetensors").read_bytes() == model["model.safetensors"]


@pytest.mark.parametrize("revision", ["v1", "0123456789abcdef0123456789abcdef01234567"])
def test_a_revision(model: dict[str, bytes], revision: str) -> None:
    folder = download(NAME, revision)
    assert locate(NAME, revision) == folder
    assert (locate(NAME) is None) is (revision == "v1" or not (storage_folder(NAME) / "refs" / "main").exists())


def test_a_new_commit_brings_only_what_changed(server: HubServer, model: dict[str, bytes]) -> None:
    first = download(NAME)
    server.add(NAME, files={**model, "generation_config.json": b'{"top_k": 1}'}, commit="f" * 40)
    assert locate(NAME) == first
    fetched = fetch(NAME)
    assert fetched.downloaded == len(b'{"top_k": 1}')
    assert (fetched.folder / "generation_config.json").read_bytes() == b'{"top_k": 1}'
    assert (fetched.folder / "model.safetensors").read_bytes() == model["model.safetensors"]
    assert locate(NAME) == fetched.folder != first


def test_an_update_that_fails_leaves_the_older_snapshot(server: HubServer, model: dict[str, bytes]) -> None:
    first = download(NAME)
    server.add(NAME, files={**model, "model.safetensors": model["model.safetensors"][::-1]}, commit="f" * 40)
    server.faults = [status(500, "/resolve/", method="GET")]
    refusal()
    assert locate(NAME) == first


def test_progress_adds_up(model: dict[str, bytes]) -> None:
    seen: list[transfer.Arrival] = []
    fetch(NAME, progress=seen.append)
    last = [one for one in seen if one.file == "model.safetensors"][-1]
    assert last.bytes_done == last.bytes_total == len(model["model.safetensors"])
    assert last.rate > 0
    assert last.eta == 0


def test_the_licence_is_shown_before_anything_comes(
    server: HubServer, model: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    terms = "https://example.org/terms"
    server.repos[NAME].card = {"license": "other", "license_name": "tiny-terms", "license_link": terms}
    server.faults = [status(503, "/resolve/", method="GET")]
    with caplog.at_level(logging.WARNING, "zoo"):
        refusal()
    assert [one.message for one in caplog.records] == [f"{NAME}: licence other (tiny-terms), {terms}"]
    caplog.clear()
    server.faults = []
    declared = Licence(id="llama-1", url=terms, commercial_use=False)
    assert fetch(NAME, licence=declared).licence == declared
    assert caplog.messages == [f"{NAME}: licence llama-1, {terms}, no commercial use"]
    caplog.clear()
    fetch(NAME)
    assert caplog.messages == []


# Breaks on the way.


@pytest.mark.parametrize("after", [0, 1, 100_000])
def test_a_break_in_mid_file_is_resumed(server: HubServer, model: dict[str, bytes], after: int) -> None:
    server.faults = [break_off("model.safetensors", after, times=3)]
    folder = download(NAME)
    assert (folder / "model.safetensors").read_bytes() == model["model.safetensors"]
    asked = server.asked("GET", "model.safetensors")
    assert len(asked) == 4
    assert asked[-1].headers.get("range") == (f"bytes={3 * after}-" if after else None)


def test_a_later_command_goes_on_where_an_earlier_one_broke(server: HubServer, model: dict[str, bytes]) -> None:
    server.faults = [break_off("model.safetensors", 100_000), status(500, "model.safetensors", method="GET")]
    assert "problem of its own (500" in refusal()
    assert locate(NAME, offline=True) is None
    assert [path.stat().st_size for path in partials()] == [100_000]
    server.faults, server.sent = [], 0
    folder = download(NAME)
    assert (folder / "model.safetensors").read_bytes() == model["model.safetensors"]
    assert server.sent == len(model["model.safetensors"]) - 100_000
    assert partials() == []


def test_a_killed_command_goes_on(server: HubServer, model: dict[str, bytes]) -> None:
    server.faults = [break_off("model.safetensors", 200_000), slow("model.safetensors", 60)]
    script = f"from zoo.sources.hub import download; download({NAME!r})"
    process = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "HF_HUB_DOWNLOAD_TIMEOUT": "60"})
    for _ in range(400):
        if len(server.asked("GET", "model.safetensors")) == 2:
            break
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    server.faults, server.sent = [], 0
    assert (download(NAME) / "model.safetensors").read_bytes() == model["model.safetensors"]
    assert server.sent == len(model["model.safetensors"]) - 200_000


def test_a_server_without_ranges_begins_anew(server: HubServer, model: dict[str, bytes]) -> None:
    server.faults = [break_off("model.safetensors", 100_000), without_ranges()]
    assert (download(NAME) / "model.safetensors").read_bytes() == model["model.safetensors"]


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_what_passes_is_tried_again(server: HubServer, model: dict[str, bytes], code: int) -> None:
    server.faults = [
        status(code, "/api/", times=1),
        status(code, "config.json", times=1, method="HEAD"),
        status(code, "model.safetensors", times=2, method="GET"),
    ]
    assert (download(NAME) / "model.safetensors").read_bytes() == model["model.safetensors"]


def test_a_short_pause_is_kept_and_a_long_one_refused(
    server: HubServer, model: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(hub_errors, "rest", lambda seconds, stop: waits.append(seconds))
    server.faults = [status(429, "/api/", times=1, headers={"Retry-After": "7"})]
    download(NAME)
    assert waits == [7.0]
    server.faults = [status(429, "/api/", headers={"Retry-After": "3600"})]
    assert "too many requests (429); try again in 3600 s" in refusal()
    assert waits == [7.0]
    server.faults = [status(429, "/api/", headers={"RateLimit": '"api";r=0;t=55'})]
    assert "try again in 55 s; with HF_TOKEN set more" in refusal()


def test_tries_are_bounded(server: HubServer, model: dict[str, bytes]) -> None:
    server.faults = [status(503)]
    assert "has a problem of its own (503), 4 tries; try again later, or set HF_ENDPOINT to a mirror" in refusal()
    assert len(server.requests) == hub_errors.TRIES
    server.requests.clear()
    server.faults = [break_off("model.safetensors", 0, times=10**6)]
    assert "cannot be reached" in refusal()
    assert len(server.asked("GET", "model.safetensors")) == hub_errors.TRIES


def test_a_silent_server(server: HubServer, model: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    monkeypatch.setattr(hub_errors, "TRIES", 2)
    server.faults = [slow("/api/", 1.0)]
    assert "did not answer in time" in refusal()


def test_no_network(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://user:secret@127.0.0.1:9")
    message = refusal()
    assert "127.0.0.1:9 cannot be reached" in message
    assert "--offline" in message
    assert "secret" not in message
    monkeypatch.setenv("HF_ENDPOINT", "hf-mirror.com")
    with pytest.raises(UsageError, match="HF_ENDPOINT must be an address"):
        fetch(NAME)


# Wrong content.


def test_a_wrong_checksum_leaves_nothing(server: HubServer, model: dict[str, bytes]) -> None:
    right = model["model.safetensors"]
    server.contents["model.safetensors"] = right[:-1] + bytes([right[-1] ^ 1])
    message = refusal()
    assert "model.safetensors arrived wrong (SHA-256 " in message
    assert "discarded" in message
    assert len(server.asked("GET", "model.safetensors")) == 1
    assert partials() == []
    assert not list((storage_folder(NAME) / "blobs").glob(server.repos[NAME].etag("model.safetensors") + "*"))
    assert locate(NAME, offline=True) is None
    server.contents.clear()
    assert (download(NAME) / "model.safetensors").read_bytes() == right


def test_a_damaged_partial_is_begun_anew(server: HubServer, model: dict[str, bytes]) -> None:
    server.faults = [break_off("model.safetensors", 100_000), status(500, "model.safetensors", method="GET")]
    refusal()
    server.faults = []
    (partial,) = partials()
    partial.write_bytes(bytes(50_000))
    assert (download(NAME) / "model.safetensors").read_bytes() == model["model.safetensors"]
    assert [one.headers.get("range") for one in server.asked("GET", "model.safetensors")][-2:] == ["bytes=50000-", None]


@pytest.mark.parametrize("change", [lambda data: data[:-10], lambda data: data + b"more"])
def test_a_file_of_another_size(server: HubServer, model: dict[str, bytes], change: Any) -> None:
    server.contents["model.safetensors"] = change(model["model.safetensors"])
    message = refusal()
    assert "model.safetensors arrived wrong" in message
    assert "bytes instead of 480160" in message
    assert partials() == []
    assert locate(NAME, offline=True) is None


def test_a_file_that_was_cut_in_the_cache_is_brought_again(model: dict[str, bytes]) -> None:
    folder = download(NAME)
    os.truncate(folder / "model.safetensors", 1000)
    with pytest.raises(ZooError, match="fetch it again"):
        open_folder(folder)
    assert fetch(NAME).downloaded == len(model["model.safetensors"])
    open_folder(folder)


def test_hostile_names_stay_inside(server: HubServer, tmp_path: Path, weights: bytes) -> None:
    index = json.dumps({"weight_map": {"a": "../../../evil.safetensors"}}).encode()
    files = {**COMPANIONS, "model.safetensors.index.json": index, "../../../evil.safetensors": weights}
    server.add(NAME, files=files)
    with pytest.raises(ZooError, match="not the name of a file inside"):
        fetch(NAME)
    server.add(NAME, files={**COMPANIONS, "model.safetensors": weights}, commit="../../evil")
    assert "names no commit" in refusal()
    assert not list(tmp_path.rglob("*evil*"))


# Who may not, and what is not there.


def test_a_gated_repository(server: HubServer, model: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    repo = server.repos[NAME]
    repo.gated, repo.token = True, "hf_right"
    licence = Licence(id="llama2", url="https://ai.meta.com/llama/license/", gated=True)
    message = refusal(licence=licence)
    assert "is gated under the licence llama2, https://ai.meta.com/llama/license/" in message
    assert f"accept the terms at https://huggingface.co/{NAME}" in message
    assert "set HF_TOKEN" in message
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    message = refusal()
    assert "the account of the token in use has no access yet" in message
    assert "hf_wrong" not in message
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert fetch(NAME).downloaded
    assert all(one.headers.get("authorization") == "Bearer hf_right" for one in server.asked("GET", "/resolve/"))


def test_a_token_stays_with_the_hub(
    server: HubServer, model: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    server.repos[NAME].token = "hf_right"
    with hub() as storage:
        storage.add(NAME, files=model)
        server.storage = storage.url.replace("127.0.0.1", "localhost")
        download(NAME)
        assert storage.asked("GET", "model.safetensors")
        assert not any("authorization" in one.headers for one in storage.requests)


def test_private_wrong_token_forbidden_missing(
    server: HubServer, model: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "does not exist on 127.0.0.1" in refusal("example/nothing")
    assert "if it is private, set HF_TOKEN" in refusal("example/nothing")
    assert "has no revision 'v9'" in refusal(revision="v9")
    server.faults = [status(401, "/api/")]
    assert "does not exist on" in refusal()
    server.faults = [status(403, "/api/", headers={"X-Error-Message": "Not for you"})]
    assert "forbids it (403: Not for you); ask for access at https://huggingface.co/" in refusal()
    server.faults = [status(418, "/api/")]
    assert "answered 418" in refusal()
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    server.faults = [status(401, "/api/")]
    assert "refuses the token in use (401)" in refusal()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_repository_without(server: HubServer, weights: bytes, name: str) -> None:
    files = {**COMPANIONS, **OTHERS, "model.safetensors": weights}
    del files[name]
    server.add(NAME, files=files)
    message = refusal()
    assert (
        ("holds GGUF files; name one" in message)
        if name == "config.json"
        else ("are in no form that is read" in message)
    )
    assert server.sent == 0


def test_a_shard_that_the_repository_lacks(server: HubServer, sharded: dict[str, bytes]) -> None:
    del server.repos[NAME].files["model-2.safetensors"]
    assert "names 'model-2.safetensors', which the repository lacks" in refusal()


@pytest.mark.parametrize(
    "name", ["", "name", "a/b/c", "a//b", "../x", "a/..", "a/b--c", "a b/c", "a/b?", "/a/b", "a/-", "x" * 300]
)
def test_a_hub_id_that_is_none(name: str) -> None:
    with pytest.raises(UsageError, match="is not a hub id"):
        check_id(name)
    with pytest.raises(UsageError):
        locate(name)


@pytest.mark.parametrize("revision", ["", "../main", "a b", "-x", "a..b", "x" * 300])
def test_a_revision_that_is_none(revision: str) -> None:
    with pytest.raises(UsageError, match="is not a revision"):
        fetch(NAME, revision)


# Without the network.


def test_offline(server: HubServer, model: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"run `zoo fetch {NAME}` with the network on" in refusal(offline=True)
    folder = download(NAME)
    server.requests.clear()
    fetched = fetch(NAME, offline=True)
    assert fetched.folder == folder
    assert set(fetched.files) == {*COMPANIONS, "model.safetensors"}
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert download(NAME) == folder
    assert server.requests == []
    (folder / "model.safetensors").unlink()
    assert "only part of it is" in refusal()


def test_weights_that_another_tool_brought_alone(server: HubServer, model: dict[str, bytes]) -> None:
    folder = download(NAME)
    (folder / "tokenizer.json").unlink()
    assert locate(NAME) is None
    assert locate(NAME, offline=True) == folder
    fetch(NAME)
    assert (folder / "tokenizer.json").read_bytes() == COMPANIONS["tokenizer.json"]
    assert locate(NAME) == folder


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/huggingface/hub"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/huggingface/hub")
    monkeypatch.setenv("HF_HOME", "$HOME/hf")
    assert cache_folder() == tmp_path / "hf/hub"
    monkeypatch.setenv("HF_HUB_CACHE", "/y")
    assert cache_folder() == Path("/y")


# A disk that does not take it.


def test_a_download_that_cannot_fit(
    server: HubServer, model: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 70 * 2**20

    monkeypatch.setattr(repository.shutil, "disk_usage", lambda _: Usage)
    assert fetch(NAME).downloaded
    Usage.free = 2**20
    server.add("example/other", files={**model, "config.json": b"{ }"})
    message = refusal("example/other")
    assert "1.05 MB free in the hub's cache; make room, or set HF_HOME" in message


def test_a_file_size_limit_is_one_line_and_keeps_what_came(server: HubServer, model: dict[str, bytes]) -> None:
    script = (
        "import resource, signal, sys; from zoo.errors import ZooError; from zoo.sources.hub import download\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))\n"
        "try:\n    download(sys.argv[1])\nexcept ZooError as error:\n    sys.exit(str(error))"
    )
    done = subprocess.run([sys.executable, "-c", script, NAME], capture_output=True, text=True, check=False)
    assert "file-size limit); what arrived is kept" in done.stderr
    assert [path.stat().st_size for path in partials()] == [150_000]
    assert (download(NAME) / "model.safetensors").read_bytes() == model["model.safetensors"]


def test_two_commands_at_once_bring_it_once(server: HubServer, model: dict[str, bytes]) -> None:
    server.faults = [slow("model.safetensors", 0.5)]
    script = f"from zoo.sources.hub import download; print(download({NAME!r}))"
    running = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    folders = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0, 0]
    assert len(folders) == 1
    assert len(server.asked("GET", "model.safetensors")) == 1


# Headers alone.


def test_a_plan_from_headers_brings_no_weights(server: HubServer, sharded: dict[str, bytes]) -> None:
    checkpoint = opened()
    assert isinstance(checkpoint, RemoteCheckpoint)
    weights = {name: data for name, data in sharded.items() if name.startswith("model-")}
    assert checkpoint.download_bytes == sum(map(len, weights.values()))
    assert checkpoint.revision == server.repos[NAME].commit
    assert locate(NAME) is None
    assert all("range" in one.headers for one in server.asked("GET", "model-"))
    with pytest.raises(ZooError, match="zoo fetch"):
        checkpoint.read("t1", 0, 1)
    there = open_folder(download(NAME), hub=True)
    assert checkpoint.digest == there.digest
    assert checkpoint.tensors == there.tensors
    assert checkpoint.config == there.config
    assert checkpoint.name == there.name == NAME
    assert type(opened()) is type(there)


def test_headers_from_a_server_without_ranges(server: HubServer, model: dict[str, bytes]) -> None:
    server.faults = [without_ranges()]
    with pytest.raises(ZooError, match="does not serve ranges of files"):
        opened()


def test_a_server_that_sends_another_part(server: HubServer, model: dict[str, bytes]) -> None:
    def shifted(handler: Any, request: Any) -> bool:
        if "model.safetensors" in request.path and request.method == "GET" and "range" in request.headers:
            handler.send(206, bytes(8), {"Content-Range": "bytes 8-15/480160"})
            return True
        return False

    server.faults = [shifted]
    with pytest.raises(ZooError, match="does not serve ranges of files"):
        opened()
    server.faults = [break_off("model.safetensors", 100_000), shifted]
    assert (download(NAME) / "model.safetensors").read_bytes() == model["model.safetensors"]


def test_headers_offline(server: HubServer, model: dict[str, bytes]) -> None:
    with pytest.raises(ZooError, match="not on this machine"):
        opened(offline=True)


def test_the_hub_is_imported_only_when_it_is_asked(tmp_path: Path) -> None:
    script = (
        "import sys; from zoo.sources.hub import locate; locate('a/b')\n"
        "sys.exit(any(one in sys.modules for one in ('huggingface_hub', 'numpy', 'torch', 'httpx2')))"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("body", "kind"), [(b"<html>portal</html>", "text/html"), (b"[]", "application/json"), (b"{}", "application/json")]
)
def test_a_server_that_is_no_hub(server: HubServer, body: bytes, kind: str) -> None:
    def portal(handler: Any, request: Any) -> bool:
        handler.send(200, body, {"Content-Type": kind})
        return True

    server.faults = [portal]
    assert "is HF_ENDPOINT right?" in refusal()


def test_an_interrupt_ends_at_once_and_keeps_what_came(server: HubServer, model: dict[str, bytes]) -> None:
    server.faults = [break_off("model.safetensors", 200_000), slow("model.safetensors", 20)]
    environment = {**os.environ, "HF_HUB_DOWNLOAD_TIMEOUT": "20", "ZOO_PLUGINS": ""}
    process = subprocess.Popen([sys.executable, "-m", "zoo", "fetch", NAME], env=environment, stderr=subprocess.PIPE)
    while len(server.asked("GET", "model.safetensors")) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, errors = process.communicate(timeout=15)
    assert time.monotonic() - began < 10
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert [path.stat().st_size for path in partials()] == [200_000]


def test_work_side_by_side() -> None:
    assert each(lambda one: one * one, [3, 1, 2]) == [9, 1, 4]
    assert each(str, []) == []
    stop = threading.Event()

    def work(one: int) -> int:
        if one == 2:
            raise ZooError("two")
        return int(stop.wait(10))

    began = time.monotonic()
    with pytest.raises(ZooError, match="two"):
        each(work, list(range(20)), stop)
    assert time.monotonic() - began < 5
