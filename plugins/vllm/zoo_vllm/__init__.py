"""vLLM: weights as it reads them, and the command that serves original ones over GPUs and machines."""

from zoo import hookimpl

ZOO_API = 1


@hookimpl
def register_targets(register):
    register("vllm", "zoo_vllm.target:Vllm")
