import math

import numpy as np

from cache.schema import SAMPLE_COUNT
from preprocess.audio import mfcc, to_int16


def test_twenty_decibels_more_raise_only_the_first_of_13_coefficients():
    noise = np.random.default_rng(0).standard_normal(SAMPLE_COUNT).astype(np.float32) * 0.01
    quiet, loud = mfcc(noise), mfcc(noise * 10)
    assert (loud.shape, loud.dtype) == ((13, 212), np.float32)
    # Every one of the 128 mel bands gains 20 dB; an orthonormal DCT-II makes 20 sqrt(128) of it.
    np.testing.assert_allclose(loud[0] - quiet[0], 20 * math.sqrt(128), rtol=1e-3)
    np.testing.assert_allclose(loud[1:], quiet[1:], atol=1e-2)


def test_samples_are_kept_as_16_bits():
    kept = to_int16(np.float32([0, 0.5, -0.5, 1, -1, 2]))
    assert kept.dtype == np.int16
    assert kept.tolist() == [0, 16_384, -16_384, 32_767, -32_768, 32_767]
