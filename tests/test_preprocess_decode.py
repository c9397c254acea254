import numpy as np
import pytest
from media import claiming, encode, moved_to_front, noise_pictures, tone, turned

from preprocess.decode import ClipError, decode, frame_times_s


def numbered(count):
    """Pictures whose grey tells their number: 2 levels a frame."""
    levels = (2 * np.arange(count)).astype(np.uint8)
    return np.tile(levels[:, None, None, None], (1, 64, 64, 3))


def pictures(decoded):
    return np.stack([frame.to_ndarray(format="rgb24") for frame in decoded.frames])


def test_frames_are_taken_evenly_from_the_window_of_the_sound():
    times = frame_times_s()
    assert len(times) == 30
    np.testing.assert_allclose(np.diff(times), 2.45 / 30)
    assert times[0] - 0.5 == pytest.approx(2.95 - times[-1])


def test_each_frame_is_the_one_on_the_screen_at_its_time():
    decoded = decode(encode(numbered(95), tone(3.2)))
    expected = np.floor(frame_times_s() * 30_000 / 1_001).astype(int)
    np.testing.assert_array_equal(decoded.frame_index, expected)
    assert decoded.frame_index.dtype == np.uint16
    shown = pictures(decoded).mean(axis=(1, 2, 3)) / 2
    np.testing.assert_allclose(shown, expected, atol=1.5)
    assert decoded.notes == ()


def test_colours_come_out_as_rgb():
    red = np.zeros((95, 64, 64, 3), np.uint8)
    red[..., 0] = 220
    mean = pictures(decode(encode(red, tone(3.2)))).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(mean, [220, 0, 0], atol=6)


def test_the_sound_comes_with_its_rate_and_length():
    decoded = decode(encode(numbered(95), tone(3.2, 16_000), rate_hz=16_000))
    assert decoded.rate_hz == 16_000
    assert decoded.sound.shape[0] == 2
    assert decoded.sound.shape[1] == pytest.approx(3.2 * 16_000, abs=2_048)
    assert np.abs(decoded.sound).max() == pytest.approx(0.1, rel=0.3)


def test_a_slower_video_shows_some_frames_twice():
    decoded = decode(encode(numbered(48), tone(3.2), frame_rate=10))
    assert (np.diff(decoded.frame_index) == 0).any()
    np.testing.assert_array_equal(decoded.frame_index, np.floor(frame_times_s() * 10))


def test_a_video_that_ends_a_little_early_is_noted():
    decoded = decode(encode(numbered(83), tone(3.2)))  # ends at 2.77 s, the last time is 2.91 s
    assert decoded.frame_index[-1] == 82
    assert len(decoded.notes) == 1
    assert decoded.notes[0].startswith("video ends at 2.769 s: last frame repeated 2 times")


def test_sound_that_starts_late_is_heard_at_its_time():
    decoded = decode(encode(numbered(95), tone(3.2), sound_starts_s=(0.3,)))
    loud = np.flatnonzero(np.abs(decoded.sound[0]) > 0.03)
    assert loud[0] / decoded.rate_hz == pytest.approx(0.3, abs=0.03)


def fails(content, message):
    with pytest.raises(ClipError, match=message):
        decode(content)


def test_a_video_that_ends_far_too_early_is_refused():
    fails(encode(numbered(60), tone(3.2)), r"the video ends at 2.00 s, expected at least 2.66 s")
    fails(encode(numbered(1), tone(3.2)), r"the video ends at 0.03 s")


def test_a_clip_without_sound_is_refused():
    fails(encode(numbered(95), None), "no sound in the file")


def test_a_clip_without_picture_is_refused():
    fails(encode(None, tone(3.2)), "no picture in the file")


@pytest.mark.parametrize("content", [b"", b"a text, not a video\n" * 50, bytes(10_000)])
def test_a_file_that_is_no_video_is_refused(content):
    fails(content, "not a readable video")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("front", [False, True])
def test_a_truncated_clip_is_refused(share, front, tmp_path):
    content = encode(noise_pictures(95), tone(3.2))
    content = moved_to_front(content, tmp_path) if front else content
    assert len(decode(content).frames) == 30
    fails(content[: int(len(content) * share)], r"not a readable video|frames could be read")


def test_flipped_bytes_are_noticed():
    content = encode(noise_pictures(95), tone(3.2))
    damaged = np.frombuffer(content, np.uint8).copy()
    where = np.random.default_rng(1).integers(len(damaged) // 10, len(damaged) * 8 // 10, 200)
    damaged[where] ^= 255
    fails(damaged.tobytes(), r"not a readable video|frames could be read")


def test_a_playlist_does_not_make_the_decoder_open_other_files(tmp_path):
    (tmp_path / "secret.mp4").write_bytes(encode(numbered(95), tone(3.2)))
    address = tmp_path / "secret.mp4"
    for text in (
        f"ffconcat version 1.0\nfile '{address}'\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nfile://{address}\n#EXT-X-ENDLIST\n",
    ):
        fails(text.encode(), "not a readable video")


def test_ten_minutes_are_no_clip():
    fails(encode(numbered(95)[::30], tone(70)), r"the file claims 70 s, expected at most 60")


def test_sound_with_a_gap_is_refused():
    sound = tone(3.2)
    content = encode(numbered(95), sound, container="matroska", sound_starts_s=(0.0, 2.6))
    fails(content, r"the sound jumps from 1\.\d+ s to 2\.\d+ s")


def test_tracks_that_start_too_late_are_refused():
    fails(
        encode(numbered(95), tone(3.2), sound_starts_s=(0.8,)), r"the sound starts at 0\.[78]\d s"
    )
    late = encode(numbered(95), tone(3.2), container="matroska", picture_start_s=1.0)
    fails(late, r"the video starts at 1\.0\d s, its first frame is due at 0\.54 s")


def test_a_narrow_picture_is_refused():
    fails(encode(np.zeros((95, 512, 64, 3), np.uint8), tone(3.2)), "the video claims 64x512 pixels")


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_picture_that_is_to_be_turned_is_shown_upright(quarters):
    pictures_there = np.zeros((95, 48, 96, 3), np.uint8)
    pictures_there[:, :24, :48] = 255  # the upper left is light
    decoded = decode(turned(encode(pictures_there, tone(3.2)), quarters))
    expected = np.rot90(pictures_there[:30], -quarters, axes=(1, 2))
    shown = pictures(decoded)
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 4
    assert decoded.notes == (f"turned by {360 - 90 * quarters} degrees",)


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ((100_000, 100_000, 3.2), "claims one that no decoder takes"),
        ((8_000, 8_000, 3.2), "claims 8000x8000 pixels"),
        ((1280, 720, 36_000), "claims 36000 s"),
    ],
)
def test_a_claim_of_too_much_is_refused_before_it_is_believed(claim, message):
    content = claiming(*claim)
    assert len(content) < 1000
    fails(content, message)
