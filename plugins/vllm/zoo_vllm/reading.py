"""Packages as transformers and compressed-tensors read them: the weights, and an engine that gives logits.

GPTQ's layout is read here by torch, from what the format says, and transformers computes with that: what it would ask
to read the layout (GPTQModel) wants a GPU to be of use.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo import Package, Recomputed, TextEngine, ZooError, one_line
from zoo_vllm.shards import INDEX

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INSTALL = "pip install 'model-zoo-framework[verify]' compressed-tensors"


def require() -> None:
    """Refuse where what reads is not installed.

    Raises:
        ZooError: with the command that installs it.
    """
    for name in ("torch", "transformers", "compressed_tensors", "safetensors"):
        if importlib.util.find_spec(name) is None:
            raise ZooError(f"{name} is not installed, which reads packages for vLLM; install it with: {INSTALL}")


def weights(folder: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Read every weight, in float32; quantized ones as compressed-tensors decompresses them.

    Raises:
        ZooError: it is not installed, or refuses one.
    """
    require()
    from safetensors import safe_open

    index = json.loads((folder / INDEX).read_bytes())["weight_map"]
    modules: dict[str, dict[str, str]] = {}
    for name, file in index.items():
        module, _, kind = name.rpartition(".")
        modules.setdefault(module, {})[kind] = file
    decompress = _decompressor(json.loads((folder / "config.json").read_bytes()).get("quantization_config"))
    for module, files in modules.items():
        state = {}
        for kind, file in files.items():
            with safe_open(folder / file, "pt") as opened:
                state[kind] = opened.get_tensor(f"{module}.{kind}")
        try:
            read = decompress(module, state) if state.keys() & {"weight_scale", "qweight"} else state
        except Exception as error:  # whatever the library thinks of it
            raise ZooError(f"compressed-tensors refuses {module}: {one_line(str(error))[:300]}") from None
        for kind, value in read.items():
            if kind in ("weight", "bias"):
                yield f"{module}.{kind}", value.float().numpy()


def _decompressor(stated: Mapping[str, Any] | None) -> Any:
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig

    if stated is not None and stated["quant_method"] == "gptq":
        return lambda module, state: _gptq(state, stated["bits"])
    config = None if stated is None else QuantizationConfig.model_validate(stated)

    def decompress(module: str, state: dict[str, Any]) -> dict[str, Any]:
        assert config is not None
        groups = config.config_groups.values()
        scheme = next(one for one in groups if module in one.targets or "Linear" in one.targets)
        state["weight_scale"] = state["weight_scale"].float()
        read: dict[str, Any] = BaseCompressor.load_from_registry(config.format).decompress(state, scheme)
        return {**read, **({"bias": state["bias"]} if "bias" in state else {})}

    return decompress


def _gptq(state: Mapping[str, Any], bits: int) -> dict[str, Any]:
    """Compute a linear's weight, (outputs, inputs): ``scale * (level - zero point - 1)`` by each input's group.

    Source: AutoGPTQ 0.7, ``nn_modules/qlinear/qlinear_cuda_old`` (``forward``).
    """
    import torch

    shifts, group = torch.arange(0, 32, bits, dtype=torch.int32), state["g_idx"].long()
    levels = (state["qweight"][:, None] >> shifts[:, None] & 2**bits - 1).flatten(0, 1)
    zeros = (state["qzeros"][..., None] >> shifts & 2**bits - 1).flatten(1) + 1
    weight = state["scales"].float()[group] * (levels - zeros[group])
    return {"weight": weight.T.contiguous(), **({"bias": state["bias"]} if "bias" in state else {})}


class Transformers(TextEngine):
    """A package of the target ``vllm`` by transformers and compressed-tensors, in this process: slow, and another's."""

    name = "transformers"

    @classmethod
    def open(cls, package: Package, *, threads: int | None = None) -> Transformers:
        """Load the package; a checkpoint's own code is never run.

        Raises:
            ZooError: what reads it is not installed, or refuses it.
        """
        return cls(package, threads)

    def __init__(self, package: Package, threads: int | None = None) -> None:
        super().__init__(package)
        require()
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        arch, started = package.manifest.recipe.architecture, time.perf_counter()
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # bars of progress
                config = AutoConfig.from_pretrained(package.path)
                if getattr(config, "quantization_config", {}).get("quant_method") == "gptq":
                    del config.quantization_config
                    read = {name: torch.from_numpy(values) for name, values in weights(package.path)}
                    with torch.device("meta"):
                        made = type(AutoModelForCausalLM.from_config(config))
                    self._model = made.from_pretrained(None, config=config, state_dict=read, dtype=torch.float32)
                else:
                    self._model = AutoModelForCausalLM.from_pretrained(package.path, dtype=torch.float32)
        except Exception as error:  # transformers' errors share no base
            raise ZooError(f"transformers refuses {package.path.name}: {one_line(str(error))[:300]}") from None
        if threads is not None:
            torch.set_num_threads(threads)
        self.load_seconds = time.perf_counter() - started
        self.context_length, self.vocab_size = arch.context_length, arch.vocab_size
        self.abilities = frozenset({"logits", *(("text",) if self.tokenizer else ())})

    def settings(self) -> dict[str, Any]:
        """Tell which transformers answers."""
        import compressed_tensors
        import transformers

        return {"transformers": transformers.__version__, "compressed-tensors": compressed_tensors.__version__}

    def logits(self, token_ids: Sequence[int], positions: int | Literal["all"] = "all") -> NDArray[np.float32]:
        """Compute logits, float32 (positions, vocab)."""
        import torch

        ids = self._check_ids(token_ids)
        count = len(ids) if positions == "all" else min(positions, len(ids))
        with torch.inference_mode():
            found: NDArray[np.float32] = (
                self._model(torch.tensor([ids]), logits_to_keep=count).logits[0].float().numpy()
            )
        return found

    def stream(
        self,
        prompt: str | Sequence[int] | None = None,
        *,
        messages: Sequence[Mapping[str, Any]] | None = None,
        continued: bool = False,
        **options: Any,
    ) -> Recomputed:
        """Answer a prompt, each token from the whole text again."""
        return Recomputed(self, self._prompt_ids(prompt, messages), options, self.tokenizer)
