"""The autoencoder's three networks fit together."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from models.networks.autoencoder import Autoencoder, AutoencoderShape, build


@pytest.fixture(scope="module")
def networks() -> Autoencoder:
    tf.keras.utils.set_random_seed(0)
    return build(286)


@pytest.fixture
def features() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((5, 286)).astype(np.float32)


def test_code_of_64_numbers_is_rebuilt_and_judged(networks: Autoencoder, features: NDArray[np.float32]) -> None:
    code = networks.encoder(features)
    assert code.shape == (5, 64)
    assert networks.decoder(code).shape == (5, 286)
    assert networks.discriminator(code).shape == (5, 1)


def test_the_code_is_free_to_be_negative(networks: Autoencoder, features: NDArray[np.float32]) -> None:
    code = networks.encoder(features).numpy()
    assert code.min() < -0.1 and code.max() > 0.1


def test_inputs_are_dropped_in_training_only(networks: Autoencoder, features: NDArray[np.float32]) -> None:
    plain = networks.encoder(features)
    np.testing.assert_array_equal(plain, networks.encoder(features))
    assert np.abs(plain - networks.encoder(features, training=True)).max() > 0.01


def test_the_size_of_the_code_can_be_chosen(features: NDArray[np.float32]) -> None:
    assert build(286, AutoencoderShape(code=3)).encoder(features).shape == (5, 3)
