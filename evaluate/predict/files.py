"""Which files are meant on the command line, and what their pictures are called."""

import itertools
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

VIDEOS = (
    *(".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".flv", ".wmv"),
    *(".3gp", ".ogv"),
)
SOUNDS = (".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg")
OURS = ".emotions"  # before the suffix of what is drawn
_LONGEST_NAME = 100


def listed(
    given: Sequence[str], suffixes: tuple[str, ...]
) -> tuple[list[Path], list[str], list[str]]:
    """The files that are meant: themselves, those of folders, and those that stdin names for `-`.

    Args:
        given: names of files and folders.
        suffixes: of the files of folders that are taken, in lower case.

    Returns:
        Each file once, in order; a line for each folder of which files are left out; and one for
        each folder that cannot be read.

    Raises:
        ValueError: if there is none, or standard input is closed.
    """
    paths: list[Path] = []
    notes: list[str] = []
    problems: list[str] = []
    for each in given:
        if each == "-":
            if sys.stdin is None:
                raise ValueError("standard input is closed, expected a list of files")
            paths += [Path(line.rstrip("\r\n")) for line in sys.stdin if line.strip()]
        elif Path(each).is_dir():
            paths += _of_folder(each, suffixes, notes, problems)
        else:
            paths.append(Path(each))
    paths = list(dict.fromkeys(paths))
    if not paths:
        raise ValueError(f"no file in {', '.join(map(printable, given))}, expected videos")
    return paths, notes, problems


def _of_folder(
    folder: str, suffixes: tuple[str, ...], notes: list[str], problems: list[str]
) -> list[Path]:
    """The files of a folder and those below it, sorted; `notes` and `problems` as for `listed`."""
    inside: list[Path] = []

    def note(exc: OSError) -> None:
        problems.append(f"{printable(exc.filename)}: cannot be read ({exc.strerror})")

    for root, folders, files in os.walk(folder, onerror=note):
        folders.sort()
        inside += [Path(root, file) for file in files]
    found = [
        path
        for path in sorted(inside)
        if path.suffix.lower() in suffixes and not path.stem.endswith(OURS)
    ]
    if len(found) < len(inside):
        notes.append(
            f"{printable(folder)}: {len(found)} of {len(inside)} files, those that end in "
            f"{' '.join(suffixes)} and are no pictures of predictions"
        )
    return found


def picture_names(paths: Iterable[Path], out: Path) -> dict[Path, str]:
    """A name for each file's pictures in `out`, without suffix, after its own.

    Numbered where several files have the same, and where it is that of one of the files.
    """
    paths = list(paths)
    inputs = {path.resolve() for path in paths}
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in paths:
        own = f"{printable(path.stem)[:_LONGEST_NAME]}"
        for number in itertools.count(1):
            name = f"{own}{f'_{number}' if number > 1 else ''}{OURS}"
            drawn = {(out / f"{name}{suffix}").resolve() for suffix in (".png", ".mp4")}
            if name not in taken and not drawn & inputs:
                break
        names[path] = name
        taken.add(name)
    return names


def printable(text: object) -> str:
    """Text that may hold anything, such as a file's name, safe to show on a terminal."""
    return "".join(character if character.isprintable() else "?" for character in str(text))
