"""The fixed texts as token ids."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.errors import ZooError
from zoo.verify.samples import make_samples

BOS = 0


@pytest.fixture
def folder(tmp_path):
    """A folder with a byte-level tokenizer that puts a token before every text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=257, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    tokenizer.enable_truncation(8)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_windows_hold_the_whole_text_each_led_by_bos(folder) -> None:
    text = "one two three " * 20
    windows = [one for one in make_samples(folder, 257, 64, text=text) if one.text]
    assert all(one.ids[0] == BOS and len(one.ids) <= 64 for one in windows)
    assert sum(len(one.ids) - 1 for one in windows) == len(text)


def test_prompts_are_of_many_kinds_and_within_the_context(folder) -> None:
    prompts = [one for one in make_samples(folder, 257, 100) if not one.text]
    assert {"english", "chinese", "arabic", "python"} <= {one.name for one in prompts}
    assert all(0 < len(one.ids) <= 100 for one in prompts)


def test_the_first_window_is_the_longest(folder) -> None:
    lengths = [len(one.ids) for one in make_samples(folder, 257, 4096) if one.text]
    assert lengths[:2] == [1024, 512]
    assert max(lengths[2:]) == 512


def test_a_tokenizers_own_truncation_is_off(folder) -> None:
    assert max(len(one.ids) for one in make_samples(folder, 257, 512) if not one.text) > 8


def test_quick_is_a_fraction(folder) -> None:
    full, quick = (make_samples(folder, 257, 512, quick=one) for one in (False, True))
    assert sum(len(one.ids) for one in quick) * 4 < sum(len(one.ids) for one in full)
    assert any(one.text for one in quick)


def test_without_a_tokenizer_ids_are_seeded(tmp_path) -> None:
    first, again = make_samples(tmp_path, 50, 40), make_samples(tmp_path, 50, 40)
    assert all(np.array_equal(a.ids, b.ids) for a, b in zip(first, again, strict=True))
    assert max(int(one.ids.max()) for one in first) < 50
    assert max(len(one.ids) for one in first) == 40
    assert not any(one.text for one in first)


def test_a_broken_tokenizer_is_named(tmp_path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ZooError, match=r"tokenizer\.json"):
        make_samples(tmp_path, 50, 40)
