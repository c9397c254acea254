"""Which raw clips are found in a folder, and what is said about everything else."""

import os
import zipfile

import pytest
from media import put

from preprocess.dataset import find_clips, origin
from preprocess.limits import ClipError
from preprocess.settings import Settings

GOOD = "01-01-06-01-02-01-05"
RECORDING = "03-01-06-01-02-01-05"


def ids(found):
    return [source.clip.clip_id for source in found.sources]


def put_zip(folder, name, members):
    with zipfile.ZipFile(put(folder, name, b""), "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return folder / name


@pytest.fixture
def raw(tmp_path):
    put(tmp_path, f"Actor_05/{GOOD}.mp4", b"good")
    return tmp_path


def test_clips_in_actor_folders_are_found_sorted_also_if_links_lead_back(raw):
    (raw / "Actor_05" / "again").symlink_to(raw)
    put(raw, "Actor_05/01-01-02-01-02-01-05.mp4", b"a")
    put(raw, "Actor_14/01-01-01-01-02-01-14.MP4", b"c")
    found = find_clips(raw, Settings())
    assert ids(found) == ["01-01-01-01-02-01-14", "01-01-02-01-02-01-05", GOOD]
    assert [source.file.read() for source in found.sources] == [b"c", b"a", b"good"]
    assert found.sources[2].name == f"Actor_05/{GOOD}.mp4"
    assert not found.warnings
    assert not found.failures


def test_clips_in_zips_are_found_without_what_macos_adds(tmp_path):
    for actor in (5, 6):
        members = {
            f"Actor_{actor:02d}/01-01-06-01-02-01-{actor:02d}.mp4": b"full",
            f"Actor_{actor:02d}/02-01-06-01-02-01-{actor:02d}.mp4": b"silent",
            f"__MACOSX/Actor_{actor:02d}/._{GOOD}.mp4": b"x",
        }
        put_zip(tmp_path, f"Video_Speech_Actor_{actor:02d}.zip", members)
    found = find_clips(tmp_path, Settings())
    assert ids(found) == [GOOD, "01-01-06-01-02-01-06"]
    assert found.sources[1].file.read() == b"full"
    assert found.sources[1].name.startswith("Video_Speech_Actor_06.zip/Actor_06/")
    assert found.skipped == {"video-only": 2}
    assert not found.failures


def test_clips_of_other_kinds_are_skipped_and_counted(raw):
    take = "06-01-02-01-05"
    for name in (
        f"02-01-{take}.mp4",
        f"03-01-{take}.wav",
        f"01-02-{take}.mp4",
        f"03-02-{take}.flac",
    ):
        put(raw, f"Actor_05/{name}", b"x")
    found = find_clips(raw, Settings())
    assert ids(found) == [GOOD]
    assert found.skipped == {"video-only": 1, "audio-only": 1, "song": 2}
    found = find_clips(raw, Settings(modality="audio"))
    assert ids(found) == [RECORDING]
    assert found.skipped == {"video-only": 1, "full-AV": 1, "song": 2}
    assert not found.failures


def test_a_clip_is_joined_by_its_own_recording_and_landmarks(raw, tmp_path):
    put(raw, f"Actor_05/{RECORDING}.wav", b"sound")
    put(raw, "Actor_06/01-01-06-01-02-01-06.mp4", b"video")
    tables = {f"{clip_id}.csv": b"points" for clip_id in (GOOD, "01-01-06-01-02-01-06")}
    points = put_zip(tmp_path / "points", "FacialTracking.zip", tables).parent
    found = find_clips(raw, Settings(audio="wav", faces="landmarks"), points)
    (source,) = found.sources
    assert source.recording.read() == b"sound"
    assert source.landmarks.read() == b"points"
    other = "01-06-01-02-01-06"
    reason = f"no recording, expected 03-{other}.wav or .flac"
    assert found.failures == {f"Actor_06/01-{other}.mp4": reason}
    assert not found.skipped


def test_a_duplicate_is_used_once_and_loose_files_come_first(raw):
    put_zip(raw, "Actor_05.zip", {f"Actor_05/{GOOD}.mp4": b"zipped"})
    found = find_clips(raw, Settings())
    assert [source.file.read() for source in found.sources] == [b"good"]
    duplicate, used = f"Actor_05.zip/Actor_05/{GOOD}.mp4", f"Actor_05/{GOOD}.mp4"
    assert found.warnings == [f"{duplicate} is ignored, because {used} is the same clip"]


def test_a_clip_in_the_folder_of_another_actor_is_a_failure(raw):
    """Else one face would be in training under one name and in the test under another."""
    put(raw, "Actor_05/01-01-06-01-02-01-06.mp4", b"whose?")
    put_zip(raw, "Video_Speech_Actor_07.zip", {"Actor_08/01-01-06-01-02-01-08.mp4": b"whose?"})
    found = find_clips(raw, Settings())
    assert ids(found) == [GOOD]
    assert [reason.partition(". Move")[0] for _, reason in sorted(found.failures.items())] == [
        "named as actor 6, but in the folder of actor 5",
        "named as actor 8, but in the folder of actor 7",
    ]


def test_what_cannot_be_a_clip_is_a_failure_that_says_why_and_other_files_a_warning(raw):
    put(raw, "notes.txt", b"x")
    put(raw, ".DS_Store", b"x")
    put(raw, "Actor_05/my holiday.mp4", b"x")
    put(raw, "Actor_05/01-01-06-01-02-01-99.mp4", b"x")
    put(raw, "Actor_05/01-01-02-01-02-02-05.wav", b"sound")
    put(raw, "Video_Speech_Actor_06.zip", b"PK not really")
    os.mkfifo(raw / "Actor_05" / "01-01-02-01-02-01-05.mp4")
    (raw / "Actor_05" / "01-01-03-01-02-01-05.mp4").symlink_to("nowhere")
    found = find_clips(raw, Settings())
    assert ids(found) == [GOOD]
    reasons = {
        "Actor_05/my holiday.mp4": "'my holiday' is not a RAVDESS name",
        "Actor_05/01-01-06-01-02-01-99.mp4": "actor is 99, expected 1..24",
        "Actor_05/01-01-02-01-02-02-05.wav": "named as a full-AV clip, expected .mp4",
        "Video_Speech_Actor_06.zip": "not a readable zip",
        "Actor_05/01-01-02-01-02-01-05.mp4": "is not a regular file",
        "Actor_05/01-01-03-01-02-01-05.mp4": "is not a regular file",
    }
    assert found.failures.keys() == reasons.keys()
    assert all(reason in found.failures[name] for name, reason in reasons.items())
    assert found.warnings == ["notes.txt is ignored, because it is not a RAVDESS clip"]


def test_a_folder_that_cannot_be_read_is_a_failure(raw, monkeypatch):
    put(raw, "Actor_06/01-01-06-01-02-01-06.mp4", b"x")
    scandir = os.scandir

    def forbidding(path):
        if str(path).endswith("Actor_06"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidding)
    found = find_clips(raw, Settings())
    assert ids(found) == [GOOD]
    assert found.failures == {"Actor_06": "cannot be read (Permission denied)"}


def test_names_that_are_not_text_are_escaped(raw):
    folder = os.fsencode(raw) + b"/Act\xff\x1b"
    os.mkdir(folder)
    with open(folder + b"/01-01-06-01-02-01-06.mp4", "wb") as opened:
        opened.write(b"y")
    put_zip(raw, "a.zip", {"/Act\x1b/01-01-06-01-02-01-07.mp4": b"z"})
    found = find_clips(raw, Settings())
    assert [source.file.read() for source in found.sources] == [b"good", b"y", b"z"]
    assert found.sources[1].name == "Act\\udcff\\x1b/01-01-06-01-02-01-06.mp4"
    assert found.sources[2].name == "a.zip//Act\\x1b/01-01-06-01-02-01-07.mp4"


def test_the_sample_is_never_called_ravdess(tmp_path):
    assert origin(tmp_path)["dataset"].startswith("RAVDESS")
    assert origin(tmp_path)["license"] == "CC BY-NC-SA 4.0"
    put(tmp_path, "sample.json", b'{"seed": 7, "version": 1}')
    assert origin(tmp_path)["dataset"] == "synthetic sample, seed 7"
    put(tmp_path, "sample.json", b"{")
    with pytest.raises(ValueError, match=r"sample\.json: not a valid sample file"):
        origin(tmp_path)


# Bytes to change in the headers of a zip, and the reason that is then given: the compression
# method, the flag of encryption, the content, the version.
SPOILT = {
    "method": ([(b"PK\x03\x04", 8, 99), (b"PK\x01\x02", 10, 99)], "compression"),
    "flag": ([(b"PK\x03\x04", 6, 1), (b"PK\x01\x02", 8, 1)], "encrypted"),
    "content": ([(b"zipped", 0, 0)], "Bad CRC-32"),
    "version": ([(b"PK\x01\x02", 6, 99)], "not a readable zip (zip file version 9.9)"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_zip_that_cannot_be_read_is_named(tmp_path, what):
    changes, reason = SPOILT[what]
    path = put_zip(tmp_path, "a.zip", {f"{GOOD}.mp4": b"zipped"})
    content = bytearray(path.read_bytes())
    for start, offset, byte in changes:
        content[content.index(start) + offset] = byte
    path.write_bytes(content)
    found = find_clips(tmp_path, Settings())
    if what == "version":
        assert reason in found.failures["a.zip"]
    else:
        with pytest.raises(ClipError, match=f"cannot be read .*{reason}"):
            found.sources[0].file.read()
