"""ONNX Runtime on CPU: the default target."""

from zoo.targets.ort.target import OrtTarget

__all__ = ["OrtTarget"]
