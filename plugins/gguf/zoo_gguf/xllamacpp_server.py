"""llama-server out of the wheel xllamacpp, with the arguments that the engine gives; run as a script."""

import argparse
import importlib.metadata
import os
import signal


def main() -> None:
    """Serve until terminated."""
    import xllamacpp

    parser = argparse.ArgumentParser()
    parser.add_argument("-m", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--no-warmup", action="store_true")
    for name in ("--port", "-np", "-c", "--poll"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("-t", type=int)
    asked = parser.parse_args()
    params = xllamacpp.CommonParams()
    lacking = [
        name for name in ("swa_full", "fit_params", "cache_ram_mib", "ui", "api_keys") if not hasattr(params, name)
    ]
    if lacking:
        version = importlib.metadata.version("xllamacpp")
        raise SystemExit(
            f"xllamacpp {version} is another version than this zoo starts: its CommonParams have no {lacking[0]}; "
            "pip install -U xllamacpp"
        )
    params.model.path, params.hostnames, params.port = asked.m, [asked.host], asked.port
    params.n_parallel, params.n_ctx, params.warmup = asked.np, asked.c, not asked.no_warmup
    params.api_keys = [os.environ["LLAMA_API_KEY"]]
    params.swa_full = bool(os.environ.get("LLAMA_ARG_SWA_FULL"))
    params.fit_params, params.cache_ram_mib, params.ui = False, 0, False
    params.cpuparams.poll = params.cpuparams_batch.poll = asked.poll
    if asked.t:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = asked.t
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # its threads and Python's end wait for each other
    server = xllamacpp.Server(params)
    while server.listening_address:
        signal.pause()


if __name__ == "__main__":
    main()
