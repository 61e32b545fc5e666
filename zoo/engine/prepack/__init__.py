"""Weights as the kernels want them, kept in files that are mapped: a cache under ``$ZOO_HOME/prepacked``.

onnxruntime rearranges every matrix when it opens a package and keeps the result in memory of its own. Kept in a file
instead, it is mapped: opened again, a package takes little memory of its own, processes share what they map, and a
package larger than memory runs. Such files belong to one kind of CPU and one version of onnxruntime, so they are a
cache, not part of the package, and take twice its room on disk.
"""

from zoo.engine.prepack.making import can_prepare, grows_to, make
from zoo.engine.prepack.opening import is_large, mode, open_graph, shortage
from zoo.engine.prepack.store import clear, entry, find, limit, size_of

__all__ = [
    "can_prepare",
    "clear",
    "entry",
    "find",
    "grows_to",
    "is_large",
    "limit",
    "make",
    "mode",
    "open_graph",
    "shortage",
    "size_of",
]
