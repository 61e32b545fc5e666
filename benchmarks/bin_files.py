"""Write a safetensors checkpoint again as PyTorch's `.bin`, without PyTorch: a zip archive of stored members.

The pickle in it is the one that torch.save writes for a dict of tensors; the format is described in PyTorch's notes on
serialization semantics.
"""

import json
import shutil
import struct
import zipfile
from pathlib import Path

KINDS = {"F32": ("FloatStorage", 4), "F16": ("HalfStorage", 2), "BF16": ("BFloat16Storage", 2)}
BLOCK = 4 << 20


def text(value: str) -> bytes:
    """Return the opcode of a string."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    """Return the opcode of a whole number of up to 8 bytes."""
    return b"\x8a\x08" + value.to_bytes(8, "little", signed=True)


def pickled(entries: dict[str, tuple[str, list[int]]]) -> bytes:
    """Return the pickle of a dict of tensors, name -> (dtype, shape); the n-th one's bytes are member `data/n`."""
    parts = [b"\x80\x02}("]
    for key, (name, (dtype, shape)) in enumerate(entries.items()):
        numel, strides = 1, []
        for size in reversed(shape):
            strides.insert(0, numel)
            numel *= size
        storage = b"(" + text("storage") + f"ctorch\n{KINDS[dtype][0]}\n".encode() + text(str(key)) + text("cpu")
        sizes = b"".join(b"(" + b"".join(map(number, one)) + b"t" for one in (shape, strides))
        parts += [text(name), b"ctorch._utils\n_rebuild_tensor_v2\n(", storage, number(numel), b"tQ", number(0), sizes,
                  b"\x89ccollections\nOrderedDict\n)RtR"]  # fmt: skip
    return b"".join([*parts, b"u."])


def convert(source: Path, target: Path) -> Path:
    """Copy a checkpoint folder with its one `model.safetensors` as `pytorch_model.bin`."""
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.suffix != ".safetensors":
            shutil.copyfile(file, target / file.name)
    with open(source / "model.safetensors", "rb") as weights:
        length = struct.unpack("<Q", weights.read(8))[0]
        header = {name: one for name, one in json.loads(weights.read(length)).items() if name != "__metadata__"}
        with zipfile.ZipFile(target / "pytorch_model.bin", "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(
                "model/data.pkl", pickled({name: (one["dtype"], one["shape"]) for name, one in header.items()})
            )
            archive.writestr("model/byteorder", b"little")
            for key, one in enumerate(header.values()):
                begin, end = one["data_offsets"]
                weights.seek(8 + length + begin)
                with archive.open(f"model/data/{key}", "w", force_zip64=True) as member:
                    while begin < end:
                        block = weights.read(min(BLOCK, end - begin))
                        member.write(block)
                        begin += len(block)
    return target
