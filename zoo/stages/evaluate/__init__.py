"""Package → Reports: score a package on tasks, alone or against another package or the original weights."""

from zoo.stages.evaluate.request import ORIGINAL, SCORINGS, Request
from zoo.stages.evaluate.stage import Evaluation, evaluate

__all__ = ["ORIGINAL", "SCORINGS", "Evaluation", "Request", "evaluate"]
