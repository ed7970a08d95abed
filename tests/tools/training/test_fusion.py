"""Training the head: it starts at the pool, and learns what only one sense knows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from device.inference.fusion_head import OpinionPool
from models.contract import FUSION, SPEECH_CLASSES
from tests.tools.training.test_episodes import drawn, face_tokens, speech_tokens
from tools.training import fusion

POOL = OpinionPool(fusion.pool_constants(), (1 / len(SPEECH_CLASSES),) * len(SPEECH_CLASSES), (1 / 7,) * 7)
SHORT = replace(fusion.Recipe(), rounds=1, episodes_per_round=320)


def test_senses_that_are_never_wrong_stay_so() -> None:
    network = fusion.train(speech_tokens(), face_tokens(), POOL, SHORT)
    episodes = drawn(count=100)
    assert (fusion.corrected(network, POOL, episodes).argmax(axis=1) == episodes.labels).mean() > 0.95


def test_the_same_seed_gives_the_same_head() -> None:
    first, second = (fusion.train(speech_tokens(), face_tokens(), POOL, SHORT) for _ in range(2))
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_representative_episodes_have_the_contracts_tensors() -> None:
    batches = fusion.representative(speech_tokens(), face_tokens(), 0)
    for tensor in FUSION.inputs:
        assert all(batch[tensor.name].shape == tensor.shape for batch in batches)
    assert any(not batch["face_embeddings"].any() for batch in batches)
    assert any(not batch["speech_embeddings"].any() for batch in batches)
