"""Death before any change to the disk: the next run ends with the bytes of a straight one."""

import hashlib
import itertools
import os
import shutil
import sys
import threading
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from media import contents, record
from noise import noise_arrays, write_noise_cache
from processes import begin
from test_preprocess_landmarks import HEADER, table
from training import AUDIO, assert_same_run, train

from cache import files
from cache.__main__ import main as cache_main
from cache.ravdess import expected_clips
from cache.reader import Cache
from cache.schema import FIELDS
from preprocess import clip
from preprocess.cli import main as preprocess_main

watching = []  # functions that are called before every change to the disk
TAKES = [f"01-01-01-01-{actor:02d}" for actor in (1, 2, 3)]


def changed_path(event, arguments):
    """The path that a system call is about to change; empty if it changes none."""
    if event == "open":
        path, _, flags = arguments
        is_change = not isinstance(path, int) and flags & (os.O_WRONLY | os.O_RDWR)
        return os.fsdecode(path) if is_change else ""
    if event not in {"os.rename", "os.link", "os.symlink", "os.mkdir", "os.rmdir", "os.remove"}:
        return ""
    parent = arguments[-1] if event in {"os.rmdir", "os.remove"} else -1  # given by shutil.rmtree
    folder = os.readlink(f"/proc/self/fd/{parent}") if parent >= 0 else ""
    return os.path.join(folder, os.fsdecode(arguments[0]))


def copies_before_changes(work, folder, copies):
    """Let `work` change `folder`; `copies/N` gets what a death before its change N would leave."""
    numbers, lock = itertools.count(), threading.Lock()  # other threads wait for a copy

    def copy(event, arguments):
        if changed_path(event, arguments).startswith(str(folder.parent)):
            with lock:
                shutil.copytree(folder.parent, copies / str(next(numbers)))

    watching.append(copy)
    work(folder)
    watching.remove(copy)
    shutil.copytree(folder.parent, copies / str(next(numbers)))
    return next(numbers)


def die_everywhere(kind, work, check, folder, before=None):
    """Let `work` on a copy of `before` die at every point, complete it, and check the result.

    `check` gets the folder, what the completing run said, and a name of the point.
    """
    begun = folder / f"{kind}_begun" / "folder"
    shutil.copytree(before, begun) if before else begun.parent.mkdir()
    count = copies_before_changes(work, begun, folder / kind)
    for number in range(count):
        killed, point = folder / kind / str(number) / "folder", f"{kind}, point {number}"
        if (killed / "manifest.json").exists():
            assert not any(Cache(killed).problems()), point
        with redirect_stdout(StringIO()) as said:
            assert work(killed) in (0, 1), point
        assert list(killed.parent.iterdir()) == [killed], point
        check(killed, said.getvalue(), point)
        shutil.rmtree(killed.parent)
    assert count > 10
    print(f"{kind}: {count} points")


def prepare():
    """Make this process quick, and watch its changes to the disk."""
    os.fsync = lambda descriptor: None  # slow, and no power is cut here
    clip.mfcc = lambda waveform: np.resize(waveform, FIELDS["mfcc"].shape)
    files._WRITTEN_S = 0.1
    sys.addaudithook(lambda event, arguments: [each(event, arguments) for each in watching[:]])


def make_clip(folder, take, number):
    """A recording with landmarks; another number gives other sound and other points."""
    record(folder, f"03-01-{take}", 200 + 50 * number)
    points = table(range(1, 97), header=HEADER[:140], rate_hz=25 + number)
    (folder / f"01-01-{take}.csv").write_bytes(points)


def features(raw, cache):
    options = ["--modality", "landmarks", "--landmarks", raw, "--jobs", 1]
    return preprocess_main([*map(str, ["--raw", raw, "--cache", cache, *options])])


def share(command, cache, out):
    return cache_main([command, str(cache), str(out)])


def features_everywhere(arguments):
    """Features of a fresh, a growing and a replacing run; then pack and fetch."""
    prepare()
    folder = Path(arguments[0])
    first = folder / "first"
    for number, take in enumerate(TAKES):
        make_clip(first, take, number)
    grown = shutil.copytree(first, folder / "grown")
    make_clip(grown, "01-01-01-02-01", 3)  # joins a clip that is in the cache and nowhere else
    replaced = shutil.copytree(first, folder / "replaced")
    (replaced / f"01-01-{TAKES[0]}.csv").write_bytes(table(range(1, 97), rate_hz=24))
    record(replaced, f"03-01-{TAKES[1]}", 700)
    (replaced / f"03-01-{TAKES[2]}.wav").write_bytes(b"no sound")
    before = folder / "before"
    assert features(first, before) == 0
    for kind, begun, raw in (
        ("fresh", None, first),
        ("growing", before, grown),
        ("replacing", before, replaced),
    ):
        straight, made = folder / f"{kind}_straight", [len(TAKES)]
        features(raw, straight)
        for entry in Cache(straight).manifest["clips"].values():
            content = (raw / entry["source"]).read_bytes()
            assert entry["source_sha256"] == hashlib.sha256(content).hexdigest()

        def check(killed, said, point, straight=straight, made=made):
            assert contents(killed) == contents(straight), point
            # The later the death, the less is left to do: finished clips are not processed again.
            made.append(int(said.split()[0].replace("nothing", "0")))
            assert made[-1] <= made[-2], point

        die_everywhere(kind, partial(features, raw), check, folder, begun)
        assert made[-1] == 0

    unchanged = contents(before)
    for kind in ("pack", "fetch"):
        straight = folder / f"{kind}_straight"
        assert share(kind, before, straight) == 0

        def check_copy(killed, said, point, straight=straight):
            assert contents(killed) == contents(straight), point
            assert contents(before) == unchanged, point

        die_everywhere(kind, partial(share, kind, before), check_copy, folder)


def training_everywhere(arguments):
    """A training of two epochs."""
    prepare()
    folder = Path(arguments[0])
    clips = [each for actor in (1, 5) for each in expected_clips(actor)[:6]]
    sound = {"mfcc": noise_arrays(0)["mfcc"]}
    cache, straight = write_noise_cache(folder / "cache", clips, lambda _: sound), folder / "runs"
    assert train(cache, straight, "--epochs", 2) == 0
    names = {path.name for path in (straight / AUDIO / "fold_0").iterdir()}

    def check(killed, said, point):
        assert_same_run(straight, killed)
        assert {path.name for path in (killed / AUDIO / "fold_0").iterdir()} == names, point

    def resume(runs):
        return train(cache, runs, "--epochs", 2, "--resume")

    die_everywhere("training", resume, check, folder)


@pytest.mark.parametrize("everywhere", [features_everywhere, training_everywhere])
def test_what_dies_before_any_change_to_the_disk_is_completed_by_the_next(everywhere, tmp_path):
    printed = tmp_path / "printed"
    process = begin(everywhere, printed, [tmp_path])
    process.join(400)
    process.kill()
    process.join()
    assert process.exitcode == 0, (printed / "stderr").read_text()
    print((printed / "stdout").read_text())
