import io
import math

import numpy as np
import pytest
import soundfile
from media import tone

from preprocess.audio import cut, mfcc, read_recording, to_int16
from preprocess.decode import ClipError


def test_the_cut_is_from_half_a_second_for_two_point_four_five_seconds():
    ramp = np.linspace(0, 0.5, 4 * 44_100, dtype=np.float32)[None]
    kept, notes = cut(ramp, 44_100)
    assert kept.shape == (108_045,)
    assert kept.dtype == np.float32
    assert notes == ()
    np.testing.assert_array_equal(kept, ramp[0, 22_050 : 22_050 + 108_045])


def test_channels_are_averaged():
    left, right = tone(3.2)[:1], tone(3.2)[:1] * -1
    kept, notes = cut(np.concatenate([left, right]), 48_000)
    assert not kept.any()
    assert notes == ("sound is silent: every sample is zero",)


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 48_000])
def test_resampling_keeps_pitch_and_level(rate_hz):
    kept, _ = cut(tone(3.2, rate_hz), rate_hz)
    spectrum = np.abs(np.fft.rfft(kept * np.hanning(len(kept))))
    assert spectrum.argmax() * 44_100 / len(kept) == pytest.approx(440, abs=0.5)
    assert np.abs(kept).max() == pytest.approx(0.1, rel=0.02)


def test_sound_that_ends_a_little_early_is_padded_and_noted():
    kept, notes = cut(tone(2.936), 48_000)
    assert kept.shape == (108_045,)
    missing = 130_095 - round(2.936 * 44_100)
    assert notes == (f"sound ends at 2.936 s: {missing} zero samples appended",)
    assert not kept[-missing:].any()
    assert kept[: -missing - 10].any()


def test_sound_that_ends_far_too_early_is_refused():
    with pytest.raises(ClipError, match=r"the sound ends at 2.60 s, expected at least 2.70 s"):
        cut(tone(2.6), 48_000)
    with pytest.raises(ClipError, match=r"the sound ends at 0.10 s"):
        cut(tone(0.1), 48_000)


def test_sound_with_values_that_are_no_numbers_is_refused():
    broken = tone(3.2)
    broken[0, 99] = np.nan
    with pytest.raises(ClipError, match="values that are no numbers"):
        cut(broken, 48_000)


def test_mfccs_have_13_coefficients_in_212_steps():
    result = mfcc(cut(tone(3.2), 48_000)[0])
    assert result.shape == (13, 212)
    assert result.dtype == np.float32


def test_twenty_decibels_more_raise_the_first_coefficient_alone():
    noise = np.random.default_rng(0).standard_normal(108_045).astype(np.float32) * 0.01
    quiet, loud = mfcc(noise), mfcc(noise * 10)
    # Every one of the 128 mel bands gains 20 dB; an orthonormal DCT-II makes 20 sqrt(128) of it.
    np.testing.assert_allclose(loud[0] - quiet[0], 20 * math.sqrt(128), rtol=1e-3)
    np.testing.assert_allclose(loud[1:], quiet[1:], atol=1e-2)


def sound_file(samples, rate_hz=48_000, kind="WAV"):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples.T, rate_hz, format=kind, subtype="PCM_16")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_recording_is_read_with_its_channels_and_rate(kind, channels):
    samples, rate_hz = read_recording(sound_file(tone(3.2, channels=channels), kind=kind))
    assert rate_hz == 48_000
    np.testing.assert_allclose(samples, tone(3.2, channels=channels), atol=1 / 32_000)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable recording"),
        (b"RIFF of nothing", "not a readable recording"),
        (sound_file(tone(61, 1_000), 1_000), "the recording has 61 s, expected at most 60 s"),
        (sound_file(tone(3.2), kind="FLAC")[:20_000], "recording|samples could be read"),
    ],
)
def test_a_recording_that_cannot_be_used_is_refused(content, message):
    with pytest.raises(ClipError, match=message):
        read_recording(content)


def test_samples_are_kept_as_16_bits():
    kept = to_int16(np.float32([0, 0.5, -0.5, 1, -1, 2]))
    assert kept.dtype == np.int16
    assert kept.tolist() == [0, 16_384, -16_384, 32_767, -32_768, 32_767]
