import av
import cv2
import numpy as np
import pytest

from preprocess.face import crop, crop_boxes, detect_faces
from preprocess.limits import ClipError
from preprocess.settings import FaceSettings

SETTINGS = FaceSettings()
HEIGHT, WIDTH = 720, 1280


def decoded(pictures):
    """uint8 RGB (30, H, W, 3) as frames from the decoder."""
    return [av.VideoFrame.from_ndarray(picture, format="rgb24") for picture in pictures]


def boxes_at(x, y, width=300, height=400):
    center = np.broadcast_to(np.stack([x, y], axis=-1), (30, 2)).astype(float)
    half = np.array([width / 2, height / 2])
    return np.concatenate([center - half, center + half], axis=1)


# The side is 1.15 times the longer one of the face; the last face is larger than the frame.
@pytest.mark.parametrize(
    ("x", "y", "height", "side"),
    [(640, 360, 400, 460), (20, 20, 400, 460), (1270, 710, 400, 460), (640, 360, 900, HEIGHT)],
)
def test_crops_are_equal_squares_of_the_margin_within_the_frame(x, y, height, side):
    crops = crop_boxes(boxes_at(x, y, height=height), HEIGHT, WIDTH, SETTINGS)
    assert (crops[:, 2:] - crops[:, :2] == side).all()
    assert (crops[:, :2] >= 0).all()
    assert (crops[:, 2:] <= (WIDTH, HEIGHT)).all()
    if x == 640:
        np.testing.assert_allclose((crops[:, :2] + crops[:, 2:]) / 2, [[640, 360]] * 30, atol=0.5)


def test_the_crop_of_a_moving_head_does_not_tremble_with_the_detector():
    random, path = np.random.default_rng(0), np.linspace(500, 700, 30)
    tremble = boxes_at(path + random.normal(0, 4, 30), 360 + random.normal(0, 4, 30))
    crops = crop_boxes(tremble, HEIGHT, WIDTH, SETTINGS)
    assert np.diff(crops[:, 1]).std() < np.diff(tremble[:, 1]).std() / 4


TURNS = [(1, "clockwise by 90"), (2, "by 180"), (3, "counterclockwise by 90")]


@pytest.mark.parametrize(("quarters", "turn"), TURNS)
def test_a_video_that_is_not_upright_is_refused_with_a_hint(sample_frames, quarters, turn):
    frames = decoded(np.rot90(sample_frames, quarters, axes=(1, 2)).copy())
    with pytest.raises(ClipError, match=f"A face is found after rotating by {turn} degrees"):
        detect_faces(frames, SETTINGS)


def test_a_face_of_a_few_pixels_is_refused():
    with pytest.raises(ClipError, match="a face of 2 pixels, expected 16 or more"):
        crop_boxes(boxes_at(640, 360, 2, 2), HEIGHT, WIDTH, SETTINGS)


def test_a_crop_shows_its_box_at_224_pixels():
    frames = np.zeros((30, 400, 600, 3), np.uint8)
    frames[:, 100:324, 200:424] = 255
    boxes = np.tile(np.float32([200, 100, 424, 324]), (30, 1))
    assert (crop(decoded(frames), boxes) == 255).all()
    boxes[:] = [176, 76, 624 - 176, 424 - 76]
    shown = crop(decoded(frames), boxes)
    assert (shown.shape, shown.dtype) == ((30, 224, 224, 3), np.uint8)
    assert not shown[:, :10].any()
    assert (shown[:, 30:-30, 30:-30] == 255).all()


@pytest.mark.parametrize("corner", [(40, 20), (41, 21)])
def test_the_crop_has_the_colors_of_the_whole_frame(corner):
    """Of the file's own matrix, at odd pixels too, where color is half of its pixel off."""
    ramp = np.linspace(0, 200, 320, dtype=np.uint8)
    picture = np.zeros((240, 320, 3), np.uint8)
    picture[..., 0], picture[..., 2] = ramp, ramp[::-1]
    picture[:, 160:, 1] = 180
    (frame,) = decoded([picture])
    frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
    frame.colorspace = 1  # BT.709
    left, top = corner
    shown = crop([frame] * 30, np.tile(np.float32([left, top, left + 200, top + 200]), (30, 1)))
    whole = frame.to_ndarray(format="rgb24")[top : top + 200, left : left + 200]
    expected = cv2.resize(whole, (224, 224), interpolation=cv2.INTER_LINEAR)
    difference = np.abs(shown[0].astype(int) - expected)
    assert difference.mean() < 2
    assert np.percentile(difference, 97) < 6  # all but the edge in the middle
    assert (shown == shown[0]).all()


def test_a_face_missing_at_first_is_noted(sample_frames):
    frames = sample_frames.copy()
    frames[:7] = 200  # looked at: 0 and 5
    boxes, scores, notes = detect_faces(decoded(frames), SETTINGS)
    assert notes == ("face found in 5 of 7 frames looked at",)
    assert not scores[:7].any()
    np.testing.assert_array_equal(boxes[0], boxes[10])


def test_of_two_faces_the_larger_is_kept(sample_frames):
    one, scores, notes = detect_faces(decoded(sample_frames), SETTINGS)
    assert notes == ()
    looked_at = [*range(0, 30, 5), 29]
    assert (scores[looked_at] >= 0.9).all()
    assert not np.delete(scores, looked_at).any()
    beside = np.full((30, 720, 640, 3), 220, np.uint8)
    beside[:, :360] = [cv2.resize(frame, (640, 360)) for frame in sample_frames]
    frames = np.concatenate([sample_frames, beside], axis=2)
    boxes, _, notes = detect_faces(decoded(frames), SETTINGS)
    assert notes == ("up to 2 faces in a frame: the largest, most central in time, was kept",)
    np.testing.assert_allclose(boxes, one, atol=12)


def test_the_crop_follows_a_head_that_moves():
    path = np.linspace(500, 700, 30)
    crops = crop_boxes(boxes_at(path, np.full(30, 360)), HEIGHT, WIDTH, SETTINGS)
    np.testing.assert_allclose(((crops[:, 0] + crops[:, 2]) / 2)[4:-4], path[4:-4], atol=2)
