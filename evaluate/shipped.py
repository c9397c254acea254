"""The weights that come with the project: five folds of a few networks, `make weights`."""

from pathlib import Path

FOLDER = Path(__file__).with_name("weights")
BEST = "cfn_sr"  # the network that predicts where none is named


def names() -> list[str]:
    """The networks whose weights are there, sorted."""
    return sorted({path.parent.name for path in FOLDER.glob("*/fold_*.safetensors")})


def files_of(name: str) -> list[Path]:
    """The weights of a network, one file per fold, sorted; ValueError if there are none."""
    if name not in names():
        found = ", ".join(names()) or "nothing"
        raise ValueError(
            f"the project has no weights of {name}, found {found} in {FOLDER}. Pass those "
            "of a run: --checkpoint FILE"
        )
    return sorted((FOLDER / name).glob("fold_*.safetensors"))
