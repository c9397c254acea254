import pytest

from cache.ravdess import EMOTIONS, HEADLINE_FOLDS, SPLITS, Clip, actors_of, expected_clips


def test_a_name_is_read_into_its_seven_numbers():
    clip = Clip.parse("01-01-06-02-01-02-14")
    assert (clip.emotion, clip.intensity, clip.statement, clip.repetition) == (6, 2, 1, 2)
    assert clip.actor == 14
    assert EMOTIONS[clip.label] == "fearful"
    assert clip.clip_id == "01-01-06-02-01-02-14"


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


def test_ravdess_has_1440_clips_60_an_actor_with_names_that_tell_them():
    clips = expected_clips()
    assert len(clips) == len(set(clips)) == 1440
    assert clips == sorted(clips)
    assert [clip.clip_id for clip in clips] == sorted(clip.clip_id for clip in clips)
    assert all(Clip.parse(clip.clip_id) == clip for clip in clips)
    for actor in range(1, 25):
        assert expected_clips(actor) == [clip for clip in clips if clip.actor == actor]
        assert len(expected_clips(actor)) == 60


@pytest.mark.parametrize("split", SPLITS)
def test_every_actor_is_tested_exactly_once_and_then_not_trained_on(split):
    every = []
    for fold in range(len(SPLITS[split])):
        train, test = map(set, actors_of(split, fold))
        assert not train & test
        assert train | test == set(range(1, 25))
        every += test
    assert sorted(every) == list(range(1, 25))


def test_the_papers_folds_hold_out_four_consecutive_actors_two_men_and_two_women():
    for fold in range(6):
        assert actors_of("paper", fold)[1] == tuple(range(4 * fold + 1, 4 * fold + 5))
    assert list(HEADLINE_FOLDS["paper"]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("split", "fold", "message"),
    [
        ("paper", -1, "fold is -1, expected 0..5 for split 'paper'"),
        ("paper", 6, "fold is 6, expected 0..5 for split 'paper'"),
        ("random", 0, "split is 'random', expected one of paper, luna5"),
    ],
)
def test_a_split_or_fold_that_does_not_exist_is_refused(split, fold, message):
    with pytest.raises(ValueError, match=message):
        actors_of(split, fold)
