"""Run the commands of README.md and docs/, in order, on small synthetic data in a copy of the tree.

Every command is run as it stands in the text, is replaced by a smaller one, or is skipped for a
reason that is given below; anything else fails. `.venv` must be set up.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
DOCUMENTS = ["README.md", *(f"docs/{n}.md" for n in ("training", "cluster", "sharing"))]

# Small networks, one epoch, and one fold where a command does not name others.
SMALL = {"PRESET": "tiny", "EPOCHS": "1", "FOLDS": "3", "OMP_NUM_THREADS": "1"}
SMALL |= {"DEMO_CLIPS": "1", "DEMO_EPOCHS": "1"}

# Commands, by what they begin with, that need other data or are too long as they are.
INSTEAD = [
    (r"make demo", 'make demo FOLDS="0 1 2 3 4"'),
    (r"make real (.*)", r"make real \1 PRESET=landmarks"),
    (r"make features table1 table2 (.*)", r"make -n features table1 table2 \1"),  # half an hour
    (r"make -k table1 table2 (.*)", r"make -n -k table1 table2 \1"),  # tests train all
    # One fold does not join the five that come with the project.
    (r"make weights RUNS=(\S+)", r"rm -r evaluate/weights; make weights RUNS=\1 PRESET=landmarks"),
    (r"(python train\.py --cache.*)", r"\1 --preset tiny --epochs 1"),
    (r"(python -m train\.sweep .*) --seeds 0 1 2 (.*)", r"\1 --folds 3 --seeds 0 \2"),
    (
        r"python -m cache fetch https://example\.org/(\S+) data/ravdess-cache",
        r"python -m cache fetch data/\1 fetched",
    ),
]
SKIPPED = {
    "git clone|cd cfn-sr": "this is the copy",
    "make ravdess|python -m cache fetch https://": "the network",
    "make weights-check": "all clips of RAVDESS",
    "torchrun": "several GPUs",
    "sbatch": "a cluster",
    r"python -m dask|python -m preprocess .*--backend dask": "a cluster",
    r".*pip install|python3 -m venv": "what is installed stays",
    "tensorboard|make bench": "minutes, or no end",
    r".*\b(DIR|NAME|HOST)\b(?!=)|.*=DIR|python -m cache diff A B": "a pattern",
}


def main() -> int:
    """Run everything; returns the exit status."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        done, failed = set(), 0
        for document in DOCUMENTS:
            for command in commands(document):
                if command not in done:
                    failed += run(command, document, folder)
                    done.add(command)
    print(f"{len(done)} commands, {failed} failed")
    return int(failed > 0)


def prepare(folder: Path) -> None:
    """Copy the tree, and put synthetic clips where the documents say that RAVDESS is."""
    from media import put, record
    from test_preprocess_landmarks import table

    from cache.ravdess import ACTORS

    shell(f"git ls-files -z | xargs -0 cp --parents -t '{folder}'", ROOT)
    (folder / ".venv").mkdir()
    for each in ("bin", "lib", "lib64", "pyvenv.cfg"):
        (folder / ".venv" / each).symlink_to(ROOT / ".venv" / each)
    (folder / ".venv" / ".ready").touch()

    draw = "python -m preprocess.sample --out data/ravdess --clips-per-actor 1"
    shell(draw, folder)
    shutil.copy(next(folder.glob("data/ravdess/Actor_05/*.mp4")), folder / "my_clip.mp4")
    for actor in ACTORS:
        take = f"01-0{1 + actor % 8}-01-01-01-{actor:02d}"
        record(folder / "data/real", f"03-{take}", 200 + 20 * actor)
        put(folder / "data/real", f"01-{take}.csv", table(range(1, 100)))
    shell("python -m preprocess --raw data/real --cache data/audio-cache --modality audio", folder)
    text = (ROOT / "docs/training.md").read_text()
    settings = re.search(r"^```\n(all: .*?)^```", text, re.MULTILINE | re.DOTALL)[1]
    (folder / "settings.txt").write_text(settings.replace("\n", " --epochs 1 --preset tiny\n", 1))


def commands(document: str) -> list[str]:
    """The commands of a document in order: lines of fenced blocks, and code in a sentence."""
    text = (ROOT / document).read_text().replace("\\\n", "")
    starts = r"(?:make|python|torchrun|tensorboard) "
    found = []
    for block in re.split(r"(^```.*?^```)", text, flags=re.MULTILINE | re.DOTALL):
        if block.startswith("```python"):
            found.append(f"python - <<'END'\n{block[10:-3]}END")
        elif block.startswith("```\n"):
            lines = block.splitlines()[1:-1]
            if not lines[0].startswith(("all: ", "cfn_sr: ")):  # settings, and what is printed
                found += lines
        else:
            codes = [" ".join(code.split()) for code in re.findall(rf"`({starts}[^`]*)`", block)]
            # Without arguments it is the name of a command.
            found += [code for code in codes if re.search("[=/]| --", code)]
    return found


def run(command: str, document: str, folder: Path) -> bool:
    """Run a command, or print why it is skipped; returns whether it failed."""
    own = text = re.sub(r"\s+#.*", "", command) if "\n" not in command else command
    for pattern, instead in INSTEAD:
        text = re.sub(rf"^{pattern}$", instead, text)
    for pattern, reason in SKIPPED.items():
        if text == own and re.match(pattern, text):
            print(f"skipped ({reason}): {text}")
            return False
    begun = time.monotonic()
    done = shell(text, folder, check=False)
    print(f"{'FAILED' if done.returncode else 'ok'} in {time.monotonic() - begun:.0f} s: {text}")
    if done.returncode:
        print(f"  ({document}: {command})\n{done.stdout[-1000:]}{done.stderr[-3000:]}")
    sys.stdout.flush()
    return bool(done.returncode)


def shell(command: str, folder: Path, check: bool = True) -> subprocess.CompletedProcess:
    path = f"{folder / '.venv/bin'}:{os.environ['PATH']}"
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")} | SMALL
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=env | {"PATH": path},
        check=check,
        text=True,
        capture_output=True,
    )


if __name__ == "__main__":
    sys.exit(main())
