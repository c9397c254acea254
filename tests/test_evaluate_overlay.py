"""Pictures show the right things at the right places and moments: read back from their pixels."""

import av
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from cache.ravdess import EMOTIONS
from cache.schema import DURATION_S
from evaluate.predict import overlay
from evaluate.predict.overlay import COLOURS
from evaluate.predict.prediction import Prediction, Window
from evaluate.predict.video import PANEL, Track, annotate


def window(start_s, emotion=None, **more):
    """A window that is sure of one emotion; of none, it has a problem."""
    if emotion is None:
        return Window(start_s, problem="no face")
    sure = np.full(8, 0.3 / 7, np.float32)
    sure[EMOTIONS.index(emotion)] = 0.7
    return Window(start_s, probabilities=sure, **more)


def test_a_moment_belongs_to_the_window_whose_middle_is_nearest():
    track = Track(Prediction([window(0.5, "calm"), window(1.725, "angry"), window(2.95)]))
    assert track.at(0.4) is None  # before all of them
    assert track.at(0.5)[0].start_s == 0.5
    assert track.at(2.33)[0].start_s == 0.5  # middles are 1.725 and 2.95
    assert track.at(2.35)[0].start_s == 1.725
    assert track.at(4.17)[0].start_s == 1.725
    assert track.at(4.18) is None
    assert track.at(70.0) is None


def test_frames_of_a_window_are_numbered_by_their_middles():
    track = Track(Prediction([window(0.5, "calm")]))
    step = DURATION_S / 30
    for number in (0, 7, 29):
        assert track.at(0.5 + (number + 0.5) * step)[1] == pytest.approx(number)
    assert track.at(0.5)[1] == 0
    assert track.at(0.5 + DURATION_S)[1] == 29


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    """Three seconds of black, whose first window sees a box that moves, and its attention too."""
    boxes = np.array([[10 + 6 * n, 20, 50 + 6 * n, 60] for n in range(30)], np.float32)
    attention = np.zeros((30, 2, 2), np.float32)
    attention[:15, 0, 0] = 5  # above on the left, then below on the right
    attention[15:, 1, 1] = 5
    prediction = Prediction([window(0.5, "happy", boxes=boxes, attention=attention), window(2.95)])
    black = np.zeros((160, 320, 3), np.uint8)
    frames = ((n / 20, av.VideoFrame.from_ndarray(black, format="rgb24")) for n in range(64))
    path = tmp_path_factory.mktemp("annotated") / "out.mp4"
    annotate(frames, None, prediction, path)
    with av.open(str(path)) as video:
        return {
            round(float(frame.pts * frame.time_base), 3): frame.to_ndarray(format="rgb24")
            for frame in video.decode(video=0)
        }


def near(picture, colour, tolerance=90):
    """Where a picture has a colour, bool (H, W)."""
    wanted = 255 * np.array(to_rgb(colour))
    return np.abs(picture.astype(float) - wanted).sum(axis=2) < tolerance


def test_every_frame_is_written_at_its_time(annotated):
    assert sorted(annotated) == pytest.approx([n / 20 for n in range(64)], abs=1e-3)
    assert {picture.shape for picture in annotated.values()} == {(160, 320 + PANEL, 3)}


@pytest.mark.parametrize("time_s", [0.6, 1.75, 2.9])
def test_the_box_is_where_the_face_is_at_that_moment(annotated, time_s):
    number = (time_s - 0.5) / DURATION_S * 30 - 0.5
    columns = np.flatnonzero(near(annotated[time_s][:, :320], "#ffee55").any(axis=0))
    rows = np.flatnonzero(near(annotated[time_s][:, :320], "#ffee55").any(axis=1))
    assert columns.min() == pytest.approx(10 + 6 * number, abs=3)
    assert columns.max() == pytest.approx(50 + 6 * number, abs=3)
    assert (rows.min(), rows.max()) == pytest.approx((20, 60), abs=3)


def test_the_bar_of_the_likeliest_emotion_is_the_longest(annotated):
    picture = annotated[1.75][:, 320:]
    lengths = {emotion: near(picture, COLOURS[emotion], 60).sum() for emotion in EMOTIONS}
    assert max(lengths, key=lengths.__getitem__) == "happy"
    unit = 160 / 40
    rows = np.flatnonzero(near(picture, COLOURS["happy"], 60).sum(axis=1) > 20)
    assert rows.mean() == pytest.approx(unit * (1 + 2 * EMOTIONS.index("happy") + 0.5), abs=2)
    longest = near(picture, COLOURS["happy"], 60).sum(axis=1).max()
    assert longest == pytest.approx(0.7 * (PANEL - 8 * unit), abs=6)


@pytest.mark.parametrize(("time_s", "corner"), [(1.0, "above left"), (2.5, "below right")])
def test_the_attention_is_that_of_the_moment(annotated, time_s, corner):
    unit, size = 160 / 40, 80
    top, left = round(20 * unit), round(320 + unit)
    face = annotated[time_s][top : top + size, left : left + size].astype(int).sum(axis=2)
    above, below = face[: size // 4, : size // 4].mean(), face[-size // 4 :, -size // 4 :].mean()
    assert (above > below + 100) == (corner == "above left")
    assert (below > above + 100) == (corner == "below right")


@pytest.mark.parametrize("time_s", [0.0, 0.4, 3.1])
def test_where_nothing_is_predicted_nothing_is_shown(annotated, time_s):
    picture = annotated[time_s]
    assert not near(picture[:, :320], "#ffee55").any()
    assert not any(near(picture[:, 320:], colour, 40).sum() > 30 for colour in COLOURS.values())


def test_a_file_without_pictures_is_not_annotated(tmp_path):
    with pytest.raises(ValueError, match="no picture"):
        annotate(iter([]), None, Prediction([window(0.5, "calm")]), tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []


def test_the_time_line_has_each_emotion_around_the_middle_of_its_window():
    axes = Figure().subplots()
    windows = [window(0.5, "calm"), window(1.725), window(2.95, "sad")]
    overlay._draw_time_line(axes, windows)
    assert axes.get_xlim() == pytest.approx((1.1125, 4.7875))
    for emotion, collection in zip(EMOTIONS, axes.collections, strict=True):
        assert np.allclose(collection.get_facecolor()[0, :3], to_rgb(COLOURS[emotion]))
        assert collection.get_label() == emotion
        [shape] = collection.get_paths()
        for time_s, sure in (
            (1.2, "calm"),
            (2.2, "calm"),
            (2.95, None),
            (3.7, "sad"),
            (4.7, "sad"),
        ):
            levels = np.linspace(0.005, 0.995, 100)
            share = np.mean([shape.contains_point((time_s, level)) for level in levels])
            expected = 0 if sure is None else 0.7 if emotion == sure else 0.3 / 7
            assert share == pytest.approx(expected, abs=0.02)
    assert [text.get_text() for text in axes.texts] == ["none"]
    assert axes.texts[0].get_position()[0] == pytest.approx(2.95)


def test_faces_are_labelled_with_their_moment_and_their_own_attention():
    crops = np.stack([np.full((4, 4, 3), n, np.uint8) for n in (2, 27)])
    attention = np.arange(30, dtype=np.float32)[:, None, None] * np.ones((30, 2, 2), np.float32)
    one = window(1.725, "calm", crops=crops, crop_numbers=(2, 27), attention=attention)
    faces = overlay._faces([one])
    assert [label for label, *_ in faces] == ["1.93 s", "3.97 s"]
    assert [int(crop[0, 0, 0]) for _, crop, _ in faces] == [2, 27]
    assert [float(shown[0, 0]) for *_, shown in faces] == [2, 27]


def test_a_long_time_line_is_drawn_in_no_time(tmp_path):
    """Two hours of windows make eight shapes, not tens of thousands."""
    windows = [window(0.5 + 1.225 * n, "calm" if n % 3 else None) for n in range(5_877)]
    axes = Figure().subplots()
    overlay._draw_time_line(axes, windows)
    assert len(axes.collections) == 8
    assert not axes.patches
    assert not axes.texts


def test_sound_and_picture_of_an_annotated_video_belong_together(tmp_path):
    """A click and a flash at two seconds."""
    frames = [np.full((32, 32, 3), 255 * (n == 40), np.uint8) for n in range(60)]
    pieces = np.zeros(3 * 44_100, np.float32)
    pieces[2 * 44_100 : 2 * 44_100 + 400] = 0.9
    path = tmp_path / "out.mp4"
    annotate(
        ((n / 20, av.VideoFrame.from_ndarray(f, format="rgb24")) for n, f in enumerate(frames)),
        iter(np.array_split(pieces, 100)),
        Prediction([window(0.5, "calm")]),
        path,
    )
    with av.open(str(path)) as video:
        pictures = {f.time: f.to_ndarray(format="rgb24")[:, :32] for f in video.decode(video=0)}
    with av.open(str(path)) as video:
        heard = np.concatenate([f.to_ndarray()[0] for f in video.decode(audio=0)])
    brightest = max(pictures, key=lambda time_s: pictures[time_s].mean())
    assert brightest == pytest.approx(2.0, abs=0.01)
    assert np.abs(heard).argmax() / 44_100 == pytest.approx(2.0, abs=0.03)
