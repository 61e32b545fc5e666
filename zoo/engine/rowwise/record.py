"""What is remembered of a package's row-wise graph on this machine: how its trials came out, and whether it is used."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.engine.machine import free_memory
from zoo.engine.prepack import store

if TYPE_CHECKING:
    from zoo.package.folder import Package

GRAPH, DATA, MARKER = "rowwise.onnx", "rowwise.data", "rowwise.json"
WHEN = "ZOO_ROWWISE"
"""Environment: ``auto`` sends long prompts this way where a trial was won, ``always`` where it is only faster, and
``never`` leaves them to the kernels of all other steps."""
FASTER = 1.1
"""Times as fast it has to be, to be worth its memory."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a trial found.

    KL is KL(float32 activations ‖ graph), the mean of all positions, in nats; of a model that generates nothing, it is
    1 less the smallest cosine of a text's vectors by the two.
    """

    speedup: float
    """How many times as many tokens of a long prompt a second."""
    kl_blocks: float
    kl_rowwise: float
    perplexity: float
    """Relative change of the perplexity of a text from one graph to the other; 0 where there is no tokenizer."""
    kl_limit: float
    """By how much the KL may grow."""
    perplexity_limit: float
    left: str | None = None
    """Products that kept their blocks."""
    measure: str = "KL"

    @property
    def faster(self) -> bool:
        return self.speedup >= FASTER

    @property
    def exact(self) -> bool:
        """Whether it adds nothing that a verification would show."""
        return self.kl_rowwise - self.kl_blocks <= self.kl_limit and abs(self.perplexity) <= self.perplexity_limit

    def __str__(self) -> str:
        """Say in words what came out."""
        more = f"{self.measure} {self.kl_rowwise - self.kl_blocks:+.1e}"
        if self.won:
            return f"{self.speedup:.2f} times as fast in a trial here, {more}"
        if not self.faster:
            return f"only {self.speedup:.2f} times as fast in a trial here"
        return f"{self.speedup:.2f} times as fast in a trial here, but {more}, perplexity {self.perplexity:+.2%}"

    @property
    def won(self) -> bool:
        """Whether long prompts are to go this way."""
        return self.faster and self.exact


@dataclass(frozen=True, slots=True)
class Record:
    """What the marker says."""

    trials: tuple[Trial, ...] = ()
    """One for each attempt that was made; none where there was no room for any."""
    kept: int | None = None
    """Of which attempt the graph is there."""
    sizes: dict[str, int] = field(default_factory=dict)

    def wanted(self, when: str) -> int | None:
        """Find the attempt whose graph is to be used."""
        wins = (index for index, one in enumerate(self.trials) if one.won or (one.faster and when == "always"))
        return next(wins, None)

    def write(self, at: Path) -> None:
        """Replace the marker of an entry."""
        part = at / (MARKER + store.PART)
        said = {"kept": self.kept, "sizes": self.sizes, "trials": [asdict(one) for one in self.trials]}
        part.write_text(json.dumps(said, indent=1) + "\n")
        part.rename(at / MARKER)


def recorded(package: Package) -> Trial | None:
    """Read how the trial of a package's row-wise graph came out on this machine; None where there was none."""
    record = read(store.entry(package))
    if record is None or not record.trials:
        return None
    return record.trials[-1 if record.kept is None else record.kept]


def find(package: Package) -> Path | None:
    """Find a package's row-wise graph, where it is to be used and memory holds both copies of the weights.

    Raises:
        UsageError: the environment says something unknown.
    """
    when, at = store.when(WHEN), store.entry(package)
    record = read(at) if when != "never" else None
    if record is None or record.kept is None or record.wanted(when) != record.kept:
        return None
    own = sum(one.size for one in package.manifest.files.values())
    # The file holds its weights twice, as they are and prepared; only the prepared ones are read.
    return at / GRAPH if own + record.sizes[DATA] // 2 <= free_memory() else None


def due(package: Package) -> bool:
    """Tell whether there is something to make; where there was no room, it is not asked for every time."""
    when, at = store.when(WHEN), store.entry(package)
    if when == "never":
        return False
    record = read(at)
    if record is not None and record.trials:
        return record.wanted(when) not in (None, record.kept)
    try:
        return time.time() - (at / MARKER).stat().st_mtime > store.STALE
    except OSError:
        return True


def read(at: Path) -> Record | None:
    """Read the marker; a graph whose files are not as it says is none."""
    try:
        said = json.loads((at / MARKER).read_bytes())
        record = Record(tuple(Trial(**one) for one in said["trials"]), said["kept"], said["sizes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    try:
        whole = record.kept is None or all((at / name).stat().st_size == record.sizes[name] for name in (GRAPH, DATA))
    except (OSError, KeyError):
        whole = False
    return record if whole else replace(record, kept=None)
