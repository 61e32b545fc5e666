"""The tests themselves. ``from zoo.testing import *`` brings them into a plugin's test file."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import ZooError
from zoo.operations import missing
from zoo.package import open_package
from zoo.plugins import PluginRecord, host
from zoo.registry import DeclaredModel
from zoo.stages.listing import list_models
from zoo.stages.request import Request
from zoo.testing.case import Case

__all__ = [
    "test_a_build_reads_slab_by_slab",
    "test_a_chat_template_renders",
    "test_an_interrupted_build_ends_in_the_same_bytes",
    "test_every_precision_builds_as_planned",
    "test_every_target_takes_the_model",
    "test_the_declaration_is_what_a_checkpoint_says",
    "test_the_engine_computes_what_the_reference_computes",
    "test_the_model_is_listed",
    "test_the_plugin_loads",
    "test_the_tokenizer_is_the_checkpoints",
]

GREEDY_TOKENS = 56
TOLERANCE = 1e-3
"""Largest difference of a logit, float32 against float32."""
APART = {"fp32": 1e-5, "fp16": 5e-3, "int8": 0.15, "int4": 0.8}
"""Root mean square difference to the fp32 logits of random weights, in standard deviations of a logit."""
CONVERSATIONS: tuple[list[dict[str, str]], ...] = (
    [{"role": "user", "content": "What is a llama?"}],
    [
        {"role": "user", "content": "What is a llama?"},
        {"role": "assistant", "content": "A camelid."},
        {"role": "user", "content": "Where does it live?"},
    ],
)


def test_the_plugin_loads(zoo_plugin: PluginRecord) -> None:
    """The plugin is installed, loads without an error, and declares a model."""
    assert zoo_plugin.status == "loaded", zoo_plugin.error
    assert zoo_plugin.registered.get("models"), "it declares no model; there is nothing to test"


def test_the_model_is_listed(zoo_model: DeclaredModel) -> None:
    """`zoo list` and `zoo show` know the model, under the name that is never ambiguous."""
    from zoo.stages.describe import describe

    registry = host().registry
    (entry,) = list_models(registry, zoo_model.full_name)
    assert entry.parameters > 0
    assert entry.licence
    shown = describe(registry, zoo_model.full_name)
    assert shown.model == zoo_model.full_name
    assert {"licence", "weights", "architecture"} <= shown.fields.keys()


def test_the_declaration_is_what_a_checkpoint_says(zoo_case: Case) -> None:
    """A checkpoint with the declared quirks reads back as the declaration, and holds every tensor that is read."""
    from zoo.stages.resolve import implied

    resolved = zoo_case.resolve()
    assert resolved.checkpoint is not None
    assert resolved.recipe.architecture == zoo_case.arch
    part = zoo_case.registry.architecture(zoo_case.arch.type)
    unsaid = implied(zoo_case.registry, zoo_case.declared, resolved.checkpoint)
    assert part.read_config(resolved.checkpoint.config, unsaid) == zoo_case.arch
    expected = part.tensors(zoo_case.arch)
    held = {name: one.shape for name, one in resolved.checkpoint.tensors.items()}
    assert {name: held.get(name) for name in expected} == expected
    read = {each.tensor for parameter in part.parameters(zoo_case.arch) for each in parameter.slices}
    assert read == set(expected)


def test_every_precision_builds_as_planned(zoo_case: Case) -> None:
    """Every precision builds, takes the bytes that were predicted, opens, and stays near fp32."""
    import numpy as np

    ids = _prompt(zoo_case, 40)
    exact = _computed(zoo_case.engine("fp32"), ids)
    for precision in zoo_case.precisions():
        plan, package = zoo_case.plan(precision), zoo_case.package(precision)
        assert package.manifest.recipe_hash == plan.recipe_hash
        size = sum(path.stat().st_size for path in package.path.iterdir())
        assert abs(size - plan.write_bytes) <= max(8192, 0.01 * size), precision
        stored = sum(written_file.nbytes for written_file in plan.writes)
        assert stored <= sum(record.size for record in package.manifest.files.values())
        open_package(package.path, hashes=True)
        logits = _computed(zoo_case.engine(precision), ids)
        assert np.isfinite(logits).all(), precision
        off = np.mean((logits - exact) ** 2, -1)
        # A router now and then chooses another expert where weights are rounded: then the middle position tells.
        mean = np.median(off) if zoo_case.arch.num_experts is not None else np.mean(off)
        apart = float(np.sqrt(mean) / exact.std())
        assert apart <= APART.get(precision, 1.0), f"{precision}: {apart:.3f} standard deviations from fp32"


def test_the_engine_computes_what_the_reference_computes(zoo_case: Case) -> None:
    """Logits or states of every position within 1e-3 of the reference, and greedy tokens that it would choose."""
    import numpy as np

    engine, ids = zoo_case.engine("fp32"), _prompt(zoo_case, 48)
    wanted = _reference(zoo_case, ids)
    assert float(np.abs(_computed(engine, ids) - wanted).max()) <= TOLERANCE
    if not _generates(engine):
        return
    prompt, steps = ids[:8], min(GREEDY_TOKENS, engine.context_length - 8)
    answer = engine.generate(prompt, max_new_tokens=steps, ignore_eos=True).token_ids
    choices = _reference(zoo_case, prompt + answer)[len(prompt) - 1 : -1].argmax(-1)
    assert answer == choices.tolist()


def _generates(engine: Any) -> bool:
    return "embeddings" not in engine.abilities and "scores" not in engine.abilities


def _computed(engine: Any, ids: list[int]) -> Any:
    """The logits of every position, (tokens, vocabulary), or an encoder's states, (tokens, width).

    Of a classifier the logits of every eighth beginning, (beginnings, labels).
    """
    import numpy as np

    if _generates(engine):
        return engine.logits(ids)
    from zoo.embedding.tokens import TextTokens

    texts = [TextTokens(text, [0] * len(text)) for text in _beginnings(engine, ids)]
    results = engine.session.run(texts, lambda result: result.copy())
    return np.stack(results) if engine.labels else results[0]


def _beginnings(engine: Any, ids: list[int]) -> list[list[int]]:
    return [ids[:end] for end in range(8, len(ids) + 1, 8)] if engine.labels else [ids]


def _reference(case: Case, ids: list[int]) -> Any:
    """The same: by ``REFERENCE`` of the test file, else by transformers."""
    if case.reference is not None:
        return case.reference(case.checkpoint, ids)
    torch = pytest.importorskip("torch", reason="parity needs `pip install 'model-zoo-framework[verify]'`")
    transformers = pytest.importorskip(
        "transformers", reason="parity needs `pip install 'model-zoo-framework[verify]'`"
    )
    part, checkpoint = case.registry.architecture(case.arch.type), case.resolve().checkpoint
    assert checkpoint is not None
    from zoo.verify.reference import TransformersReference, knows
    from zoo.verify.references import all_logits, find_reference

    engine = case.engine("fp32")
    if not _generates(engine):
        import numpy as np

        from zoo.verify.embeddings import reference_of

        results = list(map(reference_of(checkpoint, part, case.arch)[1], _beginnings(engine, ids)))
        return np.stack(results) if engine.labels else results[0]
    if not knows(checkpoint, part, case.arch):
        if case.own_operations_suffice:
            return all_logits(find_reference(checkpoint, part, case.arch), ids)
        pytest.fail(f"transformers has no {case.model_type!r}; state REFERENCE in the test file")
    longrope = case.arch.rope_scaling is not None and case.arch.rope_scaling.rope_type == "longrope"
    otherwise = case.arch.experts_in_turn or longrope  # in transformers' own loading, not in what is computed
    if checkpoint.config.get("model_type") not in transformers.CONFIG_MAPPING or otherwise:
        return all_logits(TransformersReference(checkpoint, part, case.arch), ids)
    model = transformers.AutoModelForCausalLM.from_pretrained(case.checkpoint, dtype=torch.float32).eval()
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0].float().numpy()


def test_the_tokenizer_is_the_checkpoints(zoo_case: Case) -> None:
    """A package turns text into the ids of the checkpoint's own tokenizer, and back."""
    from tokenizers import Tokenizer

    file = zoo_case.checkpoint / "tokenizer.json"
    if not file.is_file():
        pytest.skip("the checkpoint has no tokenizer.json")
    text = "Once upon a time, naïve llamas wrote 3 lines:\n\tdone."
    own, engine = Tokenizer.from_file(str(file)), zoo_case.engine("fp32")
    assert engine.encode(text) == own.encode(text).ids
    assert engine.tokenizer is not None
    assert max(engine.encode(text)) < zoo_case.arch.vocab_size


def test_a_chat_template_renders(zoo_model: DeclaredModel) -> None:
    """A declared chat template writes what people said, and says the same thing twice."""
    from zoo.engine.chat import render

    template = zoo_model.chat_template
    if template is None:
        pytest.skip("no chat template is declared; the checkpoint's own is used")
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    for messages in CONVERSATIONS:
        text = render(template, messages, special)
        assert all(message["content"] in text for message in messages)
        assert text == render(template, messages, special)


def test_a_build_reads_slab_by_slab(zoo_case: Case) -> None:
    """A build takes the memory that was planned, and far less than its checkpoint."""
    if zoo_case.declared.weights_folder is not None:
        pytest.skip("the weights are the plugin's own, and small")
    folder, size = zoo_case.empty_checkpoint()
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(folder), str(zoo_case.folder / "measured")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["peak"] <= 1.2 * figures["planned"] + 16 * 2**20, figures
    assert figures["grown"] <= size / 4, figures


_MEASURE = """
import json, resource, sys
import numpy, onnx
import zoo
from zoo.plugins import host
from zoo.stages.request import Request
from zoo.stages.resolve import resolve
from zoo.stages.plan import plan
from zoo.stages.build import build
from pathlib import Path
def peak():
    try:
        text = Path("/proc/self/status").read_text()
        return int(text.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
registry, output = host().registry, Path(sys.argv[2])
found = resolve(registry, Request(sys.argv[1], "int8"))
planned = plan(found.recipe, found.checkpoint, registry, output, threads=2).peak_memory_bytes
before = peak()
build(found.recipe, found.checkpoint, output, registry, threads=2)
print(json.dumps({"peak": peak(), "planned": planned, "grown": peak() - before}))
import shutil; shutil.rmtree(output)
"""


class _Unplugged:
    """A checkpoint whose disk goes away after some reads."""

    def __init__(self, checkpoint: Any, reads: float) -> None:
        self._checkpoint, self.left, self.reads = checkpoint, reads, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._checkpoint, name)

    def read(self, *args: Any, **options: Any) -> Any:
        self.reads += 1
        if self.reads > self.left:
            raise ZooError("unplugged")
        return self._checkpoint.read(*args, **options)


def test_an_interrupted_build_ends_in_the_same_bytes(zoo_case: Case) -> None:
    """A build that was stopped half way goes on, and ends in what an undisturbed one writes."""
    from zoo.stages.build import build

    found, output = zoo_case.resolve("int8"), zoo_case.folder / "resumed"
    whole = _Unplugged(found.checkpoint, math.inf)
    reference = build(found.recipe, whole, zoo_case.folder / "whole", zoo_case.registry, threads=1)
    broken = _Unplugged(found.checkpoint, whole.reads // 2)
    with pytest.raises(ZooError, match="unplugged"):
        build(found.recipe, broken, output, zoo_case.registry, threads=1)
    assert not output.exists(), "a folder that is not complete must not be there"
    build(found.recipe, found.checkpoint, output, zoo_case.registry, threads=1)
    assert _contents(output) == _contents(reference.path)


def test_every_target_takes_the_model(zoo_model: DeclaredModel, tmp_path: Path) -> None:
    """Every installed target takes the model in some precision, and those that write documents write them."""
    from zoo.stages.documents import write_documents
    from zoo.stages.resolve import resolve

    registry = host().registry
    for name in registry.targets:
        target = registry.target(name)
        if missing(registry.architecture(zoo_model.architecture.type), zoo_model.architecture, target):
            continue
        refused = []
        for precision in target.precisions:
            try:
                resolved = resolve(registry, Request(zoo_model.full_name, precision, target=name), fetch=False)
            except ZooError as error:  # encoders, for one, are served as floats alone
                refused.append(str(error))
                continue
            if target.needs_weights:
                continue
            written = write_documents(resolved, tmp_path / f"{name}-{precision}", registry)
            assert len(written.package.manifest.files) > 0, f"{name} writes nothing"
            assert all(file.size > 0 for file in written.package.manifest.files.values())
        assert len(refused) < len(target.precisions), refused[0]


def _prompt(case: Case, length: int) -> list[int]:
    import numpy as np

    draw = np.random.default_rng(3)
    return [
        int(token_id)
        for token_id in draw.integers(3, case.arch.vocab_size, min(length, case.arch.max_position_embeddings))
    ]


def _contents(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.name != "zoo.json"
    }
