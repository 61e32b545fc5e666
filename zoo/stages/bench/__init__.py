"""Package or server → Report: how fast it answers, under a load that says exactly what it was."""

from zoo.stages.bench.ask import Ask, Server
from zoo.stages.bench.package import bench_package
from zoo.stages.bench.result import Bench
from zoo.stages.bench.server import bench_server

__all__ = ["Ask", "Bench", "Server", "bench_package", "bench_server"]
