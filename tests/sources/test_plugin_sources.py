"""Sources and transforms that a plugin brings, built end to end without a line in the core."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.checkpoints import make_checkpoint
from zoo.cli import app
from zoo.errors import UsageError, ZooError
from zoo.package.folder import open_package, read_manifest
from zoo.plugins import host
from zoo.stages.request import Request
from zoo.stages.resolve import resolve
from zoo.testing.checkpoint import write_tokenizer

PLUGIN = '''
import hashlib
import json
from pathlib import Path

import numpy as np
from pydantic import BaseModel
from zoo import TensorInfo, TransformedCheckpoint, TransformPin, ZooError, hookimpl

TYPES = {"float32": "F32", "float16": "F16"}


class Archive:
    """One ``.npz`` file that holds everything: weights, and the other files as text."""

    transforms, checksums, revision, folder, download_bytes = (), {}, None, None, 0

    def __init__(self, path):
        self.path, self.name, self.texts, self.arrays = path, path.stem, {}, {}
        with np.load(path) as stored:
            for name in stored.files:
                if name.startswith("file:"):
                    self.texts[name.removeprefix("file:")] = stored[name].tobytes()
                else:
                    self.arrays[name] = stored[name]
        self.config = json.loads(self.texts["config.json"])
        self.tensors = {
            name: TensorInfo(name, TYPES[one.dtype.name], one.shape, one.nbytes, path.name)
            for name, one in self.arrays.items()
        }
        self.digest = hashlib.sha256(path.read_bytes()).hexdigest()

    def read(self, name, start, stop, out=None):
        return self.arrays[name][start:stop]

    def companion(self, name):
        return self.texts.get(name)

    def companions(self):
        return tuple(sorted(self.texts))

    def stamps(self):
        status = self.path.stat()
        return {self.path.name: (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)}

    def bring(self, progress=None):
        return self

    def close(self):
        pass


class Archives:
    def recognise(self, location):
        return location.endswith(".npz") and Path(location).is_file()

    def open(self, location, *, revision, offline):
        return Archive(Path(location))


class Scaled(TransformedCheckpoint):
    @property
    def config(self):
        return {name: value for name, value in super().config.items() if name != "quantization_config"}

    def read(self, name, start, stop, out=None):
        return super().read(name, start, stop, out) * self.factor


class Scale:
    """Multiplies every weight."""

    class Options(BaseModel, extra="forbid"):
        factor: float = 2.0

    quant_methods = ("scaled",)

    def apply(self, checkpoint, options):
        wrapped = Scaled(checkpoint, TransformPin(kind="scale", options=options.model_dump()))
        wrapped.factor = np.float32(options.factor)
        return wrapped


class Silent(Scale):
    """Forgets to say what it did."""

    quant_methods = ()

    def apply(self, checkpoint, options):
        wrapped = super().apply(checkpoint, options)
        wrapped.pin = wrapped.pin.model_copy(update={"kind": "other"})
        return wrapped


@hookimpl
def register_sources(register):
    register("archive", f"{__name__}:Archives")
    register.transform("scale", f"{__name__}:Scale")
    register.transform("silent", f"{__name__}:Silent")
'''


@pytest.fixture
def folder(tmp_path):
    make_checkpoint(tmp_path / "small", dtype="float32")
    write_tokenizer(tmp_path / "small")
    return tmp_path / "small"


@pytest.fixture
def archive(tmp_path, folder):
    """The same checkpoint, in one file of the plugin's kind."""
    from safetensors.numpy import load_file

    content = load_file(folder / "model.safetensors")
    for path in folder.iterdir():
        if path.suffix == ".json":
            content[f"file:{path.name}"] = np.frombuffer(path.read_bytes(), np.uint8)
    np.savez(tmp_path / "packed.npz", **content)
    return tmp_path / "packed.npz"


@pytest.fixture(autouse=True)
def _plugin(install_plugin):
    install_plugin("archives", PLUGIN)


def resolved(model, **options):
    return resolve(host().registry, Request(str(model), "fp32", **options))


def build(model, output, *options):
    result = CliRunner().invoke(app, ["build", str(model), "-p", "fp32", "-o", str(output), *options])
    assert result.exit_code == 0, result.output
    return open_package(output)


def data(package):
    return (package.path / "model.onnx.data").read_bytes()


def test_a_file_of_a_plugins_kind_builds_what_the_folder_builds(tmp_path, folder, archive):
    mine, plain = build(archive, tmp_path / "a"), build(folder, tmp_path / "b")
    assert data(mine) == data(plain)
    assert (mine.path / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert mine.manifest.recipe.model == "packed"
    assert mine.manifest.recipe.weights.hub is None
    assert str(tmp_path) not in (mine.path / "zoo.json").read_text()


def test_weights_of_a_declared_model_may_lie_in_such_a_file(tmp_path, archive, install_plugin, family_yaml):
    from tests.conftest import REGISTER_FAMILY

    install_plugin("example", REGISTER_FAMILY, family__yaml=family_yaml(claims="[llama]"))
    config = json.loads(resolved(archive).checkpoint.companion("config.json"))
    assert config["hidden_size"] == 64
    recipe = resolved("example/example-1b", weights=str(archive)).recipe
    assert (recipe.model, recipe.weights.digest) == ("example-1b", resolved(archive).recipe.weights.digest)


def test_a_transform_is_pinned_and_changes_the_recipe(tmp_path, folder):
    plain, scaled = (
        build(folder, tmp_path / "plain"),
        build(folder, tmp_path / "scaled", "--transform", "scale:factor=3"),
    )
    (pin,) = scaled.manifest.recipe.weights.transforms
    assert (pin.kind, pin.options) == ("scale", {"factor": 3.0})
    assert plain.manifest.recipe.weights.transforms == ()
    assert plain.manifest.recipe_hash != scaled.manifest.recipe_hash
    assert scaled.manifest.recipe_hash != resolved(folder, transforms=[("scale", {})]).recipe.hash
    assert read_manifest(tmp_path / "scaled") == scaled.manifest
    array = np.frombuffer(data(plain), np.float32)
    weights = np.frombuffer(data(scaled), np.float32)
    assert np.array_equal(weights[array != 1], 3 * array[array != 1])


def test_a_transform_claims_the_quant_method_of_a_checkpoint(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "scaled"}}))
    assert [pin.kind for pin in resolved(folder).recipe.weights.transforms] == ["scale"]
    twice = resolved(folder, transforms=[("scale", {"factor": 0.5})]).recipe.weights.transforms
    assert [pin.options["factor"] for pin in twice] == [2.0, 0.5]


def test_a_transform_that_does_not_say_what_it_did_is_refused(folder):
    with pytest.raises(ZooError, match="'silent' does not record"):
        resolved(folder, transforms=[("silent", {})])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [("scael", {}, "did you mean scale"), ("scale", {"by": 1}, "unknown option of transform 'scale'")],
)
def test_a_wrong_transform_is_wrong_usage(folder, name, options, message):
    with pytest.raises(UsageError, match=message):
        resolved(folder, transforms=[(name, options)])


def test_two_sources_of_one_location_are_named(archive, install_plugin):
    install_plugin("twin", PLUGIN.replace('"archive", f', '"twin", f').replace("register.transform", "print"))
    with pytest.raises(ZooError, match=r"packed\.npz: the sources 'archive' and 'twin' both recognise it"):
        resolved(archive)


def test_a_source_that_fails_to_look_leaves_the_others_alone(folder, install_plugin, caplog):
    broken = PLUGIN.replace('"archive", f', '"broken", f').replace("register.transform", "print")
    install_plugin("broken", broken.replace("return location.endswith", "return location.ends_with"))
    assert resolved(folder).recipe.weights.digest
    assert any("source 'broken' failed on" in line and "AttributeError" in line for line in caplog.messages)


def test_plugins_lists_what_it_brought():
    rows = json.loads(CliRunner().invoke(app, ["plugins", "--json"]).stdout)
    assert next(one for one in rows if one["name"] == "archives")["registered"] == {
        "sources": ["archive"],
        "transforms": ["scale", "silent"],
    }
