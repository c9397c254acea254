"""Files to frames and sound: strict for a clip of a cache, lenient for a prediction."""

import io
import resource
import zlib
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from media import (
    box,
    claiming,
    claiming_samples,
    encode,
    moved_to_front,
    noise_pictures,
    numbers,
    swept,
    tone,
    turned,
)
from processes import begin

from preprocess.decode import open_video
from preprocess.limits import ClipError
from preprocess.windows import Plan, decode, frame_times_s, read_windows


@cache
def numbered(count):
    """Pictures whose red tells their number: 2 levels per frame."""
    red = (2 * np.arange(count, dtype=np.uint8))[:, None, None, None] * np.uint8([1, 0, 0])
    return np.tile(red, (1, 64, 64, 1))


@cache
def ordinary():
    return encode(noise_pictures(95), tone(3.2))


def recording(samples, rate_hz=48_000, kind="WAV", subtype="PCM_16"):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples.T, rate_hz, format=kind, subtype=subtype)
    return buffer.getvalue()


def pictures(window):
    return np.stack([frame.to_ndarray(format="rgb24") for frame in window.frames])


def predicted(content):
    """The window of a file that a prediction is made for; ClipError if there is none."""
    with open_video(content) as video:
        [window] = read_windows(video, Plan())
    if window.problem:
        raise ClipError(window.problem)
    return window


@pytest.mark.parametrize(("count", "rate"), [(95, Fraction(30_000, 1_001)), (48, Fraction(10))])
def test_each_frame_is_the_one_on_the_screen_at_its_time(count, rate):
    """Of a slow video, some frames are shown twice."""
    window = decode(encode(numbered(count), tone(4.8), frame_rate=rate))
    expected = np.floor(frame_times_s() * float(rate)).astype(int)
    np.testing.assert_array_equal(window.frame_index, expected)
    assert window.frame_index.dtype == np.uint16
    np.testing.assert_allclose(np.diff(frame_times_s()), 2.45 / 30)
    red, *others = pictures(window).mean(axis=(1, 2)).T
    np.testing.assert_allclose(red / 2, expected, atol=2)
    np.testing.assert_allclose(others, 0, atol=6)
    assert window.notes == ()


@pytest.mark.parametrize("rate_hz", [8_000, 48_000])
def test_sound_is_resampled_with_its_pitch_and_level(rate_hz):
    wave = decode(encode(None, tone(3.2, rate_hz), rate_hz=rate_hz), picture=False).waveform
    assert (wave.shape, wave.dtype) == ((108_045,), np.float32)
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    assert spectrum.argmax() * 44_100 / len(wave) == pytest.approx(440, abs=0.5)
    assert np.abs(wave).max() == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_a_recording_is_cut_sample_by_sample_and_its_channels_averaged(kind):
    samples = np.round(swept(4, 44_100) * 32_768) / 32_768
    window = decode(recording(samples, 44_100, kind), picture=False)
    expected = samples.mean(axis=0, dtype=np.float32)[22_050 : 22_050 + 108_045]
    np.testing.assert_array_equal(window.waveform, expected)
    assert (window.notes, window.frames) == ((), None)
    delayed = decode(recording(samples, 44_100, kind), picture=False, sound_delay_s=0.1)
    np.testing.assert_array_equal(delayed.waveform[4_410:], expected[:-4_410])


def test_silence_is_noted_and_channels_that_cancel_out_are_not_silence():
    """A cable that was soldered the wrong way round inverts one of two channels."""
    silent = decode(recording(0 * tone(3.2)), picture=False)
    assert silent.notes == ("the sound is silent: it stays below -80 dB",)
    left = tone(3.2, channels=1)
    inverted = decode(recording(np.concatenate([left, -left]), subtype="FLOAT"), picture=False)
    assert inverted.notes == ("the right channel of the sound is inverted: it was turned back",)
    plain = decode(recording(np.concatenate([left, left]), subtype="FLOAT"), picture=False)
    np.testing.assert_array_equal(inverted.waveform, plain.waveform)


def test_sound_that_starts_late_is_at_its_time():
    content = encode(numbered(95), tone(3.2), sound_starts_s=(0.3,))
    with open_video(content, picture=False, clip=True) as video:
        wave = np.concatenate(list(video.sound()))
    loud = np.flatnonzero(np.abs(wave) > 0.03)
    assert loud[0] / 44_100 == pytest.approx(0.3, abs=0.03)


def test_what_ends_a_little_early_is_repeated_or_silent_and_noted():
    window = decode(encode(numbered(83), tone(3.2)))  # ends at 2.77 s, the last time is 2.91 s
    assert window.frame_index[-1] == 82
    assert window.notes == ("video ends at 2.769 s: last frame repeated 2 times",)
    window = decode(recording(tone(2.936)), picture=False)
    missing = 130_095 - round(2.936 * 44_100)
    assert window.notes == (f"sound ends at 2.936 s: {missing} zero samples appended",)
    assert not window.waveform[-missing:].any()
    assert window.waveform[: -missing - 10].any()


# Display matrices a, b, c, d; and what they do to a picture.
TURNS = {
    "turned by 270 degrees": ((0, 1, -1, 0), lambda shown: np.rot90(shown, -1, axes=(1, 2))),
    "turned by 180 degrees": ((-1, 0, 0, -1), lambda shown: np.rot90(shown, 2, axes=(1, 2))),
    "turned by 90 degrees": ((0, -1, 1, 0), lambda shown: np.rot90(shown, 1, axes=(1, 2))),
    "mirrored": ((-1, 0, 0, 1), lambda shown: np.flip(shown, 2)),
    "mirrored ": ((1, 0, 0, -1), lambda shown: np.flip(shown, 1)),
}


@pytest.mark.parametrize("note", TURNS)
def test_a_picture_that_is_to_be_turned_or_mirrored_is_shown_so(note):
    matrix, turn = TURNS[note]
    light = np.zeros((95, 48, 96, 3), np.uint8)
    light[:, :24, :48] = 255  # the upper left
    window = decode(turned(encode(light, tone(3.2)), matrix))
    assert np.abs(pictures(window).astype(int) - turn(light[:30])).mean() < 4
    assert window.notes == (note.strip(),)


# What becomes of a strange file: as a clip, and as a video to predict.
BAD_FOR_BOTH = {
    "nothing": (lambda: b"", "not a readable video"),
    "text": (lambda: b"a text, not a video\n" * 50, "not a readable video"),
    "no sound": (lambda: encode(numbered(95), None), "the file contains no audio track"),
    "no picture": (lambda: encode(None, tone(3.2)), "the file contains no video track"),
    "short": (lambda: encode(numbered(60), tone(3.2)), r"the video ends at 2.00 s, .*2.66"),
    "short sound": (lambda: encode(numbered(95), tone(1.5)), r"the sound ends at 1.5\d s, .*2.70"),
    "narrow": (lambda: encode(noise_pictures(95, 512, 64), tone(3.2)), "claims 64x512 pixels"),
    "vast": (lambda: claiming(65_535, 65_535, 3.2), "claims one that no decoder takes"),
    "large": (lambda: claiming(8_000, 8_000, 3.2), "claims 8000x8000 pixels"),
    "late picture": (
        lambda: encode(numbered(95), tone(3.2), container="matroska", picture_start_s=1.0),
        r"the video starts at 1\.0\d s, its first frame is due at 0\.54 s",
    ),
}


@pytest.mark.parametrize(("content", "problem"), BAD_FOR_BOTH.values(), ids=BAD_FOR_BOTH)
def test_a_strange_file_has_one_reason_as_a_clip_and_for_a_prediction(content, problem):
    content = content()
    with pytest.raises(ClipError, match=problem):
        decode(content)
    with pytest.raises(ClipError, match=problem):
        predicted(content)


BAD_FOR_A_CLIP = {
    "long": (lambda: encode(numbered(95), tone(70, 8_000, 1), rate_hz=8_000), "claims 70 s, exp"),
    "claims hours": (lambda: claiming(1280, 720, 36_000), "claims 36000 s"),
    "a gap": (
        lambda: encode(numbered(95), tone(3.2), container="matroska", sound_starts_s=(0.0, 2.6)),
        r"the sound jumps from 1\.\d+ s to 2\.\d+ s",
    ),
    "late sound": (
        lambda: encode(numbered(95), tone(3.2), sound_starts_s=(0.8,)),
        r"the sound starts at 0\.[78]\d s",
    ),
    "truncated": (lambda: moved_to_front(ordinary())[:-9_000], "frames could be read"),
}


@pytest.mark.parametrize(("content", "problem"), BAD_FOR_A_CLIP.values(), ids=BAD_FOR_A_CLIP)
def test_a_clip_is_refused_where_a_prediction_may_go_on(content, problem):
    with pytest.raises(ClipError, match=problem):
        decode(content())
    if "claims" not in problem:
        assert len(predicted(content()).frames) == 30


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (recording(tone(4) + np.where(tone(4) < 0.1, 0, np.nan), subtype="FLOAT"), "NaN or Inf"),
        (recording(tone(61, 8_000), 8_000), "the file claims 61 s, expected at most 60"),
        (recording(tone(3.2), kind="FLAC")[:20_000], "not a readable|could be read"),
        (recording(tone(3.2), kind="RF64")[:-9_000], "3.15 s .* the file declares 3.20 s"),
        (recording(np.zeros((1, 50)), 1), "the sound has 1 samples per second"),
        (recording(np.zeros((1, 1_600_000)), 400_000), "the sound has 400000 samples per second"),
    ],
)  # fmt: skip
def test_a_recording_that_cannot_be_used_is_refused(content, problem):
    with pytest.raises(ClipError, match=problem):
        decode(content, picture=False)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("front", [False, True])
def test_a_truncated_clip_is_refused(share, front):
    content = moved_to_front(ordinary()) if front else ordinary()
    assert len(decode(content).frames) == 30
    with pytest.raises(ClipError, match=r"not a readable video|frames could be read"):
        decode(content[: int(len(content) * share)])


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile '{}'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{}\n#EXT-X-ENDLIST\n",
    ],
)
def test_a_playlist_does_not_make_the_decoder_open_other_files(text, tmp_path):
    (tmp_path / "secret.mp4").write_bytes(ordinary())
    (tmp_path / "list.m3u8").write_text(text.format(tmp_path / "secret.mp4"))
    for source in ((tmp_path / "list.m3u8").read_bytes(), tmp_path / "list.m3u8"):
        with pytest.raises(ClipError, match="Formats that are read: mov, mp4"), open_video(source):
            pass


NAMES = ["12:30:45.wav", "http:one.wav", "concat:secret.wav", "file:secret.wav", "tcp:127.0.0.1"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_the_name_of_a_file_whatever_addresses_it_looks_like(name, tmp_path, monkeypatch):
    (tmp_path / "secret.wav").write_bytes(recording(tone(3)))
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    path = Path(name)
    with pytest.raises(FileNotFoundError), open_video(path, picture=False):
        pass
    path.write_bytes(recording(tone(2)))
    with open_video(path, picture=False) as video:
        assert video.length_s(6) == pytest.approx(2)


def compressed_index() -> bytes:
    """An mp4 of 0.7 MB whose index claims to be of 700 MB, all of them zero."""
    zeros = zlib.compressobj(9)
    part = zeros.compress(bytes(2**20)) + zeros.flush(zlib.Z_FULL_FLUSH)
    repeated = zeros.compress(bytes(2**20)) + zeros.flush(zlib.Z_FULL_FLUSH)
    packed = box(b"cmvd", numbers(700 * 2**20), part, repeated * 699)
    moov = box(b"moov", box(b"cmov", box(b"dcom", b"zlib"), packed))
    return box(b"ftyp", b"isom", numbers(512), b"isom") + moov


def read_picture(arguments):
    """Print the growth of the peak in MB, the limit that is left, and the error of reading."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ClipError) as caught, open_video(arguments[0], sound=False) as video:
        list(video.frames())
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    print(resource.getrlimit(resource.RLIMIT_DATA), caught.value, sep="\n")


BOMBS = {
    "index": (lambda: claiming_samples(85_000_000), "no frame could be read"),
    "smaller index": (lambda: claiming_samples(11_000_000), "claims more than 10000000 frames"),
    "fragments": (lambda: claiming_samples(9_000_000, in_fragments=9), "512 MB of memory"),
    "compressed index": (compressed_index, "it claims more than 512 MB of memory"),
}


@pytest.mark.parametrize(("content", "problem"), BOMBS.values(), ids=BOMBS)
def test_a_small_file_cannot_take_any_amount_of_memory(content, problem, tmp_path):
    path = tmp_path / "bomb.mp4"
    path.write_bytes(content())
    process = begin(read_picture, tmp_path, [path])
    process.join(120)
    megabytes, limit, said = (tmp_path / "stdout").read_text().splitlines()
    assert problem in said
    assert int(megabytes) < 600
    assert limit == str(resource.getrlimit(resource.RLIMIT_DATA))


@pytest.mark.parametrize("limit", ["OPENING_S", "WORK_S"])
def test_a_file_that_takes_too_much_time_is_left(limit, monkeypatch):
    monkeypatch.setattr("preprocess.limits.OPENING_S", 0.02)
    monkeypatch.setattr("preprocess.limits.WORK_S", 0 if limit == "WORK_S" else -1)
    with pytest.raises(ClipError, match="takes too long to read"):
        decode(ordinary())
