"""A file of any length as windows, each as long as what is used of a clip."""

import io
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr
from media import encode, noise_pictures, put, tone, turned

from cache.schema import DURATION_S, SAMPLE_COUNT, SAMPLE_RATE_HZ
from preprocess.audio import cut
from preprocess.decode import ClipError, decode, frame_times_s
from preprocess.windows import (
    HOP_S,
    Plan,
    picture_windows,
    plan,
    sound_pieces,
    sound_windows,
    upright_frames,
)

FRAME_RATE = 30_000 / 1_001


def swept(seconds: float, rate_hz: int = 48_000) -> np.ndarray:
    """float32 (2, samples) that are nowhere the same: a rising tone."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    wave = 0.2 * np.sin(2 * np.pi * (200 + 100 * time) * time)
    return np.stack([wave, 0.5 * wave]).astype(np.float32)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory) -> Path:
    """8 s of noise and a rising tone."""
    pictures = noise_pictures(240, 48, 64)
    folder = tmp_path_factory.mktemp("long")
    return put(folder, "long.mp4", encode(pictures, swept(8)))


def shown(frames):
    return [frame.to_ndarray(format="rgb24") for frame in frames]


def test_the_window_of_a_clip_is_what_is_cached_of_it(sample_clips):
    for path in sorted(sample_clips.glob("Actor_*/*.mp4")):
        windows = plan(path)
        assert windows == Plan(0.5, None)
        decoded = decode(path.read_bytes())
        [(wave, heard)], [picture] = (
            list(found(path, windows)) for found in (sound_windows, picture_windows)
        )
        frames, seen = picture.frames, picture.notes
        assert np.array_equal(wave, cut(decoded.sound, decoded.rate_hz)[0])
        assert [frame.pts for frame in frames] == [frame.pts for frame in decoded.frames]
        assert all(map(np.array_equal, shown(frames), shown(decoded.frames)))
        assert heard == seen == ()


def test_a_longer_file_has_a_window_every_half_window(long_video):
    windows = plan(long_video)
    assert windows == Plan(0.5, HOP_S)
    starts = [0.5 + HOP_S * number for number in range(5)]  # the next would end at 9.08 s
    assert list(islice(windows.starts_s(), 5)) == starts
    assert len(list(sound_windows(long_video, windows))) == 5
    assert len(list(picture_windows(long_video, windows))) == 5


def test_each_window_hears_its_own_part_of_the_sound(long_video):
    whole = np.concatenate(list(sound_pieces(long_video)))
    windows = plan(long_video)
    for start_s, (wave, notes) in zip(
        windows.starts_s(), sound_windows(long_video, windows), strict=False
    ):
        start = round(start_s * SAMPLE_RATE_HZ)
        expected = whole[start : start + SAMPLE_COUNT]
        missing = SAMPLE_COUNT - len(expected)
        assert np.array_equal(wave, np.pad(expected, (0, missing)))
        assert notes == ((f"{missing} zero samples appended to the sound",) if missing else ())


def test_each_window_sees_the_frames_on_the_screen_at_its_times(long_video):
    windows = plan(long_video)
    for start_s, picture in zip(
        windows.starts_s(), picture_windows(long_video, windows), strict=False
    ):
        times = start_s - 0.5 + frame_times_s()
        expected = np.minimum(np.floor(times * FRAME_RATE), 239)
        assert [round(frame.time * FRAME_RATE) for frame in picture.frames] == expected.tolist()


@pytest.mark.parametrize("hop_s", [0.3, 3.0])
def test_the_hop_may_be_chosen(long_video, hop_s):
    windows = plan(long_video, hop_s)
    starts = [0.5 + hop_s * number for number in range(30)]
    expected = sum(start + DURATION_S - 0.25 <= 8 for start in starts)
    assert len(list(sound_windows(long_video, windows))) == expected
    assert len(list(picture_windows(long_video, windows))) == expected


def test_a_file_that_is_shorter_than_a_clip_is_taken_from_its_start(tmp_path):
    path = put(tmp_path, "short.mp4", encode(noise_pictures(72), tone(2.4)))
    windows = plan(path)
    assert windows.hop_s is None
    assert windows.first_s == pytest.approx(0, abs=0.05)
    [(wave, notes)] = sound_windows(path, windows)
    assert notes[0].endswith("zero samples appended to the sound")
    assert wave.shape == (SAMPLE_COUNT,)
    [picture] = picture_windows(path, windows)
    assert len(picture.frames) == 30


def test_what_is_shorter_than_a_window_is_refused(tmp_path):
    path = put(tmp_path, "shorter.mp4", encode(noise_pictures(60), tone(2.0)))
    with pytest.raises(ClipError, match=r"lasts 2\.0. s, expected at least 2\.20 s"):
        plan(path)


def test_a_missing_track_is_named(tmp_path):
    silent = put(tmp_path, "silent.mp4", encode(noise_pictures(100), None))
    with pytest.raises(ClipError, match="no sound in the file"):
        next(sound_windows(silent, plan(silent)))
    blind = put(tmp_path, "blind.mp4", encode(None, tone(3.3)))
    with pytest.raises(ClipError, match="no picture in the file"):
        next(picture_windows(blind, plan(blind)))
    assert len(list(sound_windows(blind, plan(blind)))) == 1


def test_sound_that_ends_before_the_first_window_is_refused(tmp_path):
    path = put(tmp_path, "ends.mp4", encode(noise_pictures(100), tone(1.5)))
    with pytest.raises(ClipError, match=r"the sound ends at 1\.5\d s, expected 2\.70 s"):
        next(sound_windows(path, plan(path)))


def test_a_picture_that_ends_before_the_first_window_is_refused(tmp_path):
    path = put(tmp_path, "ends.mp4", encode(noise_pictures(40), tone(3.3)))
    with pytest.raises(ClipError, match="the video ends at"):
        next(picture_windows(path, plan(path)))


def test_where_sound_is_missing_there_is_silence(tmp_path):
    path = put(tmp_path, "gap.mp4", encode(noise_pictures(150), tone(3), sound_starts_s=(0.0, 2.5)))
    whole = np.concatenate(list(sound_pieces(path)))
    loud = np.abs(whole) > 0.01
    assert loud[: int(1.4 * SAMPLE_RATE_HZ)].mean() > 0.8
    assert not loud[int(1.6 * SAMPLE_RATE_HZ) : int(2.4 * SAMPLE_RATE_HZ)].any()
    assert loud[int(2.6 * SAMPLE_RATE_HZ) : int(3.9 * SAMPLE_RATE_HZ)].mean() > 0.8


def test_a_silent_window_says_so(tmp_path):
    path = put(tmp_path, "quiet.mp4", encode(noise_pictures(100), 0 * tone(3.3)))
    assert [notes for _, notes in sound_windows(path, plan(path))] == [("sound is silent",)]


def test_a_recording_without_pictures_is_heard(tmp_path):
    path = tmp_path / "words.wav"
    samples = swept(4)
    soundfile.write(path, samples.T, 48_000, subtype="FLOAT")
    [(wave, _)] = sound_windows(path, plan(path))
    resampled = soxr.resample(samples.mean(axis=0), 48_000, SAMPLE_RATE_HZ, quality="HQ")
    start = round(0.5 * SAMPLE_RATE_HZ)
    assert np.array_equal(wave, resampled[start : start + SAMPLE_COUNT])


def test_what_is_no_video_is_refused(tmp_path):
    for name, content in (("text.mp4", b"not a video"), ("empty.mp4", b"")):
        with pytest.raises(ClipError, match="not a readable video"):
            plan(put(tmp_path, name, content))


def test_a_play_list_opens_no_other_file(tmp_path):
    clip = put(tmp_path, "clip.mp4", encode(noise_pictures(100), tone(3.3)))
    lists = {
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:3.3,\n{clip}\n#EXT-X-ENDLIST\n",
        "list.ffconcat": f"ffconcat version 1.0\nfile '{clip}'\n",
    }
    for name, text in lists.items():
        with pytest.raises(ClipError, match="not a readable video"):
            plan(put(tmp_path, name, text.encode()))


def test_frames_are_given_upright(tmp_path):
    pictures = noise_pictures(100, 48, 64)
    path = put(tmp_path, "turned.mp4", turned(encode(pictures, tone(3.3)), 1))
    times, frames = zip(*upright_frames(path), strict=True)
    assert {(frame.width, frame.height) for frame in frames} == {(48, 64)}
    assert np.allclose(times, np.arange(100) / FRAME_RATE, atol=1e-3)
    [picture] = picture_windows(path, plan(path))
    assert {(frame.width, frame.height) for frame in picture.frames} == {(48, 64)}


def test_a_picture_that_starts_late_costs_its_first_windows_alone(tmp_path):
    late = encode(noise_pictures(210, 48, 64), tone(8.2), picture_start_s=1.2)
    path = put(tmp_path, "late.mp4", late)
    first, second, *_ = picture_windows(path, plan(path))
    assert first.frames is None
    assert "the video starts at 1.20 s, within this window" in first.problem
    assert len(second.frames) == 30


def test_a_picture_that_stands_still_is_noted(tmp_path):
    slow = encode(noise_pictures(8, 48, 64), tone(3.5), frame_rate=Fraction(5, 2))
    path = put(tmp_path, "slow.mp4", slow)
    [picture] = picture_windows(path, plan(path))
    assert "the picture stands still: 7 different frames in 2.45 s" in picture.notes


def test_a_jump_in_time_does_not_make_windows_without_end(tmp_path):
    path = put(
        tmp_path, "jump.mp4", encode(noise_pictures(60, 48, 64), tone(3), picture_start_s=3_000)
    )
    with pytest.raises(ClipError, match="the picture is missing for"):
        list(picture_windows(path, Plan(0.5, HOP_S)))


@pytest.mark.parametrize(("seconds", "expected"), [(2.5, 1), (5, 1), (8, 5)])
def test_a_recording_that_does_not_say_its_length_is_measured(tmp_path, seconds, expected):
    content = encode(noise_pictures(round(30 * seconds), 48, 64), tone(seconds))
    path = tmp_path / "live.mkv"
    with (
        av.open(io.BytesIO(content)) as old,
        av.open(str(path), "w", format="matroska", options={"live": "1"}) as new,
    ):
        tracks = {stream: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = tracks[packet.stream]
                new.mux(packet)
    with av.open(str(path)) as container:
        assert not container.duration
    assert len(list(sound_windows(path, plan(path)))) == expected


@pytest.mark.parametrize("rate_hz", [1, 3_999, 400_000])
def test_a_rate_that_no_recorder_has_is_refused(tmp_path, rate_hz):
    path = tmp_path / "odd.wav"
    soundfile.write(path, np.zeros(max(4 * rate_hz, 100), np.float32), rate_hz)
    with pytest.raises(ClipError, match=f"the sound has {rate_hz} samples a second"):
        next(sound_windows(path, Plan(0.5, None)))
