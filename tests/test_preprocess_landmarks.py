import numpy as np
import pytest

from preprocess.landmarks import read_track
from preprocess.limits import ClipError

INDEX = np.arange(0, 90, 3, dtype=np.uint16)
HEADER = ["frame", "timestamp", "confidence", "gaze_0_x"]
HEADER += [f"{axis}_{point}" for axis in "xyXYZ" for point in range(68)]


def table(frames=range(1, 96), confidence=0.98, header=HEADER, blank="", rate_hz=30_000 / 1_001):
    """Points around (600 + frame, 400), 340 wide and 360 high."""
    angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    lines = [f",{blank}".join(header)]
    for frame in frames:
        x, y = 600 + frame + 170 * np.cos(angle), 400 + 180 * np.sin(angle)
        row = [frame, f"{(frame - 1) / rate_hz:.3f}", confidence, 9, *x, *y, *np.full(204, -7)]
        lines.append(",".join(str(value) for value in row[: len(header)]))
    return ("\n".join(lines) + "\n").encode()


@pytest.mark.parametrize("blank", ["", " "])
def test_boxes_are_those_of_the_points_of_each_wanted_frame(blank):
    boxes, scores, points, notes = read_track(table(blank=blank)).at(INDEX)
    np.testing.assert_allclose(boxes[:, 0], 601 + INDEX - 170)  # frames count from 1 in the file
    np.testing.assert_allclose(boxes[:, 2], 601 + INDEX + 170)
    np.testing.assert_allclose(boxes[:, [1, 3]], [[220, 580]] * 30)
    np.testing.assert_allclose(points[:, 0], np.column_stack([771 + INDEX, [400] * 30]), atol=1e-3)
    assert points.shape == (30, 68, 2)
    assert (scores == 1).all()
    assert scores.dtype == np.float32
    assert notes == ()


def test_frames_without_points_are_interpolated_and_noted():
    frames = [frame for frame in range(1, 96) if not 31 <= frame <= 40]
    boxes, scores, points, notes = read_track(table(frames)).at(INDEX)
    np.testing.assert_allclose(boxes[:, 0], 601 + INDEX - 170)
    np.testing.assert_allclose(points[:, 0, 0], 771 + INDEX, atol=1e-3)
    assert notes == ("landmarks for 26 of 30 frames",)
    np.testing.assert_array_equal(scores == 0, (INDEX >= 30) & (INDEX < 40))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no column frame"),
        (b"a,b\n1,2\n", "no column frame"),
        (table(header=HEADER[:50]), "no column x_46"),
        (table()[:-2500], "damaged"),
        (table().replace(b",9,771.0,", b",9,nan,", 1), "frame 1 contain NaN"),
        (table().replace(b",9,771.0,", b",9,99771,", 1), "numbers beyond 16384 pixels"),
        (table(range(95)), "frame numbers other than 1 to 65536"),
        (table(confidence=0.2), "no frame with a face"),
        (table(range(1, 20)), "landmarks for 7 of 30 frames, expected half or more"),
        (table([]), "no frame with a face"),
        # Without a video, it must say when a frame is shown.
        (table().replace(b"timestamp", b"time"), "no column timestamp, and there is no video"),
        (table(rate_hz=-5), "timestamps of the landmark file are not increasing"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(content, message):
    with pytest.raises(ClipError, match=message):
        [read_track(content).at(INDEX), read_track(content).frame_index()]


@pytest.mark.parametrize(("rate_hz", "last"), [(30_000 / 1_001, 87), (25, 72), (50, 145)])
def test_without_a_video_the_timestamps_say_which_frame_is_shown_when(rate_hz, last):
    """The last of the 30 times is 2.909 s; times that are only rounded are those of RAVDESS."""
    index, notes = read_track(table(range(1, 160), rate_hz=rate_hz)).frame_index()
    wanted_s = 0.5 + 2.45 * (np.arange(30) + 0.5) / 30
    np.testing.assert_array_equal(index, np.floor(wanted_s * rate_hz))
    assert (index[-1], index.dtype, notes) == (last, np.uint16, ())


def test_a_table_that_ends_early_repeats_its_last_frame_or_is_refused():
    index, notes = read_track(table(range(1, 84))).frame_index()
    assert list(index[-4:]) == [79, 82, 82, 82]
    assert notes == ("landmarks end at 2.769 s: last frame repeated 2 times",)
    with pytest.raises(ClipError, match=r"end at 2.64 s \(79 frames\), expected at least 2.66 s"):
        read_track(table(range(1, 80))).frame_index()
