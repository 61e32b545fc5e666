"""Task names to the harness' tasks: registered ones over local files, or the harness' own. Needs the extra ``eval``."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from zoo.declarations.base import digest
from zoo.errors import ZooError, unknown
from zoo.evaluation.datafiles import DataFiles, FolderFiles
from zoo.evaluation.localtask import BLOCK, LocalData, plain_files, read_block, read_local
from zoo.evaluation.rows import TaskRow, read_rows

Scoring = Literal["likelihood", "generation"]
Registered = Mapping[str, str | Path | Mapping[str, Any]]


@dataclass(frozen=True)
class Choices:
    """What a run asks of its tasks.

    Attributes:
        data_of: gives the files of a declared dataset, or of ``--data`` alone for None.
        scoring: how tasks that know both ways are scored.
    """

    data_of: Callable[[str | None], DataFiles]
    scoring: Scoring
    num_fewshot: int | None = None
    limit: int | None = None
    seed: int = 0


@dataclass
class Suite:
    """What one task name stands for: a task of the harness, or one a subject.

    Attributes:
        tasks: the harness' task objects by name.
        generates: the model writes; its chat template applies where it has one.
    """

    name: str
    tasks: dict[str, Any]
    generates: bool
    notes: list[str] = field(default_factory=list)

    @property
    def num_fewshot(self) -> int:
        """Worked examples before each question: the same for all tasks, or the most."""
        return max(int(task.get_config("num_fewshot") or 0) for task in self.tasks.values())

    @property
    def hash(self) -> str:
        """A hash of what the tasks are, apart from their rows: prompts, metrics, filters."""
        return digest([_plain(task.dump_config()) for task in self.tasks.values()])


def load_suite(name: str, registered: Registered, choices: Choices) -> Suite:
    """Make the tasks that a name stands for.

    Args:
        name: a registered task, or one of the harness' own.

    Raises:
        UsageError: nobody knows it; the nearest names are offered.
        ZooError: its files are missing or are not as it says.
    """
    if name not in registered:
        suite = _own(name, registered)
    else:
        stated = registered[name]
        config, folder = _config(name, stated)
        block = config.pop(BLOCK, None)
        plain = plain_files(config) if "class" not in config else None
        if block is not None:
            suite = _local(name, config, block, choices)
        elif plain is not None:
            suite = _beside(name, config, plain, folder)
        else:
            suite = Suite(name, _load(name, config), False)
    for task in suite.tasks.values():
        if choices.num_fewshot is not None:
            task.set_config("num_fewshot", choices.num_fewshot)
        elif task.get_config("num_fewshot") is None:
            task.set_config("num_fewshot", 0)
        task.set_fewshot_seed(seed=choices.seed)
        _check_rows(name, task, choices.limit)
    writes = [task.get_config("output_type") == "generate_until" for task in suite.tasks.values()]
    suite.generates = all(writes)
    return suite


def _config(name: str, stated: str | Path | Mapping[str, Any]) -> tuple[dict[str, Any], Path]:
    if isinstance(stated, Mapping):
        return copy.deepcopy(dict(stated)), Path.cwd()
    from lm_eval.tasks._yaml_loader import load_yaml

    path = Path(stated)
    try:
        config: dict[str, Any] = copy.deepcopy(load_yaml(path))
    except Exception as error:  # YAML's, and whatever a function that it names raises on import
        raise ZooError(f"task {name}: {path.name} cannot be read: {_line(error)}") from None
    return config, path.parent


def _local(name: str, config: dict[str, Any], raw_block: Any, choices: Choices) -> Suite:
    """Make the tasks of a YAML with a ``zoo:`` block."""
    block = read_block(name, raw_block)
    if choices.scoring == "generation" and block.generation:
        config = {**config, **copy.deepcopy(block.generation)}
    scored = config.get("test_split") or config.get("validation_split")
    if scored not in block.files:
        raise ZooError(f"task {name}: {BLOCK}.files names no file of the split {scored!r} that is scored")
    shots = choices.num_fewshot if choices.num_fewshot is not None else config.get("num_fewshot") or 0
    examples = config.get("fewshot_split") or scored
    if not shots:
        config.pop("fewshot_split", None)
    splits = list(dict.fromkeys([scored, examples])) if shots else [scored]
    tasks = {}
    for local in read_local(name, block, choices.data_of(block.dataset), splits):
        own = name if local.subject is None else f"{name}_{re.sub(r'[^a-z0-9_]+', '_', local.subject.lower())}"
        tasks[own] = _task(own, config, local)
    suite = Suite(name, tasks, False)
    if block.subjects is not None and len(tasks) < block.subjects:
        suite.notes.append(f"{name}: {len(tasks)} of {block.subjects} subjects are there")
    return suite


def _beside(name: str, config: dict[str, Any], files: Mapping[str, Sequence[str]], folder: Path) -> Suite:
    """Make a task whose files lie beside its YAML."""
    data = FolderFiles(folder)
    rows = LocalData()
    for split, paths in files.items():
        rows.splits[split] = [row for path in paths for row in read_rows(path, data.read(path))]
        if not rows.splits[split]:
            raise ZooError(f"task {name}: {', '.join(paths)} holds no rows")
    return Suite(name, {name: _task(name, config, rows)}, False)


class _Given:
    """The rows of a task, as the harness asks for a dataset."""

    def __init__(self, rows: LocalData) -> None:
        self.rows = rows

    def __call__(self, **_: Any) -> Any:
        import datasets

        made = {}
        for split, rows in self.rows.splits.items():
            try:
                made[split] = datasets.Dataset.from_list([row.values for row in rows])
            except Exception as error:  # Arrow's errors have no common base
                raise ZooError(_odd_row(rows) or f"{rows[0].where}: {_line(error)}") from None
        return datasets.DatasetDict(made)


def _odd_row(rows: Sequence[TaskRow]) -> str | None:
    """Find the first row that has a value of another kind than the rows before it."""
    kinds: dict[str, type] = {}
    for row in rows:
        for column, value in row.values.items():
            if value is not None and kinds.setdefault(column, type(value)) is not type(value):
                kind, other = type(value).__name__, kinds[column].__name__
                return f"{row.where}: {column!r} is {str(value)[:40]!r} ({kind}) where rows before have {other}"
    return None


def _task(name: str, config: Mapping[str, Any], rows: LocalData) -> Any:
    from lm_eval.api.task import ConfigurableTask

    own = copy.deepcopy(dict(config)) | {"task": name}
    own.pop("dataset_kwargs", None)  # they say where files are
    given = _Given(rows)
    try:
        return ConfigurableTask(config=own | {"custom_dataset": given})
    except ZooError:
        raise
    except Exception as error:  # the harness tries the first row, and its templates can raise anything
        where = next(iter(rows.splits.values()))[0].where
        raise ZooError(f"task {name}: {where}: {_line(error)}") from None


def _load(name: str, spec: str | dict[str, Any]) -> dict[str, Any]:
    """Have the harness load a task of its own, or a configuration of any form."""
    from lm_eval.tasks import TaskManager

    manager = _manager() if isinstance(spec, str) or "group" in spec else TaskManager(include_defaults=False)
    try:
        return dict(manager.load([spec])["tasks"])
    except Exception as error:  # the network's, the hub's, a template's
        raise ZooError(f"task {name}: the harness cannot load it: {_line(error)}") from None


def _own(name: str, registered: Registered) -> Suite:
    manager = _manager()
    if name not in manager.task_index:
        raise unknown(
            "task", name, [*registered, *manager.all_tasks], "`zoo eval --list-tasks` shows the registered ones"
        )
    return Suite(name, _load(name, name), False)


@lru_cache(maxsize=1)
def _manager() -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _check_rows(name: str, task: Any, limit: int | None) -> None:
    """Find rows without an answer before anything is computed.

    Raises:
        ZooError: names the first.
    """
    kind = task.get_config("output_type")
    if kind is None or task.get_config("process_results") is not None:
        return  # a task in Python has its own ways
    for index, doc in enumerate(_documents(task, limit)):
        try:
            gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
            choices = task.doc_to_choice(doc) if task.get_config("doc_to_choice") is not None else None
        except Exception as error:  # a template can raise anything
            raise ZooError(f"task {name}: {_where(task, index)}: {_line(error)}") from None
        if not _has_answer(gold, choices):
            options = f" among its {len(choices)} options" if choices else ""
            raise ZooError(f"task {name}: {_where(task, index)}: a row without an answer{options}")


def _documents(task: Any, limit: int | None) -> Iterator[Any]:
    docs = task.eval_docs
    for index in range(len(docs) if limit is None else min(limit, len(docs))):
        yield docs[index]


def _has_answer(gold: Any, choices: Sequence[str] | None) -> bool:
    if isinstance(gold, list):
        return bool(gold) and all(_has_answer(answer, choices) for answer in gold)
    if choices is None:
        return gold is not None and str(gold).strip() != ""
    if isinstance(gold, bool) or not isinstance(gold, int):
        return gold in choices
    return 0 <= gold < len(choices)


def _where(task: Any, index: int) -> str:
    given = task.get_config("custom_dataset")
    if isinstance(given, _Given):
        split = task.get_config("test_split") or task.get_config("validation_split")
        return given.rows.splits[split][index].where
    return f"row {index + 1}"


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Take from a task's configuration what decides its score, as JSON."""
    dropped = ("custom_dataset", "dataset_kwargs", "metadata", "tag", "task_alias")
    return {key: _json(value) for key, value in config.items() if key not in dropped and value is not None}


def _json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_json(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool) or value is None else repr(type(value))


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
