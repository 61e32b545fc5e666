"""Packages of raw arrays, and an engine that computes them with PyTorch from the recorded operations."""

from types import MappingProxyType

import numpy as np
import torch

import zoo


@zoo.hookimpl
def register_targets(register):
    register("eager", "zoo_eager:Eager")


class AsQuantized(zoo.Encoding):
    def arrays(self, scheme, shape):
        if scheme.kind == "float":
            return {"values": zoo.ArrayLayout(scheme.dtype, shape, "values")}
        blocks = (*shape[:-1], scheme.blocks(shape[-1]))
        levels = zoo.ArrayLayout("uint8", (*blocks, scheme.block_size), "levels")
        zeros = {} if scheme.symmetric else {"zero_points": zoo.ArrayLayout("uint8", blocks, "zero_points")}
        return {"levels": levels, "scales": zoo.ArrayLayout("float32", blocks, "scales"), **zeros}


class Eager(zoo.Target):
    encoding, engines = AsQuantized(), MappingProxyType({"eager": "zoo_eager:Computed"})
    precisions = MappingProxyType({"int8": "rtn", "int4": "rtn", "fp32": "float"})
    used = ("token_ids", "embedding", "linear", "rms_norm", "attention", "add", "last_positions", "logits")
    operations = MappingProxyType(dict.fromkeys(used, frozenset()) | {"activation": frozenset({"gelu"})})

    def place(self, recipe, parameters, schemes):
        at = 0
        for parameter in parameters:
            for name, array in self.encoding.arrays(schemes[parameter.name], parameter.shape).items():
                yield zoo.StoredArray(parameter, name, array.dtype, array.shape, at, array.nbytes, "weights.bin")
                at += array.nbytes

    def files(self, contents):
        rows = [(a.parameter.name, a.array, a.dtype, a.offset, *a.shape) for a in contents.arrays]
        yield "index.txt", "\n".join(" ".join(map(str, row)) for row in rows).encode()


class Computed(zoo.Engine):
    name, abilities, special_ids, load_seconds = "eager", frozenset({"logits", "text"}), frozenset(), 0.0

    def __init__(self, package):
        self.package, recipe = package, package.manifest.recipe
        arch, self.stop_token_ids = recipe.architecture, frozenset(recipe.tokens.eos_token_id)
        self.tokenizer, self.vocab_size = zoo.Tokenizer(package.path), arch.vocab_size
        self.context_length = arch.max_position_embeddings
        self.program = zoo.record(zoo.host().registry.architecture(arch.type), arch)
        shapes = {weight.name: weight.shape for step in self.program.steps for weight in step.operation.weights}
        raw, stored, self.weights = np.fromfile(package.path / "weights.bin", np.uint8), {}, {}
        for line in (package.path / "index.txt").read_text().splitlines():
            name, array, dtype, at, *shape = line.split()
            shape = [int(axis) for axis in shape]
            values = raw[int(at) :][: np.prod(shape) * np.dtype(dtype).itemsize].view(dtype).reshape(shape)
            stored.setdefault(name, {})[array] = values
        for name, arrays in stored.items():
            values = arrays.get("values")
            if values is None:
                middle = arrays.get("zero_points", np.uint8(128))[..., None].astype(np.float32)
                values = (arrays["levels"] - middle) * arrays["scales"][..., None]
            values = values.reshape(len(values), -1)[:, : shapes[name][-1] if len(shapes[name]) > 1 else 1]
            self.weights[name] = torch.from_numpy(values.reshape(shapes[name]))

    @classmethod
    def open(cls, package, *, threads=None):
        return cls(package)

    def logits(self, token_ids, positions="all"):
        rows = zoo.compute_program(self.program, token_ids, self.weights).numpy()
        return rows if positions == "all" else rows[-positions:]

    def encode(self, text):
        return self.tokenizer.encode(text)

    def stream(self, prompt=None, *, messages=None, continued=False, **options):
        return zoo.Recomputed(self, prompt, options, self.tokenizer)
