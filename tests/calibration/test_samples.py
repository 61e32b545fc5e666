"""Blocks of tokens: cut without a gap, drawn by a seed, refused when there are too few."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.calibration.samples import POOL, draw, fingerprint
from zoo.errors import ZooError


@pytest.fixture
def tokenizer():
    """A tokenizer of whole words that puts <s> before a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = {"<s>": 0, **{str(one): one + 1 for one in range(300)}}
    made = Tokenizer(models.WordLevel(words, unk_token="<s>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    made.enable_truncation(5)
    return made.to_str().encode()


def take(tokenizer, texts, samples=3, length=5, seed=0, vocab=400):
    return draw(iter(texts), tokenizer, samples=samples, length=length, seed=seed, vocab=vocab, name="d")


def test_blocks_follow_each_other(tokenizer):
    found = take(tokenizer, [" ".join(map(str, range(7))), " ".join(map(str, range(7, 12)))])
    assert found.dtype == np.int32
    assert found.tolist() == [[0, 1, 2, 3, 4], [0, 5, 6, 7, 8], [0, 9, 10, 11, 12]]


def test_seeds_draw_others_and_the_same_again(tokenizer):
    texts = [" ".join(map(str, range(200)))] * 5
    one, two, again = (take(tokenizer, texts, samples=6, seed=seed) for seed in (1, 2, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, two)
    assert fingerprint(one) == fingerprint(again) != fingerprint(two)


def test_a_share_of_random_tokens(tokenizer):
    texts = [" ".join(map(str, range(200)))]
    found = draw(
        iter(texts), tokenizer, samples=6, length=5, seed=0, vocab=400, name="d", random_share=0.5
    )  # fmt: skip
    assert found.shape == (6, 5)
    assert np.array_equal(found[:3], take(tokenizer, texts, samples=3))
    assert np.all(np.diff(found[:3, 1:]) == 1)
    assert not np.any(np.all(np.diff(found[3:, 1:]) == 1, axis=1))
    assert np.all(found[:, 0] == 0)


def test_no_more_is_read_than_needed(tokenizer):
    read = []

    def texts():
        for one in range(1000):
            read.append(one)
            yield "1 2 3 4"

    take(tokenizer, texts(), samples=3)
    assert len(read) <= 3 * POOL + 1


def test_too_few_samples(tokenizer):
    with pytest.raises(ZooError, match="dataset d: holds 2 samples of 5 tokens, fewer than the 3 asked for"):
        take(tokenizer, ["1 2 3 4 5 6 7 8 9 10 11"])
    with pytest.raises(ZooError, match="holds 0 samples"):
        take(tokenizer, [])
    with pytest.raises(ZooError, match="leave no room"):
        take(tokenizer, ["1"], length=1)


def test_tokens_past_the_vocabulary(tokenizer):
    with pytest.raises(ZooError, match=r"makes token 12, but the model's vocabulary is 9"):
        take(tokenizer, [" ".join(map(str, range(12)))], vocab=9)


def test_a_damaged_tokenizer():
    with pytest.raises(ZooError, match=r"tokenizer\.json: "):
        take(b"{}", ["1"])
