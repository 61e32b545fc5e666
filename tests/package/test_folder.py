"""Opening a package: every file there and unchanged, no weights from elsewhere."""

from __future__ import annotations

import json
import os

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tests.builds import architecture, make_recipe, registry, write_checkpoint
from zoo.declarations.base import digest
from zoo.errors import ZooError
from zoo.package import open_package
from zoo.package.external import external_extents
from zoo.package.folder import check_hashes, read_manifest
from zoo.sources.folder import open_folder
from zoo.stages.build import build


@pytest.fixture
def package(tmp_path):
    opened = open_folder(write_checkpoint(tmp_path / "ck", architecture()))
    return build(make_recipe(architecture()), opened, tmp_path / "out", registry())


def external_tensor(location):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="length", value="8")
    tensor.external_data.add(key="location", value=location)
    return tensor


def model(*tensors, nested=()):
    nodes = []
    if nested:
        inner = helper.make_graph([], "inner", [], [], list(nested))
        nodes = [helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)]
        nodes.append(helper.make_node("Constant", [], ["k"], value=nested[0]))
    return helper.make_model(helper.make_graph(nodes, "g", [], [], list(tensors)))


def add_file(package, name, raw):
    """Put a file into a package as if it had been built so."""
    import hashlib

    (package.path / name).write_bytes(raw)
    data = json.loads((package.path / "zoo.json").read_text())
    data["files"][name] = {"size": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    (package.path / "zoo.json").write_text(json.dumps(data))


def test_opens_what_was_built(package):
    assert open_package(package.path, hashes=True) == package


@pytest.mark.parametrize("name", ["weights.data", "config.json", "graph.json"])
def test_a_missing_longer_or_shorter_file(package, name):
    path = package.path / name
    raw = path.read_bytes()
    for content in (raw + b" ", raw[:-1]):
        path.write_bytes(content)
        with pytest.raises(ZooError, match=rf"out/{name}: {len(content)} bytes, zoo\.json says {len(raw)}"):
            open_package(package.path)
    path.unlink()
    with pytest.raises(ZooError, match=f"out/{name}: missing"):
        open_package(package.path)


def test_a_changed_byte_is_found_by_the_hashes(package):
    path = package.path / "weights.data"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)
    for again in (False, True):
        with pytest.raises(ZooError, match=r"out/weights\.data: its SHA-256"):
            open_package(package.path, hashes=again)
    with pytest.raises(ZooError, match="SHA-256"):
        check_hashes(package.path, package.manifest)


def test_a_file_that_is_a_link_out_of_the_package(package, tmp_path):
    (package.path / "weights.data").rename(tmp_path / "elsewhere")
    (package.path / "weights.data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ZooError, match="is a link"):
        open_package(package.path)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "other.data", "sub/../../x", ""])
@pytest.mark.parametrize("where", ["plain", "nested"])
def test_weights_kept_outside_the_package_are_refused(package, location, where):
    tensor = external_tensor(location)
    raw = (model(tensor) if where == "plain" else model(nested=[tensor])).SerializeToString()
    add_file(package, "model.onnx", raw)
    with pytest.raises(ZooError, match=r"out/model\.onnx: keeps weights in"):
        open_package(package.path)


def test_weights_kept_in_a_file_of_the_package_are_fine(package):
    add_file(
        package,
        "model.onnx",
        model(external_tensor("weights.data"), external_tensor("weights.data")).SerializeToString(),
    )
    open_package(package.path)
    extents = external_extents((package.path / "model.onnx").read_bytes(), "m")
    assert [one.location for one in extents] == ["weights.data"] * 2


def test_a_graph_that_is_none(package):
    add_file(package, "model.onnx", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
    with pytest.raises(ZooError, match="not an ONNX model"):
        open_package(package.path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_graphs_never_end_in_a_traceback(tmp_path, data):
    raw = bytearray(model(external_tensor("a"), nested=[external_tensor("b")]).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "m.onnx").write_bytes(raw)
    try:
        found = {one.location for one in external_extents(bytes(raw), "m")}
    except ZooError:
        return
    # Where onnx reads it too, nothing that it would load is missed.
    try:
        parsed = onnx.load(str(tmp_path / "m.onnx"), load_external_data=False)
    except Exception:
        return
    for tensor in parsed.graph.initializer:
        wanted = [one.value for one in tensor.external_data if one.key == "location"]
        wanted = [one.decode("utf-8", "replace") if isinstance(one, bytes) else one for one in wanted]
        assert set(wanted) <= found


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.update(recipe_hash="0" * 64), "does not have the hash"),
        (lambda d: d["recipe"].update(precision="int4"), "does not have the hash"),
        (lambda d: d.update(surprise=1), "surprise"),
        (lambda d: d.pop("files"), "files"),
        (lambda d: d["files"].update({"../x": {"size": 1, "sha256": "0" * 64}}), "is not a name of a file inside"),
        (lambda d: d["files"].update({"/x": {"size": 1, "sha256": "0" * 64}}), "is not a name of a file inside"),
        (lambda d: d["files"].update({"zoo.json": {"size": 1, "sha256": "0" * 64}}), "is not a name of a file inside"),
        (lambda d: d["files"].update({"x": {"size": 1, "sha256": "z"}}), "files.x.sha256"),
        (lambda d: d.update(format_version=3), "format_version"),
    ],
)
def test_a_manifest_that_was_edited(package, edit, message):
    path = package.path / "zoo.json"
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))
    with pytest.raises(ZooError, match=message) as caught:
        open_package(package.path)
    assert str(caught.value).startswith("out/zoo.json: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"files": 1e999}'])
def test_a_manifest_that_is_none(package, raw):
    (package.path / "zoo.json").write_bytes(raw)
    with pytest.raises(ZooError, match=r"out/zoo\.json") as caught:
        read_manifest(package.path)
    assert "\n" not in str(caught.value)


def test_folders_that_are_no_package(tmp_path):
    with pytest.raises(ZooError, match="no such package"):
        open_package(tmp_path / "gone")
    with pytest.raises(ZooError, match=r"holds no zoo\.json"):
        open_package(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match="not a folder"):
        open_package(tmp_path / "file")


def test_a_file_without_permission(package):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (package.path / "zoo.json").chmod(0)
    with pytest.raises(ZooError, match="Permission denied"):
        open_package(package.path)


def first_format(package):
    """Make a package's manifest the one that the first version wrote, and return its recipe's hash."""
    path = package.path / "zoo.json"
    data = json.loads(path.read_text())
    recipe = data["recipe"]
    weights = recipe["weights"]
    recipe["weights"] = {"hub": None, "revision": None, "fingerprint": weights["digest"]}
    recipe["format_version"] = data["format_version"] = 1
    hashed = {name: value for name, value in recipe.items() if name not in ("model", "family", "licence")}
    hashed.pop("allow_nonfinite")
    data["recipe_hash"] = digest(hashed)
    path.write_text(json.dumps(data))
    return data["recipe_hash"]


def test_a_package_of_the_first_format_opens_under_its_own_hash(package):
    recipe_hash = first_format(package)
    opened = open_package(package.path, hashes=True)
    assert (opened.manifest.format_version, opened.manifest.recipe_hash) == (1, recipe_hash)
    assert opened.manifest.recipe.weights.digest == package.manifest.recipe.weights.digest
    path = package.path / "zoo.json"
    path.write_text(path.read_text().replace('"int8"', '"int4"'))
    with pytest.raises(ZooError, match="does not have the hash it states; it was edited"):
        open_package(package.path)
