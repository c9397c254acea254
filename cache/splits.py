"""Named cross-validation splits over the 24 actors; a fold is known by the actors it tests."""

from cache.clips import ACTORS

# Fold k of "paper" tests actors 4k+1..4k+4 (Sec. 3.2 of the paper: four consecutive actors, so
# two men and two women). The paper's five folds are 0..4 and never test actors 21-24; fold 5
# is the rotation that does.
# "luna5" are the folds of Luna-Jimenez et al. 2021, used by much of the later work.
SPLITS: dict[str, tuple[tuple[int, ...], ...]] = {
    "paper": tuple(tuple(range(4 * k + 1, 4 * k + 5)) for k in range(6)),
    "luna5": (
        (2, 5, 14, 15, 16),
        (3, 6, 7, 13, 18),
        (10, 11, 12, 19, 20),
        (8, 17, 21, 23, 24),
        (1, 4, 9, 22),
    ),
}

# The folds over which a split's headline accuracy is the mean.
HEADLINE_FOLDS = {"paper": range(5), "luna5": range(5)}


def test_actors(split: str, fold: int) -> tuple[int, ...]:
    """The actors that fold `fold` of `split` holds out, sorted.

    Raises:
        ValueError: for a split or a fold that does not exist.
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}, expected one of {', '.join(SPLITS)}")
    folds = SPLITS[split]
    if not 0 <= fold < len(folds):
        raise ValueError(f"fold is {fold}, expected 0..{len(folds) - 1} for split {split!r}")
    return folds[fold]


def validation_actors(split: str, fold: int) -> tuple[int, ...]:
    """The training actors of a fold that choices may be made on: those that the next fold tests."""
    test_actors(split, fold)  # raises for what does not exist
    return SPLITS[split][(fold + 1) % len(HEADLINE_FOLDS[split])]


def actors_of(
    split: str, fold: int, *, validate: bool = False
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The actors that a fold trains on, and those that it holds out; no actor is in both.

    Args:
        split, fold: as for `test_actors`.
        validate: hold out the validation actors, and leave the test actors out altogether.
    """
    trained = train_actors(split, fold)
    if not validate:
        return trained, test_actors(split, fold)
    held_out = validation_actors(split, fold)
    return tuple(actor for actor in trained if actor not in held_out), held_out


def train_actors(split: str, fold: int) -> tuple[int, ...]:
    """The actors that fold `fold` of `split` trains on: all that it does not test, sorted."""
    held_out = test_actors(split, fold)
    return tuple(actor for actor in ACTORS if actor not in held_out)
