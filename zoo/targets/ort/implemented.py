"""Which operations ONNX Runtime's CPU kernels compute, and with which features; tests hold it against the emitters."""

from __future__ import annotations

from collections.abc import Mapping

_PLAIN: frozenset[str] = frozenset()
OPERATIONS: Mapping[str, frozenset[str]] = {
    "token_ids": _PLAIN,
    "embedding": _PLAIN,
    "linear": _PLAIN,
    "rms_norm": _PLAIN,
    "norm_heads": _PLAIN,
    "attention": frozenset({"window"}),
    "activation": frozenset({"silu", "relu", "gelu", "gelu_new", "gelu_pytorch_tanh"}),
    "multiply": _PLAIN,
    "add": _PLAIN,
    "scale": _PLAIN,
    "last_positions": _PLAIN,
    "logits": _PLAIN,
}
