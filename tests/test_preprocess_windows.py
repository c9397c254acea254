"""A file of any length as windows, each as long as what is used of a clip."""

import gc
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media import encode, moved_to_front, noise_pictures, put, remuxed, swept, tone

from cache.schema import DURATION_S, SAMPLE_COUNT, SAMPLE_RATE_HZ
from preprocess.decode import open_video
from preprocess.limits import ClipError
from preprocess.windows import HOP_S, Plan, decode, frame_times_s, plan, read_windows

FRAME_RATE = 30_000 / 1_001


def noise(seconds):
    return noise_pictures(round(30 * seconds), 48, 64)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory) -> Path:
    """8 s of noise and a rising tone."""
    return put(tmp_path_factory.mktemp("long"), "long.mp4", encode(noise(8), swept(8)))


def windows_of(path, planned=None, **tracks):
    with open_video(path, **tracks) as video:
        return list(read_windows(video, planned or plan(path)))


def whole_sound(path):
    with open_video(path, picture=False) as video:
        return np.concatenate(list(video.sound()))


def test_the_window_of_a_clip_is_what_is_cached_of_it(sample_clips):
    for path in sorted(sample_clips.glob("Actor_*/*.mp4")):
        assert plan(path) == Plan(0.5, None)
        [window], clip = windows_of(path), decode(path.read_bytes())
        assert np.array_equal(window.waveform, clip.waveform)
        assert np.array_equal(window.frame_index, clip.frame_index)
        for one, other in zip(window.frames, clip.frames, strict=True):
            assert np.array_equal(one.to_ndarray(), other.to_ndarray())
        assert window.notes == clip.notes == ()
        assert window.synthetic


def test_frames_that_were_read_leave_memory_at_once(long_video):
    """Without a search for cycles, which in a long video comes after gigabytes."""
    gc.collect()
    gc.disable()
    try:
        assert sum(len(window.frames) for window in windows_of(long_video)) == 150
        assert gc.collect() < 30
    finally:
        gc.enable()


def test_a_longer_file_has_every_half_window_its_own_part_of_sound_and_picture(long_video):
    sound, windows = whole_sound(long_video), windows_of(long_video)
    starts = [0.5 + HOP_S * number for number in range(5)]  # the next would end at 9.08 s
    assert [window.start_s for window in windows] == starts
    for window in windows:
        start = round(window.start_s * SAMPLE_RATE_HZ)
        expected = sound[start : start + SAMPLE_COUNT]
        missing = SAMPLE_COUNT - len(expected)
        assert np.array_equal(window.waveform, np.pad(expected, (0, missing)))
        assert any(f": {missing} zero samples" in note for note in window.notes) == (missing > 0)
        times = window.start_s - 0.5 + frame_times_s()
        numbers = np.minimum(np.floor(times * FRAME_RATE), 239)
        assert window.frame_index.tolist() == numbers.tolist()
        assert [round(frame.time * FRAME_RATE) for frame in window.frames] == numbers.tolist()


@pytest.mark.parametrize(("hop_s", "tracks"), [(0.3, {"picture": False}), (3.0, {"sound": False})])
def test_the_hop_may_be_chosen(long_video, hop_s, tracks):
    starts = [0.5 + hop_s * number for number in range(30)]
    expected = [start for start in starts if start + DURATION_S - 0.25 <= 8]
    found = windows_of(long_video, plan(long_video, hop_s), **tracks)
    assert [window.start_s for window in found] == expected
    assert all((window.waveform is None) == ("sound" in tracks) for window in found)
    assert all((window.frames is None) == ("picture" in tracks) for window in found)


def test_a_file_that_is_shorter_than_a_clip_is_taken_from_its_start(tmp_path):
    [window] = windows_of(put(tmp_path, "short.mp4", encode(noise(2.4), tone(2.4))))
    assert window.start_s == pytest.approx(0, abs=0.05)
    assert (len(window.frames), len(window.waveform)) == (30, SAMPLE_COUNT)
    assert window.notes[1].endswith("zero samples appended")
    with pytest.raises(ClipError, match=r"lasts 2\.0. s, expected at least 2\.20 s"):
        plan(put(tmp_path, "shorter.mp4", encode(noise(2), tone(2))))


@pytest.mark.parametrize(("seconds", "ended"), [((3, 9), "picture"), ((9, 3), "sound")])
def test_after_one_track_ends_a_window_says_so_and_no_other_follows(seconds, ended, tmp_path):
    path = put(tmp_path, "uneven.mp4", encode(noise(seconds[0]), tone(seconds[1])))
    first, last = windows_of(path)
    assert first.problem is None
    assert last.problem == f"the {ended} ends before this window does"


def test_where_sound_is_missing_there_is_silence(tmp_path):
    path = put(tmp_path, "gap.mp4", encode(noise(5), tone(3), sound_starts_s=(0.0, 2.5)))
    loud = np.abs(whole_sound(path)) > 0.01
    assert loud[: int(1.4 * SAMPLE_RATE_HZ)].mean() > 0.8
    assert not loud[int(1.6 * SAMPLE_RATE_HZ) : int(2.4 * SAMPLE_RATE_HZ)].any()
    assert loud[int(2.6 * SAMPLE_RATE_HZ) : int(3.9 * SAMPLE_RATE_HZ)].mean() > 0.8


def test_a_picture_that_starts_late_costs_only_its_first_windows(tmp_path):
    path = put(tmp_path, "late.mp4", encode(noise(7), tone(8.2), picture_start_s=1.2))
    first, second, *_ = windows_of(path)
    assert (first.frames, second.problem) == (None, None)
    assert "the video starts at 1.20 s, its first frame is due at 0.54 s" in first.problem
    assert len(second.frames) == 30


def test_a_picture_that_stands_still_is_noted_and_one_that_jumps_far_is_refused(tmp_path):
    slow = encode(noise_pictures(8, 48, 64), tone(3.5), frame_rate=Fraction(5, 2))
    [window] = windows_of(put(tmp_path, "slow.mp4", slow))
    assert window.notes == ("the picture stands still: 7 different frames in 2.45 s",)
    jump = encode(noise(2), tone(3), picture_start_s=3_000)
    with pytest.raises(ClipError, match="the picture is missing for 3000 s"):
        windows_of(put(tmp_path, "jump.mp4", jump), Plan(0.5, HOP_S))


@pytest.mark.parametrize(("seconds", "expected"), [(2.5, 1), (8, 5)])
def test_a_recording_that_does_not_declare_its_length_is_measured(tmp_path, seconds, expected):
    content = remuxed(encode(noise(seconds), tone(seconds)), "matroska", live="1")
    path = put(tmp_path, "live.mkv", content)
    with av.open(str(path)) as container:
        assert not container.duration
    assert len(windows_of(path)) == expected


def test_tracks_that_follow_each_other_in_the_file_are_read_as_each_by_itself(tmp_path, long_video):
    path = tmp_path / "apart.mkv"
    path.write_bytes(
        remuxed(long_video.read_bytes(), "matroska", by_track=True, max_interleave_delta="1")
    )
    with av.open(str(path)) as container:
        order = [packet.stream.index for packet in container.demux() if packet.size]
    assert set(order[:239]) == {0}  # all frames but one, then all sound
    both, seen = windows_of(path), windows_of(path, sound=False)
    heard = windows_of(path, picture=False)
    assert len(both) == 5
    for together, picture, sound in zip(both, seen, heard, strict=True):
        assert np.array_equal(together.frame_index, picture.frame_index)
        assert np.array_equal(together.waveform, sound.waveform)


def test_streams_that_were_joined_are_judged_to_their_end(tmp_path):
    """Each starts its own clock; FFmpeg takes the length of the last one for that of the file."""
    part = remuxed(encode(noise(3.3), swept(3.3)), "mpegts")
    assert len(windows_of(put(tmp_path, "one.ts", part))) == 1
    windows = windows_of(put(tmp_path, "joined.ts", part * 4))
    assert [window.problem for window in windows] == [None] * 9
    jumps = sorted({note for window in windows for note in window.notes if "clock" in note})
    assert len(jumps) == 3
    assert jumps[0] == "the clock of the file jumps at 3.33 s: taken as one recording"
    heard = np.concatenate([windows[0].waveform, windows[2].waveform[: SAMPLE_RATE_HZ // 10]])
    assert (np.abs(heard).reshape(-1, 5).max(axis=1) > 0.001).mean() > 0.95


def test_a_clock_that_wraps_goes_on(tmp_path):
    """As that of a transport stream does every 26.5 hours."""
    options = {"output_ts_offset": "95439.7"}
    content = remuxed(encode(noise(8), swept(8)), "mpegts", **options)
    windows = windows_of(put(tmp_path, "wraps.ts", content))
    assert [window.problem for window in windows] == [None] * 5


@pytest.mark.parametrize("container", ["matroska", "mp4"])
def test_a_file_that_was_cut_off_says_how_long_it_should_be(container, tmp_path):
    content = encode(noise(13), swept(13), container=container)
    content = moved_to_front(content) if container == "mp4" else content
    *whole, last = windows_of(put(tmp_path, "cut", content[: len(content) * 6 // 10]))
    assert len(whole) == 5
    assert not any(window.problem for window in whole)
    assert re.fullmatch(r"the file ends .* declares 13.0\d s: it is cut .*", last.problem)


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_after_a_damaged_spot_a_prediction_goes_on_and_says_where(container, tmp_path):
    content = encode(noise(12), swept(12))
    content = bytearray(content if container == "mp4" else remuxed(content, container))
    at = len(content) * 2 // 5
    content[at : at + 5_000] = np.random.default_rng(0).bytes(5_000)
    path = put(tmp_path, "damaged", bytes(content))
    windows = windows_of(path)
    assert [window.problem for window in windows] == [None] * 8
    damaged = [any("is damaged from 4." in note for note in window.notes) for window in windows]
    assert damaged == [4.9 - DURATION_S < window.start_s < 8.4 for window in windows]
    missing = [any("sound is missing from" in note for note in w.notes) for w in windows]
    assert 1 <= sum(missing) <= 3
    with pytest.raises(ClipError, match=r"not a readable video|the sound jumps"):
        decode(bytes(content))  # a clip is refused
