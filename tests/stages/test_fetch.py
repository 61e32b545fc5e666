"""``zoo fetch``: weights and datasets, through the command line."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.builds import write_safetensors
from tests.hubserver import HubServer, break_off, status
from zoo.cli import app
from zoo.errors import ZooError
from zoo.home import zoo_home
from zoo.plugins import host
from zoo.sources.dataset_files import find_in_folder, locate_dataset
from zoo.sources.hub import locate, storage_folder

FILES = {"config.json": b'{"model_type": "example"}', "tokenizer.json": b"{}", "README.md": b"---\nlicense: mit\n---\n"}
DATA = b"".join(b'{"text": "%d"}\n' % i for i in range(30_000))
DATASETS = """
datasets:
  - name: stories
    title: Stories
    hub: example/stories
    files: [{{path: data/train.json, sha256: "{sha256}", split: train}}]
    format: text-jsonl
    purposes: [calibration]
    licence: {{id: odc-by, url: "https://example.org/odc"}}
  - name: exams
    title: Exams
    files: [{{path: exams.zip, url: "{url}/downloads/exams.zip"{checksum}}}]
    format: opencompass
    purposes: [accuracy]
    licence: {{id: apache-2.0}}
"""
PLUGIN = """
from pathlib import Path
from zoo import hookimpl

@hookimpl
def register_families(register):
    register(Path(__file__).with_name("family.yaml"))

@hookimpl
def register_datasets(register):
    register(Path(__file__).with_name("datasets.yaml"))
"""


@pytest.fixture
def weights(tmp_path: Path) -> bytes:
    write_safetensors(tmp_path / "w", {"a": ("F32", np.ones((300, 200), np.float32))})
    return (tmp_path / "w").read_bytes()


@pytest.fixture
def declare(
    server: HubServer, install_plugin: Callable[..., Path], family_yaml: Callable[..., str], monkeypatch: Any
) -> Callable[..., None]:
    """Declare a model and two datasets, the one on the hub and the other at an address."""

    def install(checksum: str = "") -> None:
        family = family_yaml().replace("{hub: example/one}", "{hub: example/one, revision: v1}")
        datasets = DATASETS.format(url=server.url, sha256=hashlib.sha256(DATA).hexdigest(), checksum=checksum)
        install_plugin("example", PLUGIN, family__yaml=family, datasets__yaml=datasets)
        monkeypatch.setenv("ZOO_PLUGINS", "example")
        host.cache_clear()

    return install


def zoo(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["fetch", *arguments])


def test_a_declared_model_at_its_declared_revision(
    server: HubServer, declare: Callable[..., None], weights: bytes
) -> None:
    declare()
    server.add("example/one", files={**FILES, "model.safetensors": weights}, card={"license": "apache-2.0"})
    done = zoo("example-1b", "--json")
    assert done.exit_code == 0, done.stderr
    fetched = json.loads(done.stdout)["weights"]
    assert fetched["repository"] == "example/one"
    assert fetched["revision"] == "v1"
    assert fetched["commit"] == server.repos["example/one"].commit
    assert fetched["licence"]["id"] == "mit"  # the declaration's, not the repository's
    assert [one["name"] for one in fetched["files"]] == sorted([*FILES, "model.safetensors"])
    assert fetched["bytes"] == fetched["downloaded_bytes"] == sum(map(len, FILES.values())) + len(weights)
    assert locate("example/one", "v1") == Path(fetched["folder"])
    again = zoo("example-1b")
    assert again.exit_code == 0
    assert again.stdout == (
        f"{fetched['folder']}: weights of example/one at {fetched['commit'][:12]}, 4 files, 240.14 kB, already here\n"
    )


def test_a_hub_id_and_a_revision(server: HubServer, declare: Callable[..., None], weights: bytes) -> None:
    declare()
    server.add("someone/tuned", files={**FILES, "model.safetensors": weights})
    assert zoo("someone/tuned", "--revision", "v1").exit_code == 0
    assert locate("someone/tuned", "v1") is not None
    assert locate("someone/tuned") is None


def test_the_command_says_the_licence_first_and_ends_in_one_line(
    server: HubServer, declare: Callable[..., None], weights: bytes
) -> None:
    server.add("someone/tuned", files={**FILES, "model.safetensors": weights}, card={"license": "cc-by-4.0"})
    command = [sys.executable, "-m", "zoo", "fetch", "someone/tuned"]
    server.faults = [status(500, "model.safetensors", method="GET", times=3), break_off("model.safetensors", 50_000)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "ZOO_PLUGINS": ""})
    assert done.stderr == "someone/tuned: licence cc-by-4.0\n"
    assert done.stdout.endswith("240.14 kB downloaded\n")
    server.repos["someone/tuned"].commit = "a" * 40
    command[-1] = "someone/nothing"
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "ZOO_PLUGINS": ""})
    assert done.returncode == 1
    assert done.stderr.startswith("zoo: someone/nothing does not exist on 127.0.0.1")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_offline_takes_what_is_here(
    server: HubServer, declare: Callable[..., None], weights: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare()
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    server.add("someone/tuned", files={**FILES, "model.safetensors": weights})
    missing = zoo("someone/tuned", "--offline")
    assert missing.exit_code == 1
    assert "run `zoo fetch someone/tuned` with the network on" in missing.stderr
    assert server.requests == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert zoo("someone/tuned").exit_code == 0
    server.requests.clear()
    assert "already here" in zoo("someone/tuned", "--offline").stdout
    assert server.requests == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name what to fetch"),
        (["--revision", "main"], "name what to fetch"),
        (["--revision", "main", "--dataset", "stories"], "name the model"),
        (["exampel-1b"], "did you mean example-1b"),
        (["--dataset", "storys"], "did you mean stories"),
        (["example-1b", "--dataset", "nothing-like-it"], "unknown dataset"),
        (["example-1b", "--revision", "../x"], "is not a revision"),
    ],
)
def test_wrong_usage(declare: Callable[..., None], server: HubServer, arguments: list[str], said: str) -> None:
    declare()
    done = zoo(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert server.requests == []


def test_a_folder_needs_no_fetching(tmp_path: Path, weights: bytes) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, data in {**FILES, "model.safetensors": weights}.items():
        (folder / name).write_bytes(data)
    done = zoo(str(folder))
    assert done.exit_code == 0
    assert "already here" in done.stdout
    assert zoo(str(folder), "--revision", "main").exit_code == 2
    (folder / "model.safetensors").write_bytes(weights[:-1])
    broken = zoo(str(folder))
    assert broken.exit_code == 1
    assert "truncated" in broken.stderr


# Datasets.


def test_a_dataset_of_the_hub(server: HubServer, declare: Callable[..., None]) -> None:
    declare()
    server.add("datasets/example/stories", files={"data/train.json": DATA, "data/other.json": b"[]"})
    assert locate_dataset(host().registry.dataset("stories")) is None
    server.faults = [break_off("train.json", 100_000)]
    done = zoo("--dataset", "stories", "--json")
    assert done.exit_code == 0, done.stderr
    (fetched,) = json.loads(done.stdout)["datasets"]
    assert fetched["downloaded_bytes"] == fetched["bytes"] == len(DATA)
    assert server.asked("GET", "train.json")[-1].headers["range"] == "bytes=100000-"
    found = locate_dataset(host().registry.dataset("stories"))
    assert found is not None
    assert found["data/train.json"].read_bytes() == DATA
    assert list(storage_folder("example/stories", "dataset").glob("snapshots/*/data/*")) == [found["data/train.json"]]
    assert "already here" in zoo("--dataset", "stories").stdout
    assert "already here" in zoo("--dataset", "stories", "--offline").stdout


def test_a_dataset_that_is_not_what_was_declared(server: HubServer, declare: Callable[..., None]) -> None:
    declare()
    server.add("datasets/example/stories", files={"data/train.json": DATA[::-1]})
    done = zoo("--dataset", "stories")
    assert done.exit_code == 1
    assert "arrived wrong (SHA-256" in done.stderr
    assert locate_dataset(host().registry.dataset("stories")) is None
    server.add("datasets/example/stories", files={"elsewhere.json": DATA})
    assert "holds no data/train.json" in zoo("--dataset", "stories").stderr


@pytest.mark.parametrize("checksum", [True, False])
def test_a_dataset_at_an_address(server: HubServer, declare: Callable[..., None], checksum: bool) -> None:
    declare(f', sha256: "{hashlib.sha256(DATA).hexdigest()}"' if checksum else "")
    server.plain["/downloads/exams.zip"] = DATA
    server.faults = [status(503, "exams", times=1), status(503, "exams", method="GET", times=1)]
    done = zoo("--dataset", "exams")
    assert done.exit_code == 0, done.stderr
    path = zoo_home() / "datasets/exams/exams.zip"
    assert path.read_bytes() == DATA
    assert locate_dataset(host().registry.dataset("exams")) == {"exams.zip": path}
    assert list(path.parent.iterdir()) == [path]
    assert "already here" in zoo("--dataset", "exams").stdout
    path.write_bytes(DATA[:-1])
    assert ("already here" in zoo("--dataset", "exams").stdout) is not checksum
    assert (path.read_bytes() == DATA) is checksum


def test_an_address_that_breaks_off_goes_on(server: HubServer, declare: Callable[..., None]) -> None:
    declare(f', sha256: "{hashlib.sha256(DATA).hexdigest()}"')
    server.plain["/downloads/exams.zip"] = DATA
    server.faults = [break_off("exams.zip", 150_000)]
    done = zoo("--dataset", "exams")
    assert done.exit_code == 0, done.stderr
    assert server.asked("GET", "exams.zip")[-1].headers["range"] == "bytes=150000-"
    assert (zoo_home() / "datasets/exams/exams.zip").read_bytes() == DATA


def test_files_that_a_user_brought_are_checked(server: HubServer, declare: Callable[..., None], tmp_path: Path) -> None:
    declare()
    dataset = host().registry.dataset("stories")
    (tmp_path / "train.json").write_bytes(DATA)
    assert find_in_folder(dataset, tmp_path) == {"data/train.json": tmp_path / "train.json"}
    (tmp_path / "train.json").write_bytes(DATA[:-1])
    with pytest.raises(ZooError, match=r"train\.json: its SHA-256 is not the one that dataset stories declares"):
        find_in_folder(dataset, tmp_path)


def test_an_address_that_answers_otherwise(server: HubServer, declare: Callable[..., None]) -> None:
    declare(', sha256: "' + "0" * 64 + '"')
    gone = zoo("--dataset", "exams")
    assert gone.exit_code == 1
    assert "dataset exams: 127.0.0.1" in gone.stderr
    assert "is the declared address still right?" in gone.stderr
    server.plain["/downloads/exams.zip"] = DATA
    wrong = zoo("--dataset", "exams")
    assert "exams.zip arrived wrong (SHA-256" in wrong.stderr
    assert not list((zoo_home() / "datasets/exams").iterdir())
    server.faults = [status(405, "exams", method="HEAD")]
    assert "arrived wrong" in zoo("--dataset", "exams").stderr
    assert "not on this machine" in zoo("--dataset", "exams", "--offline").stderr
