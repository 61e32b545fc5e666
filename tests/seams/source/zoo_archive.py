"""Weights in one ``.npz`` file: arrays by tensor name, the files beside them as bytes under ``file:NAME``."""

import hashlib
import json
from pathlib import Path

import numpy as np

from zoo import DTYPES, TensorInfo, hookimpl


@hookimpl
def register_sources(register):
    register("archive", "zoo_archive:Archives")


class Archives:
    def recognise(self, location):
        return location.endswith(".npz") and Path(location).is_file()

    def open(self, location, *, revision, offline):
        return Archive(Path(location))


class Archive:
    transforms, checksums, revision, folder, download_bytes = (), {}, None, None, 0

    def __init__(self, path):
        self.path, self.name, self.digest = path, path.stem, hashlib.sha256(path.read_bytes()).hexdigest()
        stored = dict(np.load(path))
        self.files = {name[5:]: stored.pop(name).tobytes() for name in list(stored) if name.startswith("file:")}
        self.arrays, self.config = stored, json.loads(self.files["config.json"])
        infos = [TensorInfo(n, DTYPES[a.dtype.name].code, a.shape, a.nbytes, path.name) for n, a in stored.items()]
        self.tensors = {info.name: info for info in infos}

    def read(self, name, start, stop, out=None):
        array = self.arrays[name]
        return array.reshape(-1, array.shape[-1])[start:stop] if array.ndim > 1 else array[start:stop]

    def companion(self, name):
        return self.files.get(name)

    def companions(self):
        return tuple(sorted(self.files))

    def stamps(self):
        status = self.path.stat()
        return {self.path.name: (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)}

    def bring(self, progress=None):
        return self

    def close(self):
        pass
