"""What reads files that others wrote, each as a function of the bytes, with samples that it accepts.

The same functions run under hypothesis (``test_fuzz.py``) and under atheris (``python -m tests.fuzz.run``).
"""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import struct
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from tests.builds import architecture, make_recipe, registry, write_checkpoint, write_safetensors
from tests.fuzz import datafiles, quantized
from zoo.errors import ZooError
from zoo.plugins import host
from zoo.sources.folder import open_folder
from zoo.stages.build import build
from zoo.stages.resolve import Request, resolve

MESSAGES = ({"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}, {"role": "user", "content": ""})
NUMBERS = {
    "model_type": "llama", "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": [2],
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                     "original_max_position_embeddings": 32},
}  # fmt: skip
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'] | trim + ' [/INST]' }}"
    "{% else %}{{ '%5s' % m.content ~ 'x' * 3 }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ messages | tojson }}{% endif %}{{ range(3) | list | length }}"
    "{% macro f(n) %}{{ n ** 2 }}{% endmacro %}{{ f(3) }}{{ 'a{:>4}'.format(1) }}{{ raise_exception('no') if 0 }}"
)
FAMILY = b"""
name: example
title: Example
licence: {id: mit, url: "https://example.org/licence", commercial_use: true}
claims: [llama]
architecture: {vocab_size: 320, max_position_embeddings: 64, rope_theta: 1.0e+4}
tokens: {bos_token_id: 1, eos_token_id: [2, 3]}
models:
  - &one
    name: example-1b
    weights: {hub: example/one, revision: main}
    architecture: {hidden_size: 64, intermediate_size: 128, num_hidden_layers: 2, num_attention_heads: 4}
"""


@dataclass(frozen=True)
class Reader:
    """A reader: what it takes, and what it does with it."""

    samples: Callable[[], tuple[bytes, ...]]
    read: Callable[[bytes], object]
    text: bool = False
    """It is JSON, so that values rather than bytes are worth changing."""


@cache
def room() -> Path:
    """A scratch folder for the whole run."""
    return Path(tempfile.mkdtemp(prefix="zoo-fuzz-"))


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Fail where a file of the scratch folder's surroundings is opened: a reader stays in its folder."""
    _watch()
    _OPENED.clear()
    _ACTIVE.append(True)
    try:
        yield
    finally:
        _ACTIVE.clear()
    out = [one for one in _OPENED if not Path(one).is_relative_to(folder)]
    assert not out, f"opened outside the folder: {out[0]}"


_OPENED: list[str] = []
_ACTIVE: list[bool] = []


@cache
def _watch() -> None:
    home = str(room())

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and _ACTIVE and isinstance(arguments[0], str | bytes | os.PathLike):
            with suppress(ValueError, OSError):  # a NUL in a name, a loop of links
                path = os.path.realpath(os.fsdecode(arguments[0]))
                if path.startswith((home, "/etc/passwd")):
                    _OPENED.append(path)

    sys.addaudithook(hook)


def settled(reader: Reader, raw: bytes) -> str:
    """Run a reader; return its refusal, or nothing where it accepts.

    Raises:
        AssertionError: the refusal is not one line.
        Exception: whatever escaped that is no ``ZooError``; a finding.
    """
    try:
        reader.read(raw)
    except ZooError as error:
        said = str(error)
        assert said, "an empty message"
        assert "\n" not in said, f"more than one line: {said!r}"
        assert len(said) < 3000, f"{len(said)} characters"
        return said
    return ""


# --- weights ---------------------------------------------------------------------------------------------------------


class _Memory:
    """Bytes as a source of weights."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self.size = raw, len(raw)

    def read_at(self, offset: int, size: int) -> bytes:
        return self._raw[offset : offset + size]


def _safetensors(raw: bytes) -> object:
    from zoo.sources.safetensors import read_header

    header = read_header(_Memory(raw), "m.safetensors")
    for name, info in header.tensors.items():
        assert 0 <= header.offsets[name] <= header.offsets[name] + info.nbytes <= len(raw)
    return header


def _safetensors_samples() -> tuple[bytes, ...]:
    path = room() / "sample.safetensors"
    write_safetensors(path, {"a": ("F32", np.ones((3, 4), np.float32)), "b": ("F16", np.ones(5, np.float16))})
    return (path.read_bytes(),)


def _header(raw: bytes) -> object:
    """The JSON of a header, in a file of a right length."""
    return _safetensors(struct.pack("<Q", len(raw)) + raw + bytes(58))


def _header_samples() -> tuple[bytes, ...]:
    raw = _safetensors_samples()[0]
    return (raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]].rstrip(),)


def _bin(raw: bytes) -> object:
    from zoo.sources.torch_bin import read_header

    header = read_header(_Memory(raw), "pytorch_model.bin")
    for name, info in header.tensors.items():
        begin = header.offsets[name]
        assert begin >= 0
        if name not in header.strides:
            assert begin + info.nbytes <= len(raw)
    return header


def _pickle(raw: bytes) -> object:
    from zoo.sources.torch_bin_pickle import describe

    return describe(raw, "pytorch_model.bin")


@cache
def pickled() -> bytes:
    """A state dict of two tensors, as torch writes it."""

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def tensor(key: str, kind: bytes, rows: int, columns: int) -> bytes:
        storage = b"(" + text("storage") + b"ctorch\n" + kind + b"\n" + text(key) + text("cpu")
        storage += b"K" + bytes([rows * columns]) + b"tQK\x00"
        sizes = b"(K" + bytes([rows]) + b"K" + bytes([columns]) + b"t(K" + bytes([columns]) + b"K\x01t"
        return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + sizes + b"\x89ccollections\nOrderedDict\n)RtR"

    weights = text("a") + tensor("0", b"FloatStorage", 2, 3) + text("b") + tensor("1", b"HalfStorage", 4, 2)
    return b"\x80\x02}q\x00(" + weights + b"u."


def _bin_samples() -> tuple[bytes, ...]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in (
            ("data.pkl", pickled()),
            ("byteorder", b"little"),
            ("data/0", bytes(24)),
            ("data/1", bytes(16)),
        ):
            archive.writestr(f"model/{name}", data)
    return (buffer.getvalue(),)


# --- folders ---------------------------------------------------------------------------------------------------------


@cache
def _sharded() -> Path:
    folder = write_checkpoint(room() / "sharded" / "ck", architecture(), shards=2)
    shutil.copyfile(folder / "model-00001-of-00002.safetensors", folder.parent / "outside.safetensors")
    with suppress(FileExistsError):
        (folder / "link.safetensors").symlink_to("../outside.safetensors")
    return folder


def _index(raw: bytes) -> object:
    folder = _sharded()
    (folder / "model.safetensors.index.json").write_bytes(raw)
    with inside(folder):
        return open_folder(folder)


def _index_samples() -> tuple[bytes, ...]:
    folder = write_checkpoint(room() / "sharded" / "sample", architecture(), shards=2)
    index = json.loads((folder / "model.safetensors.index.json").read_bytes())
    names = sorted(index["weight_map"])[:3]
    outside = ["../outside.safetensors", "/etc/passwd", "link.safetensors", "\0", "a/../../outside.safetensors"]
    tricks = [json.dumps({"weight_map": dict.fromkeys(names, one)}).encode() for one in outside]
    return (json.dumps(index).encode(), *tricks)


@cache
def _checkpoint() -> Path:
    """A small checkpoint of the bundled family that claims ``llama``."""
    from zoo.testing.checkpoint import write_random, write_tokenizer

    folder = room() / "llama"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(NUMBERS))
    part = host().registry.architecture("decoder")
    write_random(folder, part.tensors(part.read_config(NUMBERS)), 0)
    write_tokenizer(folder)
    (folder / "generation_config.json").write_text('{"bos_token_id": 1, "eos_token_id": [2], "temperature": 0.6}')
    return folder


def plan_with(file: str) -> Callable[[bytes], object]:
    """Make the reader of one file of a checkpoint folder: all that a plan does, and what a build copies."""

    def read(raw: bytes) -> object:
        from zoo.package.account import account
        from zoo.package.layout import lay_out
        from zoo.stages.plan import plan

        folder = _checkpoint()
        path = folder / file
        before = path.read_bytes() if path.exists() else None
        path.write_bytes(raw)
        try:
            with inside(folder):
                resolved = resolve(host().registry, Request(str(folder)), headers_only=True)
                assert resolved.checkpoint is not None
                account(lay_out(resolved.recipe, host().registry), resolved.checkpoint)
                return plan(resolved.recipe, resolved.checkpoint, host().registry, folder.parent / "out")
        finally:
            path.unlink() if before is None else path.write_bytes(before)

    return read


def own(file: str) -> Callable[[], tuple[bytes, ...]]:
    """Make the samples of a file of the small checkpoint."""
    return lambda: ((_checkpoint() / file).read_bytes(),)


SCALINGS = (
    {"rope_type": "linear", "factor": 2.0},
    {"type": "dynamic", "factor": 2.0},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 32, "beta_slow": 1,
     "mscale": 1.0, "mscale_all_dim": 0.7, "attention_factor": None},
)  # fmt: skip


def _configs() -> tuple[bytes, ...]:
    return tuple(json.dumps({**NUMBERS, "rope_scaling": one}).encode() for one in (NUMBERS["rope_scaling"], *SCALINGS))


# --- packages --------------------------------------------------------------------------------------------------------


@cache
def _package() -> Path:
    folder = room() / "package"
    opened = open_folder(write_checkpoint(folder / "ck", architecture()))
    return build(make_recipe(architecture()), opened, folder / "out", registry(), warn=lambda line: None).path


def _manifest(raw: bytes) -> object:
    from zoo.package import open_package

    (_package() / "zoo.json").write_bytes(raw)
    with inside(_package()):
        return open_package(_package(), hashes=True)


@cache
def _manifest_sample() -> bytes:
    return (_package() / "zoo.json").read_bytes()


def _onnx(raw: bytes) -> object:
    from zoo.package.external import external_extents

    return external_extents(raw, "model.onnx")


def _onnx_samples() -> tuple[bytes, ...]:
    from onnx import TensorProto, helper

    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "../secret"), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    inner = helper.make_graph([helper.make_node("Constant", [], ["v"], value=tensor)], "inner", [], [])
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    return (helper.make_model(helper.make_graph([node], "g", [], [], initializer=[tensor])).SerializeToString(),)


# --- text ------------------------------------------------------------------------------------------------------------


def _template(raw: bytes) -> object:
    from zoo.engine.chat import render

    return render(raw.decode("utf-8", "replace"), MESSAGES, {"bos_token": "<s>"})


def _chat_folder(raw: bytes) -> object:
    """``tokenizer_config.json`` of a package: the template and the special tokens in it."""
    from zoo.engine.chat import find_template, render, special_tokens

    folder = room() / "chat"
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer_config.json").write_bytes(raw)
    with inside(folder):
        template = find_template(folder)
        tokens = special_tokens(folder)
    return None if template is None else render(template, MESSAGES, tokens)


def _chat_samples() -> tuple[bytes, ...]:
    named = [{"name": "default", "template": TEMPLATE}]
    configs = (
        {"chat_template": TEMPLATE, "bos_token": {"content": "<s>"}},
        {"chat_template": named, "bos_token": "<s>"},
    )
    return tuple(json.dumps(one).encode() for one in configs)


def _tokenizer(raw: bytes) -> object:
    """``tokenizer.json`` of a package, as the engine loads it."""
    from zoo.engine.text import Tokenizer

    folder = room() / "text"
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_bytes(raw)
    made = Tokenizer(folder)
    ids = made.encode("Hello 👋 wörld\n")
    stream = made.stream(ids[:2])
    return "".join(stream.add(one) for one in ids[:50]) + stream.rest()


def _sentencepiece(raw: bytes) -> object:
    from zoo.sources.sentencepiece import convert

    return convert(raw, {"add_bos_token": True, "bos_token": "<s>"}, {"<pad>": 9}, "ck/tokenizer.model")


def _sentencepiece_samples() -> tuple[bytes, ...]:
    def piece(text: str, score: float, kind: int) -> bytes:
        raw = text.encode()
        body = b"\x0a" + bytes([len(raw)]) + raw + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind])
        return b"\x0a" + bytes([len(body)]) + body

    pieces = [
        ("<unk>", 0, 2),
        ("<s>", 0, 3),
        ("</s>", 0, 3),
        ("<0x0A>", 0, 6),
        ("▁a", -1, 1),
        ("▁", -2, 1),
        ("a", -3, 1),
    ]
    trainer = b"\x12\x05\x18\x02\x98\x02\x01"  # BPE, with byte fallback
    return (b"".join(piece(*one) for one in pieces) + trainer,)


def _beside_tokenizer(name: str) -> Callable[[bytes], object]:
    """A file that names tokens beside a tokenizer."""

    def read(raw: bytes) -> object:
        from tests.tokenizer.made import words
        from zoo.tokenizer.files import read_files
        from zoo.tokenizer.resolve import resolve_tokenizer

        files = {"tokenizer.json": json.dumps(words()).encode(), name: raw}
        beside = read_files(files.get, "ck")
        return beside.special_tokens(), resolve_tokenizer(files.get, beside)

    return read


def _beside_samples() -> tuple[bytes, ...]:
    token = {"content": "<|x|>", "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    files = (
        {"added_tokens_decoder": {"11": token}, "eos_token": "<|x|>", "additional_special_tokens": ["<|y|>"]},
        {"bos_token": token, "pad_token": None, "extra_special_tokens": {"image_token": "<i>"}, "unk_token": "<unk>"},
    )
    return tuple(json.dumps(file).encode() for file in files)


def _gguf_tokenizer(raw: bytes) -> object:
    """The metadata of a GGUF file, as JSON."""
    from zoo_gguf.tokenizer import companions

    from zoo.sources.jsonfile import parse_object
    from zoo.tokenizer.files import read_files
    from zoo.tokenizer.resolve import resolve_tokenizer

    files = companions(parse_object(raw, "metadata", duplicates=True), "m.gguf")
    return resolve_tokenizer(files.get, read_files(files.get, "m.gguf"))


def _gguf_samples() -> tuple[bytes, ...]:
    tokens = {"tokens": ["<unk>", "<s>", "a", "b", "ab", "<0x0A>", "\u2581"], "bos_token_id": 1, "eos_token_id": 1}
    pairs = {
        "model": "gpt2",
        "pre": "qwen2",
        "token_type": [2, 3, 1, 1, 1, 1, 4],
        "merges": ["a b"],
        "add_bos_token": True,
    }
    pieces = {"model": "llama", "scores": [0, 0, -2, -3, -1, 0, -4.5], "token_type": [2, 3, 1, 1, 1, 6, 1]}
    named = {"unknown_token_id": 0, "cls_token_id": 1, "seperator_token_id": 1}
    words = {"model": "bert", "token_type": [2, 3, 1, 1, 1, 1, 1], **named}
    unigrams = {**pieces, "model": "t5", "unknown_token_id": 0, "precompiled_charsmap": [4, 0, 0, 0, 0, 1, 0, 0, 97, 0]}
    return tuple(
        json.dumps({f"tokenizer.ggml.{name}": value for name, value in {**tokens, **kind}.items()}).encode()
        for kind in (pairs, pieces, words, unigrams)
    )


def _gguf_file(raw: bytes) -> object:
    """A GGUF file, opened and read to the last row."""
    path = room() / "m.gguf"
    path.write_bytes(raw)
    with inside(path.parent):
        checkpoint = host().registry.source("gguf").open(str(path), revision=None, offline=True)
        for name, info in checkpoint.tensors.items():
            rows = info.shape[0] if len(info.shape) == 1 else math.prod(info.shape[:-1])
            checkpoint.read(name, max(0, rows - 3), rows)
        return checkpoint.digest, checkpoint.companions()


def _gguf_files() -> tuple[bytes, ...]:
    """Files of one tiny layer, as gguf-py writes them."""
    from tests.plugins.gguf import llamacpp

    metadata = json.loads(_gguf_samples()[0])
    more = {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 2}
    latent = {"attention.kv_lora_rank": 16, "attention.key_length_mla": 24, "attention.value_length_mla": 12}
    mla = {f"deepseek2.{key}": value for key, value in {**latent, "rope.dimension_count": 8}.items()}
    kinds: tuple[tuple, ...] = (
        (metadata,), ({**metadata, **more},), (metadata, "internlm2"),
        ({**metadata, **mla}, "deepseek2", {"attn_k_b": (2, 16, 16), "attn_v_b": (2, 12, 16)}),
    )  # fmt: skip
    return tuple(llamacpp.write(room() / "sample.gguf", *kind).read_bytes() for kind in kinds)


def _yaml(raw: bytes) -> object:
    from zoo.declarations.family import Family
    from zoo.yamlfile import Document

    path = room() / "family.yaml"
    path.write_bytes(raw)
    return Document(path).validate(Family)


def _bounds(raw: bytes) -> object:
    """``tokenizer.json`` of a stranger, before the library runs any of it."""
    from zoo.tokenizer.bounds import check

    return check(raw, "ck/tokenizer.json")


def _body(kind: str) -> Callable[[bytes], object]:
    """A request's body; what it refuses is an error of the protocol, with one line."""

    def read(raw: bytes) -> object:
        from zoo_server import schemas
        from zoo_server.body import parse
        from zoo_server.errors import ApiError

        try:
            return parse(raw, getattr(schemas, kind))
        except ApiError as error:
            refusal = error
        assert 400 <= refusal.status < 500
        raise ZooError(str(refusal.body()["error"]["message"]))

    return read


COMPLETION = (
    b'{"model": "m", "prompt": ["a", "b"], "n": 2, "stop": ["x"], "logit_bias": {"1": 2.5}, "seed": 7, "stream": true}'
)
CHAT = (
    b'{"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}, {"role": "assistant",'
    b' "content": null, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},'
    b' {"role": "tool", "tool_call_id": "c", "content": "1"}], "tools": [{"type": "function", "function": {"name": "f",'
    b' "parameters": {"type": "object"}}}], "response_format": {"type": "json_object"},'
    b' "top_logprobs": 3, "logprobs": true}'
)
READERS: dict[str, Reader] = {
    "safetensors": Reader(_safetensors_samples, _safetensors),
    "safetensors-header": Reader(_header_samples, _header, text=True),
    "index": Reader(_index_samples, _index, text=True),
    "bin": Reader(_bin_samples, _bin),
    "bin-pickle": Reader(lambda: (pickled(),), _pickle),
    "config": Reader(_configs, plan_with("config.json"), text=True),
    "generation-config": Reader(own("generation_config.json"), plan_with("generation_config.json"), text=True),
    "tokenizer-config": Reader(own("tokenizer_config.json"), plan_with("tokenizer_config.json"), text=True),
    "tokenizer-build": Reader(own("tokenizer.json"), plan_with("tokenizer.json"), text=True),
    "tokenizer-engine": Reader(own("tokenizer.json"), _tokenizer, text=True),
    "tokenizer-bounds": Reader(own("tokenizer.json"), _bounds, text=True),
    "completion-body": Reader(lambda: (COMPLETION,), _body("CompletionRequest"), text=True),
    "chat-body": Reader(lambda: (CHAT,), _body("ChatRequest"), text=True),
    "tokenizer-settings": Reader(_beside_samples, _beside_tokenizer("tokenizer_config.json"), text=True),
    "special-tokens-map": Reader(_beside_samples, _beside_tokenizer("special_tokens_map.json"), text=True),
    "added-tokens": Reader(lambda: (b'{"<|x|>": 11, "<|y|>": 12}',), _beside_tokenizer("added_tokens.json"), text=True),
    "gguf-tokenizer": Reader(_gguf_samples, _gguf_tokenizer, text=True),
    "gguf-file": Reader(_gguf_files, _gguf_file),
    "sentencepiece": Reader(_sentencepiece_samples, _sentencepiece),
    "chat-config": Reader(_chat_samples, _chat_folder, text=True),
    "chat-template": Reader(lambda: (TEMPLATE.encode(),), _template),
    "family-yaml": Reader(lambda: (FAMILY,), _yaml),
    "manifest": Reader(lambda: (_manifest_sample(),), _manifest, text=True),
    "onnx": Reader(_onnx_samples, _onnx),
    "dataset-jsonl": Reader(lambda: (datafiles.LINE,), datafiles.dataset(room, "x.jsonl")),
    "dataset-csv": Reader(lambda: (datafiles.TABLE,), datafiles.dataset(room, "x.csv")),
    "dataset-gzip": Reader(datafiles.packed, datafiles.dataset(room, "x.jsonl.gz")),
    "dataset-zip": Reader(datafiles.archived, datafiles.dataset(room, "x.zip")),
    "evaluation-zip": Reader(datafiles.archived, datafiles.archive(room)),
    "publication-step": Reader(datafiles.steps, datafiles.staging(room), text=True),
    "imatrix": Reader(quantized.imatrices(room), quantized.imatrix(room)),
    "lora": Reader(quantized.samples("lora"), quantized.adapter(room), text=True),
    **{
        name: Reader(quantized.samples(name), quantized.quantized(room, name), text=True)
        for name in quantized.SAMPLES if name != "lora"
    },
}  # fmt: skip
