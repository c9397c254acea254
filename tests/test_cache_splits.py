import pytest

from cache.splits import HEADLINE_FOLDS, SPLITS, train_actors
from cache.splits import test_actors as held_out_actors


@pytest.mark.parametrize("split", SPLITS)
def test_every_actor_is_tested_exactly_once(split):
    tested = [actor for fold in range(len(SPLITS[split])) for actor in held_out_actors(split, fold)]
    assert sorted(tested) == list(range(1, 25))


@pytest.mark.parametrize("split", SPLITS)
def test_no_actor_is_trained_on_and_tested(split):
    for fold in range(len(SPLITS[split])):
        train, test = set(train_actors(split, fold)), set(held_out_actors(split, fold))
        assert not train & test
        assert train | test == set(range(1, 25))


def test_the_papers_folds_hold_out_four_consecutive_actors():
    assert held_out_actors("paper", 0) == (1, 2, 3, 4)
    assert held_out_actors("paper", 4) == (17, 18, 19, 20)
    assert held_out_actors("paper", 5) == (21, 22, 23, 24)
    assert list(HEADLINE_FOLDS["paper"]) == [0, 1, 2, 3, 4]


def test_luna5_is_the_published_list():
    assert [held_out_actors("luna5", fold) for fold in range(5)] == [
        (2, 5, 14, 15, 16),
        (3, 6, 7, 13, 18),
        (10, 11, 12, 19, 20),
        (8, 17, 21, 23, 24),
        (1, 4, 9, 22),
    ]


def test_each_fold_of_the_paper_has_as_many_men_as_women():
    for fold in range(6):
        assert sum(actor % 2 for actor in held_out_actors("paper", fold)) == 2


@pytest.mark.parametrize("fold", [-1, 6])
def test_a_fold_that_does_not_exist_is_refused(fold):
    with pytest.raises(ValueError, match=f"fold is {fold}, expected 0..5 for split 'paper'"):
        held_out_actors("paper", fold)


def test_a_split_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="split is 'random', expected one of paper, luna5"):
        held_out_actors("random", 0)
