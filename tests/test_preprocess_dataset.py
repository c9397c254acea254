import os
import zipfile

import pytest
from media import put

from preprocess.dataset import find_clips, origin
from preprocess.decode import ClipError
from preprocess.settings import Settings

GOOD = "01-01-06-01-02-01-05"


def ids(found):
    return [source.clip.clip_id for source in found.sources]


def test_clips_in_actor_folders_are_found_sorted(tmp_path):
    put(tmp_path, f"Actor_05/{GOOD}.mp4", b"b")
    put(tmp_path, "Actor_05/01-01-02-01-02-01-05.mp4", b"a")
    put(tmp_path, "Actor_14/01-01-01-01-02-01-14.MP4", b"c")
    found = find_clips(tmp_path, Settings())
    assert ids(found) == ["01-01-01-01-02-01-14", "01-01-02-01-02-01-05", GOOD]
    assert [source.file.read() for source in found.sources] == [b"c", b"a", b"b"]
    assert found.sources[2].name == f"Actor_05/{GOOD}.mp4"
    assert not found.warnings
    assert not found.failures


def test_clips_in_zips_side_by_side_are_found(tmp_path):
    for actor in (5, 6):
        with zipfile.ZipFile(tmp_path / f"Video_Speech_Actor_{actor:02d}.zip", "w") as archive:
            archive.writestr(f"Actor_{actor:02d}/01-01-06-01-02-01-{actor:02d}.mp4", b"full")
            archive.writestr(f"Actor_{actor:02d}/02-01-06-01-02-01-{actor:02d}.mp4", b"silent")
    found = find_clips(tmp_path, Settings())
    assert ids(found) == ["01-01-06-01-02-01-05", "01-01-06-01-02-01-06"]
    assert found.sources[1].file.read() == b"full"
    assert found.sources[1].name.startswith("Video_Speech_Actor_06.zip/Actor_06/")
    assert found.left_out == {"video-only": 2}


def test_video_only_audio_only_and_song_are_left_out_and_counted(tmp_path):
    for name in (
        "02-01-06-01-02-01-05.mp4",
        "03-01-06-01-02-01-05.wav",
        "01-02-06-01-02-01-05.mp4",
        "03-02-06-01-02-01-05.wav",
        f"{GOOD}.mp4",
    ):
        put(tmp_path, f"Actor_05/{name}", b"x")
    found = find_clips(tmp_path, Settings())
    assert ids(found) == [GOOD]
    assert found.left_out == {"video-only": 1, "audio-only": 1, "song": 2}
    assert not found.failures


def test_a_clip_with_a_wrong_name_is_a_failure_that_says_why(tmp_path):
    put(tmp_path, f"Actor_05/{GOOD}.mp4", b"x")
    put(tmp_path, "Actor_05/my holiday.mp4", b"x")
    put(tmp_path, "Actor_05/01-01-06-01-02-01-99.mp4", b"x")
    found = find_clips(tmp_path, Settings())
    assert ids(found) == [GOOD]
    assert sorted(found.failures) == [
        "Actor_05/01-01-06-01-02-01-99.mp4",
        "Actor_05/my holiday.mp4",
    ]
    assert "actor is 99, expected 1..24" in found.failures["Actor_05/01-01-06-01-02-01-99.mp4"]


def test_other_files_are_named_in_a_warning(tmp_path):
    put(tmp_path, f"Actor_05/{GOOD}.mp4", b"x")
    put(tmp_path, "notes.txt", b"x")
    put(tmp_path, ".DS_Store", b"x")
    assert find_clips(tmp_path, Settings()).warnings == ["notes.txt is no RAVDESS clip: left alone"]


def test_a_clip_that_lies_there_twice_is_taken_once_and_loose_files_first(tmp_path):
    with zipfile.ZipFile(tmp_path / "Video_Speech_Actor_05.zip", "w") as archive:
        archive.writestr(f"Actor_05/{GOOD}.mp4", b"zipped")
    put(tmp_path, f"Actor_05/{GOOD}.mp4", b"loose")
    found = find_clips(tmp_path, Settings())
    assert [source.file.read() for source in found.sources] == [b"loose"]
    assert found.warnings == [
        f"Video_Speech_Actor_05.zip/Actor_05/{GOOD}.mp4 is there again: "
        f"Actor_05/{GOOD}.mp4 was taken"
    ]


def test_a_broken_zip_is_a_failure_and_the_rest_goes_on(tmp_path):
    put(tmp_path, "Video_Speech_Actor_06.zip", b"PK not really")
    put(tmp_path, f"Actor_05/{GOOD}.mp4", b"x")
    found = find_clips(tmp_path, Settings())
    assert ids(found) == [GOOD]
    assert "not a readable zip" in found.failures["Video_Speech_Actor_06.zip"]


def test_a_damaged_zip_member_cannot_be_read(tmp_path):
    path = tmp_path / "Video_Speech_Actor_05.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"Actor_05/{GOOD}.mp4", b"A" * 1000)
    path.write_bytes(path.read_bytes().replace(b"A" * 1000, b"A" * 999 + b"B"))
    with pytest.raises(ClipError, match="cannot be read"):
        find_clips(tmp_path, Settings()).sources[0].file.read()


def test_links_that_lead_back_do_not_hang(tmp_path):
    put(tmp_path, f"Actor_05/{GOOD}.mp4", b"x")
    (tmp_path / "Actor_05" / "again").symlink_to(tmp_path)
    assert ids(find_clips(tmp_path, Settings())) == [GOOD]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        find_clips(tmp_path / "nowhere", Settings())


def test_the_sample_is_never_called_ravdess(tmp_path):
    assert origin(tmp_path)["dataset"].startswith("RAVDESS")
    assert origin(tmp_path)["license"] == "CC BY-NC-SA 4.0"
    put(tmp_path, "sample.json", b'{"seed": 7, "version": 1}')
    assert origin(tmp_path)["dataset"] == "synthetic sample, seed 7"


def test_a_recordings_cache_takes_the_recordings_and_leaves_the_videos(tmp_path):
    put(tmp_path, f"Actor_05/{GOOD}.mp4", b"video")
    put(tmp_path, "Actor_05/03-01-06-01-02-01-05.wav", b"sound")
    put(tmp_path, "03-01-06-01-02-01-06.flac", b"sound")
    put(tmp_path, "03-02-06-01-02-01-06.flac", b"song")
    found = find_clips(tmp_path, Settings(modality="audio"))
    assert ids(found) == ["03-01-06-01-02-01-05", "03-01-06-01-02-01-06"]
    assert found.left_out == {"full-AV": 1, "song": 1}


def test_a_clip_is_joined_by_its_own_recording_and_landmarks(tmp_path):
    raw, points = tmp_path / "raw", tmp_path / "points"
    put(raw, f"Actor_05/{GOOD}.mp4", b"video")
    put(raw, "Actor_05/03-01-06-01-02-01-05.wav", b"sound")
    put(raw, "Actor_06/01-01-06-01-02-01-06.mp4", b"video")
    with zipfile.ZipFile(put(points, "FacialTracking.zip", b""), "w") as archive:
        archive.writestr(f"{GOOD}.csv", b"points")
        archive.writestr("01-01-06-01-02-01-06.csv", b"points")
    found = find_clips(raw, Settings(audio="wav", faces="landmarks"), points)
    (source,) = found.sources
    assert source.recording.read() == b"sound"
    assert source.landmarks.read() == b"points"
    assert found.failures == {
        "Actor_06/01-01-06-01-02-01-06.mp4": "no recording 03-01-06-01-02-01-06 for this clip"
    }
    assert not found.left_out


def test_a_recording_named_as_a_video_is_a_failure(tmp_path):
    put(tmp_path, f"Actor_05/{GOOD}.wav", b"sound")
    found = find_clips(tmp_path, Settings())
    assert found.failures == {f"Actor_05/{GOOD}.wav": "is named full-AV, but is not such a file"}


def test_what_cannot_be_read_as_a_file_is_a_failure(tmp_path):
    put(tmp_path, f"Actor_05/{GOOD}.mp4", b"x")
    os.mkfifo(tmp_path / "Actor_05" / "01-01-02-01-02-01-05.mp4")
    (tmp_path / "Actor_05" / "01-01-03-01-02-01-05.mp4").symlink_to("nowhere")
    found = find_clips(tmp_path, Settings())
    assert ids(found) == [GOOD]
    assert found.failures == {
        "Actor_05/01-01-02-01-02-01-05.mp4": "is no plain file",
        "Actor_05/01-01-03-01-02-01-05.mp4": "is no plain file",
    }


def test_a_folder_that_cannot_be_looked_into_is_a_failure(tmp_path, monkeypatch):
    put(tmp_path, f"Actor_05/{GOOD}.mp4", b"x")
    put(tmp_path, "Actor_06/01-01-06-01-02-01-06.mp4", b"x")
    scandir = os.scandir

    def forbidding(path):
        if str(path).endswith("Actor_06"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidding)
    found = find_clips(tmp_path, Settings())
    assert ids(found) == [GOOD]
    assert found.failures == {"Actor_06": "cannot be read (Permission denied)"}


def test_names_of_strange_bytes_can_be_written_down(tmp_path):
    folder = os.fsencode(tmp_path) + b"/Act\xff"
    os.mkdir(folder)
    put(tmp_path, f"Actor_05/{GOOD}.mp4", b"x")
    with open(folder + b"/01-01-06-01-02-01-06.mp4", "wb") as opened:
        opened.write(b"y")
    found = find_clips(tmp_path, Settings())
    assert [source.file.read() for source in found.sources] == [b"x", b"y"]
    assert found.sources[1].name == "Act\\udcff/01-01-06-01-02-01-06.mp4"


def test_what_macos_adds_to_a_zip_is_passed_over(tmp_path):
    with zipfile.ZipFile(tmp_path / "Video_Speech_Actor_05.zip", "w") as archive:
        archive.writestr(f"Actor_05/{GOOD}.mp4", b"x")
        archive.writestr(f"__MACOSX/Actor_05/._{GOOD}.mp4", b"x")
    found = find_clips(tmp_path, Settings())
    assert ids(found) == [GOOD]
    assert not found.failures


@pytest.mark.parametrize(("field", "reason"), [("method", "compression"), ("flag", "encrypted")])
def test_a_zip_member_that_cannot_be_unpacked_is_named(tmp_path, field, reason):
    """zipfile has errors of its own for a way of packing that it lacks, and for a password."""
    path = tmp_path / "Video_Speech_Actor_05.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"Actor_05/{GOOD}.mp4", b"content")
    content = bytearray(path.read_bytes())
    for start, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # flags; the method is behind
        place = content.index(start) + at + (2 if field == "method" else 0)
        content[place] = 99 if field == "method" else 1
    path.write_bytes(content)
    (source,) = find_clips(tmp_path, Settings()).sources
    with pytest.raises(ClipError, match=f"cannot be read .*{reason}"):
        source.file.read()


def test_a_zip_of_a_version_to_come_is_named(tmp_path):
    path = tmp_path / "Video_Speech_Actor_05.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"Actor_05/{GOOD}.mp4", b"content")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 6] = 99
    path.write_bytes(content)
    found = find_clips(tmp_path, Settings())
    assert "not a readable zip (zip file version 9.9)" in found.failures[path.name]
