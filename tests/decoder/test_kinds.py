"""Blocks of other kinds against transformers: norms, placements, positions, caps and scales, each by a claim alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from tests.checkpoints import make_of_type
from tests.decoder.kinds import CLAIMS
from tests.decoder.stepping import prompt
from tests.decoder.test_quirks import greedy_of
from zoo.declarations.family import Family
from zoo.errors import ZooError
from zoo.plugins import host
from zoo.registry import DeclaredFamily, Registry
from zoo.stages import pipeline
from zoo.stages.request import Request

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

TOLERANCE = 1e-3
GREEDY = 60
THREE = {"num_hidden_layers": 3, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
HALF = {"rope_theta": 1e4, "rope_type": "default", "partial_rotary_factor": 0.5}
ROPES = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
    "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
}
VARIATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "caps": ("gemma2", {"head_dim": 16, "sliding_window": 9, **THREE, "query_pre_attn_scalar": 40,
                        "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
    "no-caps-padded": ("gemma2", {"head_dim": 20, "attn_logit_softcapping": None, "final_logit_softcapping": None}),
    "two-bases": ("gemma3_text", {"head_dim": 16, "sliding_window": 9, **THREE, "rope_parameters": ROPES}),
    "two-bases-padded": ("gemma3_text", {"head_dim": 8, "sliding_window": 9, **THREE, "rope_parameters": ROPES}),
    "layer-norm-partial": ("stablelm", {"use_qkv_bias": True}),
    "layer-norm-partial-of-24": ("stablelm", {"hidden_size": 96, "rope_parameters": HALF}),
    "layer-norm-parallel-heads": ("stablelm", {
        "use_parallel_residual": True, "qk_layernorm": True, "rope_parameters": HALF, "num_key_value_heads": 2,
    }),
    "multipliers": ("granite", {"attention_multiplier": 0.3, "embedding_multiplier": 3.0, "residual_multiplier": 0.5,
                                "logits_scaling": 0.25}),
    "norms-after": ("olmo2", {}),
    "norms-after-padded": ("olmo2", {"hidden_size": 80, "num_key_value_heads": 4}),
    "interleaved-parallel": ("cohere", {"logit_scale": 0.5, "num_key_value_heads": 4}),
    "interleaved-padded": ("cohere", {"hidden_size": 80, "attention_bias": True, "logit_scale": 1.0}),
    "layers-that-do-not-turn": ("smollm3", {"num_hidden_layers": 3, "no_rope_layers": [1, 0, 1]}),
    "windows-that-turn": ("exaone4", {"sliding_window": 9, **THREE, "head_dim": 16}),
    "no-windows": ("exaone4", {"sliding_window": None, "layer_types": ["full_attention"] * 2, "head_dim": 24}),
    "ungated": ("nemotron", {"head_dim": 16, "rope_parameters": HALF}),
    "ungated-bias": ("nemotron", {"head_dim": 32, "mlp_bias": True, "attention_bias": True, "rope_parameters": HALF}),
}  # fmt: skip


@pytest.fixture(scope="module")
def registry() -> Registry:
    """What is installed, and a family that claims what else this module is about."""
    numbers = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
               "vocab_size": 8, "max_position_embeddings": 8}  # fmt: skip
    family = Family.model_validate(
        {
            "name": "kinds",
            "title": "Kinds",
            "licence": {"id": "none"},
            "claims": CLAIMS,
            "models": [{"name": "any", "weights": {"hub": "any/any"}, "architecture": numbers}],
        }
    )
    own = host().registry
    return replace(own, families={**own.families, "kinds": DeclaredFamily(family, "kinds")})


def built(registry: Registry, folder: Path, precision: str = "fp32") -> Path:
    request = Request(str(folder), precision)
    output = folder.with_name(precision)
    return pipeline.build(registry, pipeline.pin(registry, request), output, threads=1).package.path


@pytest.mark.parametrize("name", VARIATIONS)
def test_it_computes_what_transformers_computes(name: str, registry: Registry, tmp_path: Path) -> None:
    model_type, numbers = VARIATIONS[name]
    model = make_of_type(tmp_path / "checkpoint", model_type, **numbers)
    engine, tokens = zoo.open(built(registry, tmp_path / "checkpoint")), prompt(90)
    with torch.no_grad():
        wanted = model(torch.tensor([tokens])).logits[0].numpy()
    assert wanted.std() > 0.3, "logits this flat would hide a difference"
    assert float(np.abs(engine.logits(tokens) - wanted).max()) <= TOLERANCE
    found = engine.generate(tokens[:5], max_new_tokens=GREEDY, ignore_eos=True).token_ids
    assert found == greedy_of(model, tokens[:5], GREEDY)


@pytest.mark.parametrize("name", ["caps", "layer-norm-parallel-heads", "norms-after", "ungated"])
def test_calibration_follows(name: str, registry: Registry, tmp_path: Path) -> None:
    """What calibration computes layer by layer is the model, and rescaling channels keeps it."""
    from zoo.calibration.execute import Executor
    from zoo.calibration.layer import Layer
    from zoo.calibration.program import cut
    from zoo.calibration.weights import read_float32
    from zoo.package.layout import lay_out
    from zoo.quantizers.slab import Scratch

    model_type, numbers = VARIATIONS[name]
    model = make_of_type(tmp_path / "checkpoint", model_type, **numbers)
    pinned = pipeline.pin(registry, Request(str(tmp_path / "checkpoint"), "fp32"))
    layout = lay_out(pinned.recipe, registry)
    assert layout.program is not None
    assert pinned.resolved.checkpoint is not None
    program, scratch, executor = cut(layout.program), Scratch(), Executor()
    weights = {
        one.parameter.name: read_float32(one.parameter, pinned.resolved.checkpoint, scratch) for one in layout.placed
    }
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 331, (2, 40)))

    def run() -> Any:
        state = ids
        for segment in (program.before, *program.layers, program.after):
            state = executor.run(segment, state, {key: torch.from_numpy(one) for key, one in weights.items()})
        return state

    with torch.no_grad():
        wanted = model(ids).logits
        torch.testing.assert_close(run(), wanted, atol=TOLERANCE, rtol=TOLERANCE)
        for segment in program.layers:
            layer = Layer(segment, weights, torch, "cpu")
            for link in layer.links:
                rows = np.random.default_rng(1).uniform(0.5, 2, layer.weight(link.source).shape[0]).astype(np.float32)
                layer.fold(link, rows[link.rows])
        torch.testing.assert_close(run(), wanted, atol=10 * TOLERANCE, rtol=10 * TOLERANCE)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_it_is_quantized(precision: str, registry: Registry, tmp_path: Path) -> None:
    model = make_of_type(tmp_path / "checkpoint", *VARIATIONS["caps"][:1], **VARIATIONS["caps"][1])
    tokens = prompt(60)
    with torch.no_grad():
        wanted = model(torch.tensor([tokens])).logits[0].numpy()
    found = zoo.open(built(registry, tmp_path / "checkpoint", precision)).logits(tokens)
    assert float(np.sqrt(np.mean((found - wanted) ** 2)) / wanted.std()) < {"int8": 0.15, "int4": 0.8}[precision]


def test_what_no_claim_speaks_of_is_refused(tmp_path: Path) -> None:
    """The same key in a type whose code does not look at it would be computed to something else."""
    from tests.checkpoints import edit_config, make_checkpoint

    make_checkpoint(tmp_path / "checkpoint")
    for key, value in (("attn_logit_softcapping", 50.0), ("partial_rotary_factor", 0.5), ("logits_scaling", 8.0),
                       ("no_rope_layers", [1, 0]), ("use_parallel_residual", True)):  # fmt: skip
        edit_config(tmp_path / "checkpoint", **{key: value})
        with pytest.raises(ZooError, match=f"config.json: {key} .* is not supported by this decoder"):
            pipeline.pin(host().registry, Request(str(tmp_path / "checkpoint"), "int8"))
        edit_config(tmp_path / "checkpoint", **{key: None})
