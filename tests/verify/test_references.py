"""Which reference a checkpoint gets, and transformers' modules over weights that lie as an architecture says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.checkpoints import make_checkpoint
from zoo.contracts import Parameter, RowSlice
from zoo.declarations.architecture import Architecture
from zoo.decoder import Decoder
from zoo.errors import ZooError
from zoo.sources.folder import open_folder

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from safetensors.torch import load_file, save_file  # noqa: E402

from zoo.verify.references import all_logits, find_reference  # noqa: E402

IDS = np.random.default_rng(4).integers(0, 331, 33).tolist()


class Fused(Decoder):
    """A decoder's numbers over a checkpoint with a prefix, and with q, k and v in one tensor."""

    def transformers_config(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**config, "model_type": "llama"}

    def transformers_weight(self, arch: Architecture, name: str) -> Parameter | None:
        head = arch.head_dim
        counts = {"q": arch.num_attention_heads, "k": arch.num_key_value_heads, "v": arch.num_key_value_heads}
        for which, first in (("q", 0), ("k", counts["q"]), ("v", counts["q"] + counts["k"])):
            if name.endswith(f"self_attn.{which}_proj.weight"):
                fused = f"inner.{name.replace(f'{which}_proj', 'qkv')}"
                rows = range(first * head, (first + counts[which]) * head)
                shape = (sum(counts.values()) * head, arch.hidden_size)
                return Parameter(name, "linear", (RowSlice(fused, shape, rows),))
        shape = self.tensors(arch).get(name)
        return None if shape is None else Parameter(name, "linear", (RowSlice(f"inner.{name}", shape),))


def refile(folder: Path, model_type: str) -> Path:
    """Write the checkpoint again as ``Fused`` has it."""
    tensors = load_file(folder / "model.safetensors")
    for name in [name for name in tensors if name.endswith("q_proj.weight")]:
        parts = [tensors.pop(name.replace("q_proj", f"{which}_proj")) for which in "qkv"]
        tensors[name.replace("q_proj", "qkv")] = torch.cat(parts)
    other = folder.with_name("other")
    other.mkdir()
    save_file({f"inner.{name}": one for name, one in tensors.items()}, other / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "model_type": model_type}))
    return other


@pytest.mark.parametrize("tied", [False, True])
def test_transformers_computes_over_weights_that_lie_otherwise(tied: bool, tmp_path: Path) -> None:
    model = make_checkpoint(tmp_path / "plain", tie_word_embeddings=tied, head_dim=24)
    with torch.no_grad():
        wanted = model(torch.tensor([IDS])).logits[0].numpy()
    checkpoint, part = open_folder(refile(tmp_path / "plain", "nobody-has-this")), Fused()
    arch = part.read_config({**checkpoint.config, "model_type": "llama"})
    reference = find_reference(checkpoint, part, arch)
    assert reference.name == "transformers, as llama"
    assert reference.num_layers == 2
    np.testing.assert_allclose(all_logits(reference, IDS), wanted, atol=2e-4)


def test_a_type_that_transformers_has_is_its_own_reference(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "plain")
    checkpoint = open_folder(tmp_path / "plain")
    assert find_reference(checkpoint, Decoder(), Decoder().read_config(checkpoint.config)).name == "transformers"


def test_the_operations_agree_with_transformers(tmp_path: Path) -> None:
    """What is fallen back on is right where it can be checked."""
    model = make_checkpoint(tmp_path / "plain", head_dim=20, attention_bias=True)
    with torch.no_grad():
        wanted = model(torch.tensor([IDS])).logits[0].numpy()
    config = json.loads((tmp_path / "plain" / "config.json").read_text())
    (tmp_path / "plain" / "config.json").write_text(json.dumps({**config, "model_type": "nobody-has-this"}))
    checkpoint = open_folder(tmp_path / "plain")
    reference = find_reference(checkpoint, Decoder(), Decoder().read_config(checkpoint.config))
    assert reference.name == "its own operations in torch"
    np.testing.assert_allclose(all_logits(reference, IDS), wanted, atol=2e-4)


def test_rows_that_do_not_make_the_weight_are_named(tmp_path: Path) -> None:
    class Short(Fused):
        def transformers_weight(self, arch: Architecture, name: str) -> Parameter | None:
            whole = super().transformers_weight(arch, name)
            if whole is None or "embed_tokens" not in name:
                return whole
            (rows,) = whole.slices
            return Parameter(name, "linear", (RowSlice(rows.tensor, rows.tensor_shape, range(5)),))

    make_checkpoint(tmp_path / "plain")
    checkpoint, part = open_folder(refile(tmp_path / "plain", "nobody-has-this")), Short()
    arch = part.read_config({**checkpoint.config, "model_type": "llama"})
    with pytest.raises(ZooError, match=r"embed_tokens\.weight is \(5, 64\); transformers expects \(331, 64\)"):
        all_logits(find_reference(checkpoint, part, arch), IDS)
