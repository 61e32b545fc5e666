#!/usr/bin/env python3
"""Write Q8_0 by `zoo build --target gguf` and by llama.cpp's converter, in turns; compare time, memory and bytes.

python benchmarks/gguf_build.py --convert llama.cpp/convert_hf_to_gguf.py --shape tinyllama-1.1b
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from checkpoints import ensure
from gguf import GGUFReader
from measure import measure
from rounds import failure


def tensors(path: Path) -> dict[str, tuple[str, bytes]]:
    """Read each tensor's type and bytes."""
    read = GGUFReader(path).tensors
    return {one.name: (one.tensor_type.name, one.data.reshape(-1).view(np.uint8).tobytes()) for one in read}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--convert", type=Path, required=True, help="llama.cpp's convert_hf_to_gguf.py")
    parser.add_argument("--shape", default="tinyllama-1.1b")
    parser.add_argument("--cache", type=Path, default=Path(".bench"))
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    checkpoint = ensure(args.cache.resolve(), args.shape, "random", "float16")
    with tempfile.TemporaryDirectory(dir=args.cache) as work:
        ours, theirs = Path(work) / "zoo", Path(work) / "theirs.gguf"
        build = ["-m", "zoo", "build", str(checkpoint), "--target", "gguf", "-o", str(ours), "--force"]
        convert = [str(args.convert), str(checkpoint), "--outtype", "q8_0", "--outfile", str(theirs)]
        commands, done = {"zoo": build, "llama.cpp": convert}, {"zoo": [], "llama.cpp": []}
        # Modules are compiled once, as an installation has them.
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        for _ in range(args.rounds):
            for name, argv in commands.items():
                done[name].append(measure([sys.executable, *argv], env))
        for name, rounds in done.items():
            if bad := next((one for one in rounds if one.code), None):
                raise SystemExit(f"{name} failed: {failure(bad.stderr)}")
        equal = tensors(ours / "model.gguf") == tensors(theirs)
    figures = {
        name: {"wall_s": statistics.median(one.wall for one in rounds), "cpu_s": min(one.cpu for one in rounds),
               "peak_rss_mb": max(one.peak_rss for one in rounds) / 1e6,
               "peak_anonymous_mb": max(one.peak_anonymous for one in rounds) / 1e6}
        for name, rounds in done.items()
    }  # fmt: skip
    print(json.dumps({"shape": args.shape, "equal_bytes": equal, **figures}, indent=1))


if __name__ == "__main__":
    main()
