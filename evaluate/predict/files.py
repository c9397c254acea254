"""List the input files, and name the output pictures."""

import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path

VIDEOS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".flv", ".wmv")
VIDEOS += (".3gp", ".ogv")
SOUNDS = (".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg")
_MARK = ".emotions"  # before the suffix of each picture of a prediction
_LONGEST_NAME = 100


def list_files(
    given: Sequence[str], suffixes: tuple[str, ...]
) -> tuple[list[Path], list[str], list[str]]:
    """List the given files, those of given folders, and those that standard input names for `-`.

    From folders, files with these suffixes are taken, in lower case. Returns the files, each once;
    a warning for each folder with other files; and an error for each that cannot be read.
    ValueError if there is no file, or standard input is closed.
    """
    paths: list[Path] = []
    warnings: list[str] = []
    errors: list[str] = []
    for each in given:
        if each == "-":
            if sys.stdin is None:
                raise ValueError("standard input is closed, expected a list of files")
            paths += [Path(line.rstrip("\r\n")) for line in sys.stdin if line.strip()]
        elif Path(each).is_dir():
            walk = os.walk(each, onerror=lambda exc: errors.append(f"cannot be read: {exc}"))
            inside = sorted(Path(root, file) for root, _, files in walk for file in files)
            found = [path for path in inside if path.suffix.lower() in suffixes]
            found = [path for path in found if not is_ours(path)]
            paths += found
            if len(found) < len(inside):
                warnings.append(
                    f"{each}: takes {len(found)} of {len(inside)} files, those that end in "
                    f"{' '.join(suffixes)} and are not pictures of predictions"
                )
        else:
            paths.append(Path(each))
    if not paths:
        raise ValueError(f"no file in {', '.join(given)}, expected videos")
    return list(dict.fromkeys(paths)), warnings, errors


def picture_names(paths: Sequence[Path]) -> dict[Path, str]:
    """A name without suffix for each file's pictures: its own, numbered if others have the same."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in paths:
        name = own = printable(path.stem)[:_LONGEST_NAME]
        for number in itertools.count(2):
            if name not in taken:
                break
            name = f"{own}_{number}"
        taken.add(name)
        names[path] = f"{name}{_MARK}"
    return names


def is_ours(path: Path) -> bool:
    """Whether a file has the name of a picture of a prediction, so that it is not an input."""
    return path.stem.endswith(_MARK)


def printable(text: object) -> str:
    """Text that may contain anything, such as a file's name, safe to show on a terminal."""
    return "".join(character if character.isprintable() else "?" for character in str(text))
