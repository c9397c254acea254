import pytest

from cache.clips import EMOTIONS, Clip, expected_clips


def test_a_name_is_read_into_its_seven_numbers():
    clip = Clip.parse("01-01-06-02-01-02-14")
    assert (clip.emotion, clip.intensity, clip.statement, clip.repetition) == (6, 2, 1, 2)
    assert clip.actor == 14
    assert EMOTIONS[clip.label] == "fearful"
    assert clip.clip_id == "01-01-06-02-01-02-14"


def test_only_full_av_speech_is_for_the_cache():
    assert Clip.parse("01-01-06-01-02-01-12").is_full_av_speech
    for other in ("02-01-06-01-02-01-12", "03-01-06-01-02-01-12", "01-02-06-01-02-01-12"):
        assert not Clip.parse(other).is_full_av_speech


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("holiday", "expected seven two-digit numbers"),
        ("01-01-06-01-02-01", "expected seven two-digit numbers"),
        ("01-01-06-01-02-01-12 ", "expected seven two-digit numbers"),
        ("01-01-06-01-02-01-12\n", "expected seven two-digit numbers"),
        ("01-01-06-01-02-01-1٣", "expected seven two-digit numbers"),
        ("01-01-06-01-02-01-25", "actor is 25, expected 1..24"),
        ("01-01-00-01-02-01-12", "emotion is 0, expected 1..8"),
        ("01-01-09-01-02-01-12", "emotion is 9, expected 1..8"),
        ("04-01-06-01-02-01-12", "modality is 4, expected 1..3"),
        ("01-01-01-02-02-01-12", "neutral .* has no strong intensity"),
    ],
)
def test_a_wrong_name_is_refused_with_the_reason(name, message):
    with pytest.raises(ValueError, match=message):
        Clip.parse(name)


def test_ravdess_has_1440_clips_60_an_actor():
    clips = expected_clips()
    assert len(clips) == len(set(clips)) == 1440
    assert clips == sorted(clips)
    assert [clip.clip_id for clip in clips] == sorted(clip.clip_id for clip in clips)
    for actor in range(1, 25):
        assert expected_clips(actor) == [clip for clip in clips if clip.actor == actor]
        assert len(expected_clips(actor)) == 60


def test_every_expected_clip_survives_its_own_name():
    assert all(Clip.parse(clip.clip_id) == clip for clip in expected_clips())
