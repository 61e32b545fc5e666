"""vLLM as another engine: original weights, split over GPUs and machines where one is not enough."""

from zoo import hookimpl

ZOO_API = 1


@hookimpl
def register_targets(register):
    register("vllm", "zoo_vllm.target:Vllm")
