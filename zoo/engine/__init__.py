"""Run a package: session, KV caches, sampling, text; one request at a time, or many in one batch."""

from zoo.engine.engine import OrtEngine, Stream
from zoo.engine.generation import Generation, Limits, Piece, Timings
from zoo.engine.logprobs import TokenLogprob
from zoo.engine.sampling import Sampling
from zoo.engine.scheduler import QueueFull, Scheduler
from zoo.engine.seat import SchedulerStats
from zoo.engine.ticket import Ticket

__all__ = [
    "Generation",
    "Limits",
    "OrtEngine",
    "Piece",
    "QueueFull",
    "Sampling",
    "Scheduler",
    "SchedulerStats",
    "Stream",
    "Ticket",
    "Timings",
    "TokenLogprob",
]
