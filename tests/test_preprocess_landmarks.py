import numpy as np
import pytest

from preprocess.decode import ClipError
from preprocess.landmarks import landmark_boxes

INDEX = np.arange(0, 90, 3, dtype=np.uint16)
HEADER = ["frame", "timestamp", "confidence", "gaze_0_x"]
HEADER += [f"{axis}_{point}" for axis in "xyXYZ" for point in range(68)]


def table(frames=range(1, 96), confidence=0.98, header=HEADER, blank=""):
    """Points around (600 + frame, 400), 340 wide and 360 high."""
    angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    lines = [f",{blank}".join(header)]
    for frame in frames:
        x, y = 600 + frame + 170 * np.cos(angle), 400 + 180 * np.sin(angle)
        row = [frame, frame / 30, confidence, 9, *x, *y, *np.full(204, -7)]
        lines.append(",".join(str(value) for value in row[: len(header)]))
    return ("\n".join(lines) + "\n").encode()


@pytest.mark.parametrize("blank", ["", " "])
def test_boxes_are_those_of_the_points_of_each_wanted_frame(blank):
    boxes, scores, notes = landmark_boxes(table(blank=blank), INDEX)
    np.testing.assert_allclose(boxes[:, 0], 601 + INDEX - 170)  # frames count from 1 in the file
    np.testing.assert_allclose(boxes[:, 2], 601 + INDEX + 170)
    np.testing.assert_allclose(boxes[:, [1, 3]], [[220, 580]] * 30)
    assert (scores == 1).all()
    assert scores.dtype == np.float32
    assert notes == ()


def test_frames_without_points_are_interpolated_and_noted():
    frames = [frame for frame in range(1, 96) if not 31 <= frame <= 40]
    boxes, scores, notes = landmark_boxes(table(frames), INDEX)
    np.testing.assert_allclose(boxes[:, 0], 601 + INDEX - 170)
    assert notes == ("landmarks for 26 of 30 frames",)
    np.testing.assert_array_equal(scores == 0, (INDEX >= 30) & (INDEX < 40))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no column frame"),
        (b"a,b\n1,2\n", "no column frame"),
        (table(header=HEADER[:50]), "no column x_46"),
        (table()[:-3000], "damaged"),
        (table(confidence=0.2), "no frame with a face"),
        (table(range(1, 20)), "landmarks for 7 of 30 frames, expected half or more"),
        (table([]), "no frame with a face"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(content, message):
    with pytest.raises(ClipError, match=message):
        landmark_boxes(content, INDEX)
