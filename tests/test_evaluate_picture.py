"""Pictures show the right things at the right places and moments: read back from their pixels."""

import av
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from media import encode

from cache.ravdess import EMOTIONS
from cache.schema import DURATION_S
from evaluate.predict.picture import BOX, COLORS, draw, figure_of, overlay
from evaluate.predict.predictor import Prediction, WindowPrediction
from evaluate.predict.video import PANEL, annotate
from preprocess.decode import open_video


def window(start_s, emotion=None, **more):
    """A window that is sure of one emotion, or without one has a problem."""
    if emotion is None:
        return WindowPrediction(start_s, problem="no face")
    sure = np.full(8, 0.3 / 7, np.float32)
    sure[EMOTIONS.index(emotion)] = 0.7
    return WindowPrediction(start_s, probabilities=sure, **more)


def test_a_moment_belongs_to_the_nearest_window_and_one_of_its_frames():
    prediction = Prediction([window(0.5, "calm"), window(1.725, "angry"), window(2.95)])
    for time_s in (0.4, 4.18, 70.0):
        assert prediction.at(time_s) is None
    for time_s, start_s in ((0.5, 0.5), (2.33, 0.5), (2.35, 1.725), (4.17, 1.725)):
        assert prediction.at(time_s)[0].start_s == start_s  # the middles are 1.725 and 2.95
    prediction = Prediction([window(0.5, "calm")])
    for at, number in ((0, 0), (0.5, 0), (7.5, 7), (29.5, 29), (30, 29)):
        assert prediction.at(0.5 + at * DURATION_S / 30)[1] == pytest.approx(number)


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    """Three seconds of black whose first window has a box that moves, and its attention too."""
    boxes = np.array([[10 + 6 * n, 20, 50 + 6 * n, 60] for n in range(30)], np.float32)
    attention = np.zeros((30, 2, 2), np.float32)
    attention[:15, 0, 0] = 5  # above on the left, then below on the right
    attention[15:, 1, 1] = 5
    prediction = Prediction([window(0.5, "happy", boxes=boxes, attention=attention), window(2.95)])
    path = tmp_path_factory.mktemp("annotated") / "out.mp4"
    black = encode(np.zeros((64, 160, 320, 3), np.uint8), None, frame_rate=20)
    with open_video(black, sound=False) as video:
        annotate(video, prediction, path)
    with open_video(path, sound=False) as video:
        shown = {
            round(time_s, 3): frame.to_ndarray(format="rgb24") for time_s, frame in video.frames()
        }
    assert sorted(shown) == pytest.approx([n / 20 for n in range(64)], abs=1e-3)
    assert {picture.shape for picture in shown.values()} == {(160, 320 + PANEL, 3)}
    return shown


def near(picture, color, tolerance=90):
    """Where a picture has a color, bool (H, W)."""
    return np.abs(picture.astype(float) - 255 * np.array(to_rgb(color))).sum(axis=2) < tolerance


@pytest.mark.parametrize("time_s", [0.6, 1.75, 2.9])
def test_the_box_is_where_the_face_is_at_that_moment(annotated, time_s):
    left = 10 + 6 * ((time_s - 0.5) / DURATION_S * 30 - 0.5)
    rows, columns = np.nonzero(near(annotated[time_s][:, :320], BOX))
    assert (columns.min(), columns.max()) == pytest.approx((left, left + 40), abs=3)
    assert (rows.min(), rows.max()) == pytest.approx((20, 60), abs=3)


def test_the_bar_of_the_likeliest_emotion_is_the_longest(annotated):
    picture, unit = annotated[1.75][:, 320:], 160 / 40
    lengths = {emotion: near(picture, COLORS[emotion], 60).sum() for emotion in EMOTIONS}
    assert max(lengths, key=lengths.__getitem__) == "happy"
    widths = near(picture, COLORS["happy"], 60).sum(axis=1)
    middle = unit * (1 + 2 * EMOTIONS.index("happy") + 0.5)
    assert np.flatnonzero(widths > 20).mean() == pytest.approx(middle, abs=2)
    assert widths.max() == pytest.approx(0.7 * (PANEL - 8 * unit), abs=6)


@pytest.mark.parametrize(("time_s", "corner"), [(1.0, "above left"), (2.5, "below right")])
def test_the_attention_is_that_of_the_moment(annotated, time_s, corner):
    unit, size = 160 / 40, 80
    top, left = round(20 * unit), round(320 + unit)
    face = annotated[time_s][top : top + size, left : left + size].astype(int).sum(axis=2)
    above, below = face[: size // 4, : size // 4].mean(), face[-size // 4 :, -size // 4 :].mean()
    assert (above > below + 100) == (corner == "above left")
    assert (below > above + 100) == (corner == "below right")


@pytest.mark.parametrize("time_s", [0.0, 0.4, 3.1])
def test_without_a_prediction_nothing_is_shown(annotated, time_s):
    assert not near(annotated[time_s][:, :320], BOX).any()
    panel = annotated[time_s][:, 320:]
    assert not any(near(panel, color, 40).sum() > 30 for color in COLORS.values())


def test_sound_and_picture_of_an_annotated_video_belong_together(tmp_path):
    """A click and a flash at two seconds."""
    frames = np.zeros((60, 160, 160, 3), np.uint8)
    frames[40] = 255
    sound = np.zeros((1, 3 * 44_100), np.float32)
    sound[0, 2 * 44_100 : 2 * 44_100 + 400] = 0.9
    with open_video(encode(frames, sound, frame_rate=20, rate_hz=44_100)) as video:
        annotate(video, Prediction([window(0.5, "calm")]), tmp_path / "out.mp4")
    with open_video(tmp_path / "out.mp4") as video:
        light = {
            time_s: frame.to_ndarray(format="rgb24")[:, :160].mean()
            for time_s, frame in video.frames()
        }
        heard = np.concatenate(list(video.sound()))
    assert max(light, key=light.__getitem__) == pytest.approx(2.0, abs=0.01)
    assert np.abs(heard).argmax() / 44_100 == pytest.approx(2.0, abs=0.03)


def test_warnings_are_below_each_frame_of_an_annotated_video(tmp_path):
    black = encode(np.zeros((10, 160, 320, 3), np.uint8), None, frame_rate=20)
    with open_video(black, sound=False) as video:
        annotate(video, Prediction([window(0.5, "calm")]), tmp_path / "out.mp4", warnings=["a"] * 2)
    with open_video(tmp_path / "out.mp4", sound=False) as video:
        pictures = [frame.to_ndarray(format="rgb24") for _, frame in video.frames()]
    for picture in pictures:
        assert picture.shape == (160 + 2 * 28, 320 + PANEL, 3)
        assert near(picture[160:], BOX).mean() > 0.9
        assert not near(picture[:160], BOX).any()


def test_the_timeline_has_each_emotion_around_the_middle_of_its_window():
    windows = [window(0.5, "calm"), window(1.725), window(2.95, "sad")]
    [axes] = figure_of("name", Prediction(windows)).subfigs[0].axes
    assert axes.get_xlim() == pytest.approx((1.1125, 4.7875))
    for emotion, collection in zip(EMOTIONS, axes.collections, strict=True):
        assert np.allclose(collection.get_facecolor()[0, :3], to_rgb(COLORS[emotion]))
        assert collection.get_label() == emotion
        [shape] = collection.get_paths()
        moments = {1.2: "calm", 2.2: "calm", 2.95: None, 3.7: "sad", 4.7: "sad"}
        for time_s, sure in moments.items():
            levels = np.linspace(0.005, 0.995, 100)
            share = np.mean([shape.contains_point((time_s, level)) for level in levels])
            expected = 0 if sure is None else 0.7 if emotion == sure else 0.3 / 7
            assert share == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(("windows", "expected"), [(1, (2, 7, 12, 17, 22, 27)), (8, (15,) * 6)])
def test_faces_are_labeled_with_their_moment_and_have_their_own_attention(
    windows, expected, tmp_path
):
    """Of a single window six faces, of several the middle one of each."""
    crops = np.tile(np.arange(30, dtype=np.uint8)[:, None, None, None], (1, 4, 4, 3))
    attention = np.arange(30, dtype=np.float32)[:, None, None] * np.ones((30, 2, 2), np.float32)
    frame = av.VideoFrame.from_ndarray(np.zeros((90, 160, 3), np.uint8), format="rgb24")
    seen = {"crops": crops, "attention": attention, "frame": frame, "boxes": np.ones((30, 4))}
    found = [window(1.725 * n, "calm", **(seen if n < 6 else {})) for n in range(windows)]
    prediction = Prediction(found)
    figure = figure_of("a $strange_{name", prediction, ["means nothing"])
    assert figure.get_suptitle() == "a $strange_{name: calm, 70%\nmeans nothing"
    axes = np.array(figure.subfigs[1].axes).reshape(2, 6)
    for number, column, (above, below) in zip(expected, range(6), axes.T, strict=True):
        start_s = found[column].start_s if windows > 1 else 0
        assert above.get_title() == f"{start_s + (number + 0.5) * DURATION_S / 30:.2f} s"
        assert above.images[0].get_array()[0, 0, 0] == number
        assert below.get_title() == f"up to {number:.1f} x the mean"
    draw("a $strange_{name", prediction, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_the_overlay_glows_where_the_attention_is_high_in_the_cells_that_there_are():
    attention = np.zeros((2, 2), np.float32)
    attention[0, 1] = 5
    shown = overlay(np.full((8, 8, 3), 100, np.uint8), attention).astype(int)
    assert shown[:4, 4:, :2].min() > 150  # bright
    assert (shown[:4, 4:] == shown[0, 4]).all()  # and no brighter in its middle
    shown[:4, 4:] = 100
    assert (shown == 100).all()  # the rest is untouched


@pytest.mark.parametrize(("count", "inches"), [(1, 6.5), (3, 12)])
def test_the_picture_of_a_network_of_sound_is_as_wide_as_what_it_shows(count, inches):
    windows = [window(1.225 * number, "calm") for number in range(count)]
    figure = figure_of("a" * 200, Prediction(windows), ["word " * 40])
    assert figure.get_figwidth() == inches
    assert max(map(len, figure.get_suptitle().splitlines())) <= 10 * inches
