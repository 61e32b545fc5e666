"""Which operations ONNX Runtime's CPU kernels compute, and with which features; tests hold it against the emitters."""

from __future__ import annotations

from collections.abc import Mapping

_PLAIN: frozenset[str] = frozenset()
OPERATIONS: Mapping[str, frozenset[str]] = {
    "token_ids": _PLAIN,
    "token_types": _PLAIN,
    "positions": _PLAIN,
    "embedding": _PLAIN,
    "linear": _PLAIN,
    "experts": frozenset({"unnormalized", "sigmoid", "biased choice", "groups", "biases", "other gate"}),
    "rms_norm": _PLAIN,
    "layer_norm": _PLAIN,
    "norm_heads": frozenset({"centered", "without weight", "weight a head", "together"}),
    "join_heads": _PLAIN,
    "attention": frozenset(
        {
            "window",
            "softcap",
            "sinks",
            "smooth softmax",
            "slopes",
            "bidirectional",
            "bidirectional window",
            "interleaved rotary",
            "partial rotary",
        }
    ),
    "activation": frozenset(
        {
            "silu",
            "relu",
            "relu2",
            "gelu",
            "gelu_new",
            "gelu_fast",
            "gelu_pytorch_tanh",
            "quick_gelu",
            "sigmoid",
            "tanh",
        }
    ),
    "multiply": _PLAIN,
    "add": _PLAIN,
    "scale": _PLAIN,
    "softcap": _PLAIN,
    "last_positions": _PLAIN,
    "first_position": _PLAIN,
    "logits": _PLAIN,
    "scores": _PLAIN,
    "hidden_states": _PLAIN,
}
