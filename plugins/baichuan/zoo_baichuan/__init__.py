"""The Baichuan 2 family."""

from pathlib import Path

from zoo import Decoder, hookimpl

ZOO_API = 1


@hookimpl
def register_families(register):
    register(Path(__file__).with_name("baichuan.yaml"))


@hookimpl
def register_architectures(register):
    register("baichuan", "zoo_baichuan:Baichuan")


class Baichuan(Decoder):
    """The decoder. Two codes share one ``model_type``; files of the one with ALiBi state ``model_max_length`` alone."""

    def read_config(self, config, implied=()):
        implied = dict(implied)
        if "max_position_embeddings" not in config:
            implied |= {"positions": "alibi", "verify_as": None}
            config = {**config, "max_position_embeddings": config.get("model_max_length", 4096)}
        elif config.get("vocab_size") == 64000:  # the first Baichuan
            implied["normalized_head"] = False
        kept = {key: value for key, value in config.items() if key != "model_max_length"}
        return super().read_config(kept, implied).model_copy(update={"type": "baichuan"})

    def write_config(self, arch):
        names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
        context = "model_max_length" if arch.positions == "alibi" else "max_position_embeddings"
        numbers = {name: getattr(arch, name) for name in (*names, "hidden_act", "rms_norm_eps")}
        return {**numbers, context: arch.max_position_embeddings}
