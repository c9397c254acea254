import numpy as np
from PIL import Image

from cache.__main__ import main
from cache.inspect import choose
from cache.ravdess import expected_clips
from cache.reader import Cache
from cache.schema import FIELDS, FRAME_COUNT


def test_a_sheet_shows_every_actor_and_emotion_and_no_clip_twice():
    chosen = choose(expected_clips(), 24)
    assert sorted(clip.actor for clip in chosen) == list(range(1, 25))
    labels = [clip.label for clip in chosen]
    assert all(labels.count(label) == 3 for label in range(8))
    clips = expected_clips(7)[:5]
    assert sorted(choose(clips, 99)) == clips
    assert len(choose(clips, 3)) == 3


def test_the_sheet_is_a_picture_with_one_row_per_clip(noise_cache, tmp_path, capsys):
    cache = Cache(noise_cache(expected_clips(7)[:2]))
    assert main(["inspect", str(cache.directory), "--out", str(tmp_path / "sheet.png")]) == 0
    assert "2 of 2 clips in" in capsys.readouterr().out
    assert main(["inspect", str(cache.directory), "--out", str(tmp_path)]) == 2
    assert f"--out is the folder {tmp_path}, expected a file" in capsys.readouterr().err
    picture = np.asarray(Image.open(tmp_path / "sheet.png", formats=("PNG",)))
    columns, mfcc_width = len(range(0, FRAME_COUNT, 3)), FIELDS["mfcc"].shape[1]
    assert picture.shape == (2 * 128, columns * 112 + mfcc_width, 3)
    second = cache.clips[1].clip_id
    shown = picture[128 + 16 : 256, (columns - 1) * 112 : columns * 112]
    last = cache.read(second, "frames")[::3][-1]
    np.testing.assert_allclose(shown.mean(), last.mean(), atol=1)
    lowest = picture[-4, -mfcc_width:, 0]
    assert (lowest.argmax(), lowest.max()) == (cache.read(second, "mfcc")[0].argmax(), 255)
