"""How much memory a run takes: what a manifest records, held against the opened package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from zoo_server.served import served_models

import zoo
from tests.checkpoints import make_checkpoint
from tests.engine.made import make_package
from zoo.declarations.memory import WIDENED, RunMemory
from zoo.package.folder import open_package
from zoo.package.layout import lay_out
from zoo.package.running import opening_bytes, recorded_memory, run_memory, stored_bytes
from zoo.plugins import host
from zoo.stages.opening import open_engine, with_memory

pytest.importorskip("torch")


@pytest.mark.parametrize("head_dim", [16, 20])
def test_keys_and_values_are_counted_as_wide_as_the_graph_has_them(tmp_path, head_dim) -> None:
    engine, _ = make_package(tmp_path, head_dim=head_dim)
    memory = engine.package.manifest.memory
    assert memory is not None
    assert memory.kv_bytes_per_token == engine.session.token_bytes
    assert memory.running(101) - memory.running(1) == 100 * engine.session.token_bytes
    (served,) = served_models(host().registry, [str(engine.package.path)])
    assert served.memory == memory


def test_two_numbers_make_the_rest() -> None:
    """Half of what is stored is float16: it is held twice as wide, and takes still more while it is widened."""
    mixed = RunMemory(weights_bytes=100 + 2 * 50, kv_bytes_per_token=3)
    assert mixed.running(7) == 221
    assert mixed.opening(100 + 50) == 100 + round(WIDENED * 50)
    plain = RunMemory(weights_bytes=100, kv_bytes_per_token=3)
    assert plain.opening(100) == 100


def test_a_package_of_an_older_zoo_is_computed_from_its_recipe(tmp_path) -> None:
    engine, _ = make_package(tmp_path, precision="int8")
    path = engine.package.path / "zoo.json"
    data = json.loads(path.read_bytes())
    recorded = data.pop("memory")
    path.write_text(json.dumps(data))
    registry, package = host().registry, open_package(engine.package.path)
    assert package.manifest.memory is None
    assert opening_bytes(package.manifest) == stored_bytes(package.manifest)
    computed = recorded_memory(package.manifest, registry)
    assert computed is not None
    assert computed.model_dump() == recorded
    assert with_memory(registry, package).manifest.memory == computed
    assert open_engine(registry, package.path).package.manifest.memory == computed
    (served,) = served_models(registry, [str(package.path)])
    assert served.memory == computed


def test_a_plan_predicts_what_the_manifest_records(tmp_path) -> None:
    planned = zoo.plan("zoo-tiny", "int4", output=tmp_path / "p")
    memory = zoo.build("zoo-tiny", "int4", output=tmp_path / "p").manifest.memory
    assert memory is not None
    later = zoo.plan("zoo-tiny", "fp16", output=tmp_path / "q")
    halves = zoo.build("zoo-tiny", "fp16", output=tmp_path / "q").manifest.memory
    assert halves is not None
    grown = later.run_memory_bytes - planned.run_memory_bytes
    assert grown == halves.weights_bytes - memory.weights_bytes


MEASURE = """
import sys
import threading
from pathlib import Path
import zoo
from zoo.engine.session import Session

def resident():
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return 1024 * int(fields["RssAnon"].split()[0])

zoo.open(sys.argv[1]).generate([1, 2, 3], max_new_tokens=2, ignore_eos=True)  # everything is imported and warm
before = resident()
engine = zoo.open(sys.argv[2])
engine.generate([1, 2, 3], max_new_tokens=2, ignore_eos=True)
for thread in threading.enumerate():
    if thread.name == "zoo-huge-pages":
        thread.join()  # weights that were mapped are in memory of their own from now on
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the resident set is read from /proc")
def test_a_mixed_package_takes_what_is_recorded(tmp_path: Path) -> None:
    """int8 with its largest weights kept at float16: those are held as float32, twice as wide as they are stored."""
    make_checkpoint(tmp_path / "small", vocab_size=64)
    make_checkpoint(
        tmp_path / "checkpoint", dtype="float16", vocab_size=16000, hidden_size=768, intermediate_size=2048,
        num_hidden_layers=3, num_attention_heads=12, num_key_value_heads=4, initializer_range=0.02,
    )  # fmt: skip
    small = zoo.build(tmp_path / "small", "int8", output=tmp_path / "small8")
    keep = {"embed_tokens": "fp16", "lm_head": "fp16", "mlp.down_proj": "fp16"}
    mixed = zoo.build(tmp_path / "checkpoint", "int8", quantizer_options={"keep": keep}, output=tmp_path / "mixed")
    memory, stored = mixed.manifest.memory, mixed.manifest.files["model.onnx.data"].size
    assert memory is not None
    # The embedding is looked up in the mapped file; the head and the products are widened.
    halves = 2 * (16000 * 768 + 3 * 2048 * 768)
    assert memory.weights_bytes == pytest.approx(stored + halves, rel=0.01)
    assert memory.weights_bytes > 1.35 * stored
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(small.path), str(mixed.path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    mapped = 2 * 16000 * 768  # of the embedding only rows that were looked up are resident
    assert int(done.stdout) == pytest.approx(memory.weights_bytes - mapped, rel=0.1)


def test_what_other_programs_run_records_nothing(tmp_path) -> None:
    written = zoo.build(
        "llama2-7b", "fp16", target="vllm", target_options={"weights": "original"}, output=tmp_path / "v"
    )
    assert written.manifest.memory is None
    layout = lay_out(written.manifest.recipe, host().registry)
    assert run_memory(layout) is None
