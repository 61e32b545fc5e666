"""Small packages and tasks to evaluate, made once a session."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import zoo
from tests.checkpoints import make_checkpoint
from tests.engine.made import LINES, VOCAB, save_tokenizer

WORDS = sorted({word.strip(".,;:?") for line in LINES for word in line.split()})
TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def make_checkpoint_folder(folder: Path, kind: str = "byte_level", **numbers: Any) -> Path:
    """Write a random checkpoint with a tokenizer, and a chat template where one is given."""
    settings = {key: numbers.pop(key) for key in list(numbers) if key == "chat_template"}
    make_checkpoint(folder, vocab_size=VOCAB, bos_token_id=1, eos_token_id=2, **numbers)
    save_tokenizer(folder, kind, **settings)
    return folder


def build(checkpoint: Path, folder: Path, precision: str = "fp32") -> Path:
    """Build a package of a checkpoint."""
    return zoo.build(str(checkpoint), precision, output=folder).path


def sentence(rng: random.Random, words: int) -> str:
    """Draw words of the tokenizers' own lines."""
    return " ".join(rng.choice(WORDS) for _ in range(words))


def questions(count: int, *, options: int = 3, words: int = 4, seed: int = 0) -> list[dict[str, Any]]:
    """Draw multiple-choice questions; which option is right is drawn too."""
    rng = random.Random(seed)
    return [
        {
            "question": sentence(rng, 6),
            "choices": [sentence(rng, rng.randint(1, words)) for _ in range(options)],
            "answer": rng.randrange(options),
        }
        for _ in range(count)
    ]


CHOICE = {
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{answer}}",
    "metric_list": [
        {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True},
    ],
}


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def choice_task(folder: Path, rows: list[dict[str, Any]], name: str = "quiz", **changes: Any) -> dict[str, Any]:
    """Write a multiple-choice task's rows and give its configuration."""
    file = write_lines(folder / f"{name}.jsonl", rows)
    return {**CHOICE, "task": name, "dataset_kwargs": {"data_files": {"test": str(file)}}, **changes}
