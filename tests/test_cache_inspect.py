import numpy as np
from PIL import Image

from cache.inspect import choose, contact_sheet
from cache.ravdess import expected_clips
from cache.reader import Cache


def test_a_sheet_of_24_clips_shows_every_actor_and_every_emotion():
    chosen = choose(expected_clips(), 24)
    assert sorted(clip.actor for clip in chosen) == list(range(1, 25))
    labels = [clip.label for clip in chosen]
    assert all(labels.count(label) == 3 for label in range(8))


def test_a_sheet_shows_no_clip_twice_and_no_more_than_there_are():
    clips = expected_clips(7)[:5]
    assert sorted(choose(clips, 99)) == clips
    assert len(choose(clips, 3)) == 3


def test_the_sheet_is_a_picture_with_a_row_a_clip(noise_cache, tmp_path):
    cache = Cache(noise_cache(expected_clips(7)[:2]))
    contact_sheet(cache, cache.clips, tmp_path / "sheet.png")
    picture = np.asarray(Image.open(tmp_path / "sheet.png"))
    frames = cache.read(cache.clips[1].clip_id, "frames")
    shown = picture[128 + 16 : 256, 9 * 112 : 10 * 112]
    np.testing.assert_allclose(shown.mean(), frames[27].mean(), atol=1)
    mfcc = cache.read(cache.clips[1].clip_id, "mfcc")
    assert (picture[256 - 4, -212:].argmax(axis=0)[0], picture[256 - 4, -212:].max()) == (
        mfcc[0].argmax(),
        255,
    )
    header = (tmp_path / "sheet.png").read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    width, height = int.from_bytes(header[16:20]), int.from_bytes(header[20:24])
    assert (width, height) == (10 * 112 + 212, 2 * 128)
