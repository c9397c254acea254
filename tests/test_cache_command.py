"""How commands end: what cannot be shown never ends the work."""

import os
import subprocess
import sys

import pytest

from cache.command import run

# A command that tells people something, does its work, and tells them more.
WORK = """
import sys
from pathlib import Path
from tqdm import tqdm
sys.path.insert(0, {root!r})
from cache.command import run, warn
def work():
    print("begun in Zürich")
    warn("a warning from Zürich")
    for _ in tqdm(range(3)):
        tqdm.write("x" * 100_000)
    sys.stdout.flush()
    Path({done!r}).touch()
sys.exit(run(work))
"""


@pytest.mark.parametrize(
    ("how", "status", "said"),
    [
        ("{command}", 0, "begun in Z"),
        ("{command} | head -c 1", 0, "b"),
        ("{command} 2>&1 | head -c 1", 0, ""),
        ("{command} >&-", 0, ""),
        ("{command} 2>&-", 0, "begun in Z"),
        ("{command} >&- 2>&-", 0, ""),
        ("{command} 2>/dev/full", 0, "begun in Z"),
        ("{command} >/dev/full", 1, ""),
        ("PYTHONIOENCODING=ascii {command}", 0, r"begun in Z\xfcrich"),
    ],
)
def test_messages_that_cannot_be_shown_do_not_end_the_work(how, status, said, tmp_path):
    done = tmp_path / "done"
    root = os.path.dirname(os.path.dirname(__file__))
    (tmp_path / "work.py").write_text(WORK.format(root=root, done=str(done)))
    line = how.format(command=f"{sys.executable} {tmp_path / 'work.py'}")
    shell = ["bash", "-c", f"set -o pipefail; {line}"]
    found = subprocess.run(shell, capture_output=True, text=True)
    assert done.exists()
    assert found.returncode == status, found.stderr
    assert said in found.stdout
    assert "Traceback" not in found.stderr
    assert "Exception ignored" not in found.stderr
    if status:
        assert "error: standard output: [Errno 28] No space left" in found.stderr


def test_streams_are_as_before_after_a_command(capsys):
    before = sys.stdout, sys.stderr
    assert run(lambda: print("done")) == 0
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr().out == "done\n"
