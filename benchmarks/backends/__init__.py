"""The programs that are compared, one a file: how each is installed, builds a package and runs it."""

from backends.base import Backend, Site
from backends.genai import GENAI
from backends.ik_llama import IK_LLAMA
from backends.llama_cpp import LLAMA_CPP
from backends.mobius import MOBIUS
from backends.openvino import OPENVINO
from backends.zoo import ZOO, ZOO_BLOCK_128

PEERS: dict[str, Backend] = {peer.name: peer for peer in (GENAI, LLAMA_CPP, IK_LLAMA, OPENVINO, MOBIUS)}
VARIANTS: dict[str, Backend] = {one.name: one for one in (ZOO_BLOCK_128,)}
BACKENDS: dict[str, Backend] = {ZOO.name: ZOO, **VARIANTS, **PEERS}

__all__ = ["BACKENDS", "PEERS", "VARIANTS", "Backend", "Site"]
