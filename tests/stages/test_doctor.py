"""The doctor: each thing that can be missing is found, named and comes with what mends it."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hubserver import HubServer
from tests.sources.conftest import server  # noqa: F401  a fixture
from zoo import plugins
from zoo.errors import UsageError, ZooError
from zoo.stages.doctor import Diagnosis, Finding, diagnose, hardware, pinned_requirements, software

GB = 10**9


def look(model: str | None = None, target: str = "ort", **options) -> Diagnosis:
    return diagnose(plugins.host(), model, target, **options)


def finding(found: Diagnosis, check: str, subject: str) -> Finding:
    return next(one for one in found.findings if one.check == check and subject in one.subject)


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this machine memory and disk enough for anything."""
    monkeypatch.setattr(hardware, "memory_limit", lambda: (1000 * GB, 900 * GB))
    monkeypatch.setattr(hardware, "free_space", lambda folder: 4000 * GB)


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def make(name: str, source: str) -> None:
        (folder / name).write_text(f"#!{sys.executable}\n{textwrap.dedent(source)}")
        (folder / name).chmod(0o755)

    return make


def test_a_bundled_model_lacks_nothing(roomy) -> None:
    found = look("zoo-tiny")
    assert found.ok
    assert finding(found, "weights", "").status == "ok"
    assert finding(found, "python", "python").found.startswith("3.")


def test_every_finding_that_is_not_fine_says_what_mends_it(roomy, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    for model, target in ((None, "ort"), ("llama-33b", "ort"), ("llama2-70b", "vamc"), ("zoo-tiny", "llmdeploy")):
        for one in look(model, target).findings:
            assert one.status == "ok" or one.mend or one.check == "cpu", one


@pytest.mark.parametrize(
    ("precision", "wanted", "absent"),
    [
        ("int8", ["MatMulNBits 8 bit", "GatherBlockQuantized 8 bit"], ["MatMulNBits 4 bit", "FusedMatMul"]),
        ("int4", ["MatMulNBits 4 bit"], ["FusedMatMul"]),
        ("fp16", ["FusedMatMul"], ["MatMulNBits 8 bit", "MatMulNBits 4 bit"]),
    ],
)
def test_it_tries_the_kernels_that_the_build_would_use(roomy, precision, wanted, absent) -> None:
    names = {one.subject for one in look("zoo-tiny", precision=precision).findings if one.check == "kernel"}
    assert {*wanted, "SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization"} <= names
    assert "GroupQueryAttention 8/2 heads of 32" in names
    assert names.isdisjoint(absent)


def test_the_operators_tried_are_those_of_the_graph(roomy, tmp_path) -> None:
    """A kernel that a package needs and no probe tries would be found too late."""
    import onnx

    import zoo

    for precision in ("int8", "int4", "fp16"):
        package = zoo.build("zoo-tiny", precision, output=tmp_path / precision)
        graph = onnx.load(package.path / "model.onnx", load_external_data=False).graph
        special = [one for one in graph.node if one.domain or one.op_type == "SimplifiedLayerNormalization"]
        used = {f"{one.op_type} {bits.i} bit" if (bits := _bits(one)) else one.op_type for one in special}
        assert len(used) >= 4
        tried = {
            one.subject.split(" heads")[0].rsplit(" ", 1)[0] if "heads" in one.subject else one.subject
            for one in look("zoo-tiny", precision=precision).findings
            if one.check == "kernel"
        }
        tried |= {"QuickGelu"} if "activation silu" in tried else set()
        assert used <= tried


def _bits(node):
    return next((one for one in node.attribute if one.name == "bits"), None)


def test_a_kernel_that_computes_nonsense_is_missing(roomy, monkeypatch) -> None:
    import numpy as np

    from zoo.targets.ort import probes

    monkeypatch.setattr(probes, "run_node", lambda *_, **__: [np.zeros(3)])
    found = look("zoo-tiny")
    one = finding(found, "kernel", "MatMulNBits 8 bit")
    assert (one.status, found.ok) == ("missing", False)
    assert "not [128" in one.found
    assert one.mend is not None
    assert "pip install" in one.mend


def test_a_kernel_that_onnxruntime_lacks(roomy) -> None:
    from zoo.targets.ort.probes import run_node

    with pytest.raises(Exception, match="NoSuchOperator"):
        run_node("com.microsoft::NoSuchOperator", {})


def test_an_old_package(roomy, monkeypatch) -> None:
    real = software.installed
    monkeypatch.setattr(software, "installed", lambda name: "1.2.0" if name == "onnxruntime" else real(name))
    found = look("zoo-tiny")
    one = finding(found, "package", "onnxruntime")
    assert (one.status, found.ok) == ("missing", False)
    assert one.found.startswith("1.2.0, needs >=1")
    assert one.mend is not None
    assert one.mend.startswith("pip install 'onnxruntime>=1")


def test_a_package_that_is_not_installed(roomy, monkeypatch) -> None:
    real = software.installed
    monkeypatch.setattr(software, "installed", lambda name: None if name == "tokenizers" else real(name))
    one = finding(look("zoo-tiny"), "package", "tokenizers")
    assert (one.status, one.found) == ("missing", "not installed")


def test_tested_versions_are_compared(roomy, monkeypatch) -> None:
    monkeypatch.setattr(software, "installed", lambda name: {"torch": "2.1.0", "onnx": "1.20.0"}.get(name))
    tested = list(software.tested_versions({"torch": "2.1.0", "onnx": "1.14.0", "onnxsim": "0.4.28"}, "llama-33b"))
    assert [one.status for one in tested] == ["ok", "note", "note"]
    assert tested[1].found == "1.20.0; the family was tested with 1.14.0"
    assert tested[2].found.startswith("not installed")
    assert "--requirements" in (tested[1].mend or "")


def test_memory_is_held_against_the_plan(roomy, monkeypatch) -> None:
    monkeypatch.setattr(hardware, "memory_limit", lambda: (16 * GB, 12 * GB))
    found = look("llama-33b", "ort")
    build, run = finding(found, "memory", "build"), finding(found, "memory", "run")
    # 33B at int8 runs in some 40 GB, and builds in a fraction of one.
    assert build.status == "ok"
    assert run.status == "missing"
    assert 33 < float(run.found.split()[1]) < 50
    assert "-p int4" in (run.mend or "")
    monkeypatch.setattr(hardware, "memory_limit", lambda: (64 * GB, 12 * GB))
    assert finding(look("llama-33b"), "memory", "run").status == "warning"


def test_disk_is_held_against_the_plan(monkeypatch) -> None:
    monkeypatch.setattr(hardware, "free_space", lambda folder: 40 * GB)
    found = look("llama-33b")
    assert finding(found, "disk", "packages").status == "ok"
    # 65 GB to download beside 34 GB to write, on one disk of 40.
    cache = finding(found, "disk", "hub cache")
    assert cache.status == "missing"
    assert 98 < float(cache.found.split()[1]) < 101
    assert "HF_HOME" in (cache.mend or "")
    assert not [one for one in look("zoo-tiny").findings if one.subject == "hub cache"]


def test_weights_that_are_not_here_with_the_network_off(roomy) -> None:
    found = look("llama-33b")
    one = finding(found, "weights", "alexl83/LLaMA-33B-HF")
    assert (one.status, found.ok) == ("missing", False)
    assert "network is off" in one.found
    assert "zoo fetch llama-33b" in (one.mend or "")
    # A target that reads no weights does not need them.
    assert finding(look("llama-33b", "vastgenx"), "weights", "alexl83").status == "note"


def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    folder = tmp_path / "families"
    folder.mkdir()
    (folder / "example.yaml").write_text(text)
    monkeypatch.setenv("ZOO_PATH", str(folder))
    plugins.host.cache_clear()


def test_the_hub_hands_them_out(roomy, server: HubServer, tmp_path, monkeypatch, family_yaml) -> None:  # noqa: F811
    server.add("example/one", files={"config.json": b"{}", "model.safetensors": b"", "README.md": b""})
    family(tmp_path, monkeypatch, family_yaml())
    found = look("example-1b")
    assert finding(found, "hub", "example/one").status == "ok"
    assert finding(found, "weights", "example/one").status == "note"
    assert found.ok, [one for one in found.findings if one.status == "missing"]


def test_the_hub_keeps_them_back(roomy, server: HubServer, tmp_path, monkeypatch, family_yaml) -> None:  # noqa: F811
    files = {"config.json": b"{}", "model.safetensors": b""}
    server.add("example/one", files=files, gated=True, token="right")
    text = family_yaml().replace("licence: {id: mit}", "licence: {id: mit, gated: true}")
    family(tmp_path, monkeypatch, text)
    found = look("example-1b")
    one = finding(found, "hub", "example/one")
    assert (one.status, found.ok) == ("missing", False)
    assert "hf auth login" in (one.mend or "")
    assert "example/one" in (one.mend or "")
    assert finding(found, "hub", "token").status == "note"
    monkeypatch.setenv("HF_TOKEN", "right")
    found = look("example-1b")
    assert found.ok
    assert finding(found, "hub", "token").found == "set"
    assert "right" not in found.model_dump_json().replace('"status"', "")


def test_no_hub_there(roomy, server: HubServer, tmp_path, monkeypatch, family_yaml) -> None:  # noqa: F811
    family(tmp_path, monkeypatch, family_yaml())
    found = look("example-1b")
    one = finding(found, "hub", "example/one")
    assert (one.status, found.ok) == ("missing", False)
    assert one.mend == "zoo fetch example-1b"


TOOLS = {
    "absent": (None, "missing", "not on the PATH"),
    "old": ("print('vamc version 2.9.1')", "missing", "v2.9.1; v3.0 or newer"),
    "exact": ("print('3.0')", "ok", "v3.0"),
    "new, on stderr": ("import sys; print('vamc v3.12.4', file=sys.stderr)", "ok", "v3.12.4"),
    "says nothing": ("", "warning", "prints no version"),
    "fails": ("raise SystemExit('broken')", "warning", "prints no version"),
}


@pytest.mark.parametrize("case", TOOLS)
def test_the_target_s_tools(roomy, tool, monkeypatch, case) -> None:
    source, status, message = TOOLS[case]
    if source is None:
        monkeypatch.setenv("PATH", "/nowhere")
    else:
        tool("vamc", source)
    found = look("llama2-7b", "vamc")
    one = finding(found, "tool", "vamc")
    assert (one.status, found.ok) == (status, status != "missing")
    assert message in one.found


def test_a_tool_that_hangs_is_not_waited_for(roomy, tool, monkeypatch) -> None:
    tool("vamc", "import time; time.sleep(60)")
    monkeypatch.setattr(software, "_PATIENCE", 0.2)
    assert finding(look("llama2-7b", "vamc"), "tool", "vamc").status == "warning"


def test_tools_of_other_targets_are_only_noted(roomy, tool) -> None:
    tool("llmdeploy", "print('1.5')")
    found = look("zoo-tiny")
    assert found.ok
    assert finding(found, "tool", "llmdeploy").status == "note"
    assert not look("zoo-tiny", "llmdeploy").ok


def test_a_failed_plugin_is_named(roomy, install_plugin, capsys) -> None:
    install_plugin("bad", "raise RuntimeError('boom')")
    found = look("zoo-tiny")
    one = finding(found, "plugin", "bad")
    assert (one.status, found.ok) == ("warning", True)
    assert "boom" in one.found
    assert "example-bad" in (one.mend or "")


def test_a_target_that_cannot_be_imported_hides_nothing_of_the_others(roomy, install_plugin) -> None:
    source = """
        from zoo import hookimpl
        @hookimpl
        def register_targets(register):
            register("half", "no_such_module:Half")
    """
    install_plugin("halfway", textwrap.dedent(source))
    for model in (None, "zoo-tiny"):
        found = look(model)
        one = finding(found, "plugin", "target half")
        assert (found.ok, one.status) == (True, "warning")
        assert "no_such_module" in one.found
        assert finding(found, "tool", "vllm")
    with pytest.raises(ZooError, match="no_such_module"):
        look("zoo-tiny", "half")


def test_requirements() -> None:
    registry = plugins.host().registry
    assert pinned_requirements(registry, "llama-33b") == [
        "protobuf==3.20.3",
        "torch==2.1.0",
        "onnx==1.14.0",
        "onnxsim==0.4.28",
        "onnxruntime==1.13.1",
        "accelerate==0.25.0",
        "transformers==4.34.0",
    ]
    with pytest.raises(ZooError, match="states the versions"):
        pinned_requirements(registry, "zoo-tiny")
    with pytest.raises(UsageError, match="did you mean llama-33b"):
        pinned_requirements(registry, "lama-33b")


def test_a_broken_rule_is_no_finding_but_an_error(roomy, tmp_path, monkeypatch, family_yaml) -> None:
    family(tmp_path, monkeypatch, family_yaml() + "targets: {vamc: {tp: 3}}\n")
    with pytest.raises(ZooError, match="does not divide the 4 attention heads"):
        look("example-1b", "vamc")


@pytest.mark.parametrize("brings", ["the command zoo", "the package zoo", "the command zoo and the package zoo"])
def test_another_distribution_with_a_zoo_of_its_own_is_named(tmp_path, monkeypatch, brings) -> None:
    info = tmp_path / "site" / "zoo_framework-0.2.8.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zoo-framework\nVersion: 0.2.8\n")
    if "command" in brings:
        (info / "entry_points.txt").write_text("[console_scripts]\nzoo = theirs:main\n")
    (info / "RECORD").write_text("zoo/__init__.py,,\n" if "package" in brings else "zoology/__init__.py,,\n")
    before = list(software.other_owners())
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    (found,) = [one for one in software.other_owners() if one not in before]
    assert (found.subject, found.status) == ("zoo-framework", "warning")
    assert found.found == f"0.2.8 brings {brings} of its own"
    assert found.mend == "pip uninstall zoo-framework && pip install --force-reinstall --no-deps model-zoo-framework"


def test_an_installation_under_no_name_is_said(monkeypatch) -> None:
    monkeypatch.setattr(software, "DISTRIBUTION", "no-such-distribution")
    found = [one for one in software.python_and_packages() if one.subject == "no-such-distribution"]
    assert [one.status for one in found] == ["warning"]
