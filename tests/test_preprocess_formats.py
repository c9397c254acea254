"""Every pixel format and channel layout, and what a file says about how to show its picture."""

import io
import math
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.format import names as pixel_formats
from av.video.reformatter import ColorTrc, Interpolation, VideoReformatter
from media import RATE_HZ, encode, noise_pictures, remuxed, tone

from preprocess.decode import open_video
from preprocess.face import crop
from preprocess.limits import ClipError
from preprocess.windows import decode

HEIGHT, WIDTH = 240, 320
EXACT = Interpolation.AREA | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
EXACT |= Interpolation.ACCURATE_RND | Interpolation.BITEXACT
BOX = np.float32([[41, 21, 241, 221]])  # at odd pixels


def colors():
    """A picture with a different color everywhere, uint8 RGB (240, 320, 3)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    red, green = 40 + 150 * x / WIDTH, 60 + 120 * y / HEIGHT
    return np.stack([red, green, 200 - 140 * (x + y) / (WIDTH + HEIGHT)], -1).astype(np.uint8)


def in_format(frame, name, **changes):
    return VideoReformatter().reformat(frame, format=name, interpolation=EXACT, **changes)


def apart(frame, shown):
    """How much a crop differs from that of the whole picture converted to RGB, in 256 levels."""
    expected = crop([in_format(frame, "rgb24")], BOX)
    return np.abs(crop([shown], BOX).astype(int) - expected).max()


@pytest.fixture(scope="module")
def any_video():
    with open_video(encode(noise_pictures(3, 64, 64), None), sound=False) as video:
        yield video


def test_crops_of_every_pixel_format_are_those_of_the_whole_picture(any_video):
    """Of all that swscale can write; two of them (4 bits a pixel) it cannot read."""
    picture, worst, refused = av.VideoFrame.from_ndarray(colors(), format="rgb24"), {}, []
    for name in sorted(pixel_formats):
        try:
            frame = in_format(picture, name)
        except (OSError, ValueError, av.FFmpegError):
            continue  # of hardware, or for reading only
        try:
            worst[name] = apart(frame, any_video.shown(frame)[0])
        except ClipError:
            refused.append(name)
    assert len(worst) > 180
    assert max(worst.values()) <= 2
    assert sorted(refused) == ["bgr4", "rgb4"]


ENCODED = """
libx264 yuv420p10le mp4, libx264 yuv422p10le mp4, libx264 yuv444p mp4, libx264 yuvj420p mp4,
libx265 yuv420p10le mp4, libx265 yuv420p12le mp4, libvpx-vp9 yuv420p webm, ffv1 bgra matroska,
prores_ks yuv422p10le mov, prores_ks yuva444p10le mov, rawvideo nv12 avi, rawvideo yuv410p avi,
rawvideo yuyv422 avi, rawvideo gray matroska, mjpeg yuvj422p avi, ffv1 yuv420p16le matroska,
png rgba mov, mpeg4 yuv420p avi, qtrle rgb24 mov, cfhd yuv422p10le mov, v210 yuv422p10le mov
"""


def encoded(codec, pixel_format, container, frames, **settings):
    """A file without sound of these frames, of 30 a second."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as file:
        track = file.add_stream(codec, rate=30)
        track.width, track.height, track.pix_fmt = frames[0].width, frames[0].height, pixel_format
        for name, value in settings.items():
            setattr(track.codec_context, name, value)
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base = number, Fraction(1, 30)
            file.mux(track.encode(frame))
        file.mux(track.encode())
    return buffer.getvalue()


@pytest.mark.parametrize("settings", ENCODED.split(","))
def test_crops_of_what_encoders_make_are_those_of_the_whole_picture(settings):
    """8 bits of 4:2:0 are cut before they are converted, so colors are half of their pixel off."""
    codec, pixel_format, container = settings.split()
    picture = av.VideoFrame.from_ndarray(colors(), format="rgb24")
    frames = [in_format(picture, pixel_format)] * 3
    content = encoded(codec, pixel_format, container, frames, bit_rate=50_000_000)
    with open_video(content, sound=False) as video:
        frame = next(video.frames())[1]
        levels = apart(frame, video.shown(frame)[0])
    assert levels <= (6 if frame.format.name in ("yuv420p", "yuvj420p") else 2)


def pq(nits):
    """The code 0..1 of a brightness: SMPTE ST 2084."""
    power = (nits / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def test_hdr_is_converted_to_what_it_shows(any_video):
    """A picture of BT.709 as PQ in BT.2020, where its white is at 203 cd/m2 (ITU-R BT.2408)."""
    to_2020 = [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
    coded = pq(203 * (colors() / 255) ** 2.4 @ np.array(to_2020).T)
    frame = av.VideoFrame.from_ndarray((coded * 65_535).astype(np.uint16), format="rgb48le")
    frame = in_format(frame, "yuv420p10le", dst_colorspace="BT2020", dst_color_range="MPEG")
    frame.colorspace, frame.color_range = 9, 1
    frame.color_trc, frame.color_primaries = ColorTrc.SMPTE2084, 9
    shown, notes = any_video.shown(frame)
    assert notes == ("converted from HDR (PQ) to BT.709",)
    assert np.abs(shown.to_ndarray().astype(int) - colors()).mean() < 6


def test_colors_that_nothing_can_show_are_refused_and_useless_tags_ignored(any_video):
    frame = in_format(av.VideoFrame.from_ndarray(colors(), format="rgb24"), "yuv420p")
    frame.color_trc = frame.color_primaries = 3  # reserved
    assert crop([any_video.shown(frame)[0]], BOX).shape == (1, 224, 224, 3)
    frame.colorspace = 8
    with pytest.raises(ClipError, match="the colors have matrix 8, expected one of"):
        any_video.shown(frame)


def light_left_upper(height=64, width=128):
    pictures = np.zeros((95, height, width, 3), np.uint8)
    pictures[:, : height // 2, : width // 2] = 255
    return pictures


def shown_and_notes(content):
    window = decode(content, sound=False)
    return window.frames[0].to_ndarray(format="rgb24").astype(int), window.notes


@pytest.mark.parametrize(("shape", "size"), [("64:45", (64, 182)), ("8:9", (72, 128))])
def test_pixels_that_are_not_square_are_made_so(shape, size):
    frames = [av.VideoFrame.from_ndarray(each, format="rgb24") for each in light_left_upper()]
    aspect = Fraction(*map(int, shape.split(":")))
    content = encoded("libx264", "yuv420p", "mp4", frames, sample_aspect_ratio=aspect)
    shown, notes = shown_and_notes(content)
    assert shown.shape == (*size, 3)
    assert notes == (f"pixels of {shape} made square",)


def boxes_above(content, *names):
    """Where these boxes of an mp4 begin, each the first of its name in the one before."""
    at, found = 0, []
    for name in names:
        while content[at + 4 : at + 8] != name:
            at += struct.unpack_from(">I", content, at)[0]
        found.append(at)
        at += 8 + {b"stsd": 8, b"avc1": 78}.get(name, 0)
    return found


def mp4_with_rectangle():
    """One that shows 91 of 128 and 33 of 64 pixels, whose middle is 10.5 to the left, 5.5 above."""
    content = bytearray(encode(light_left_upper(), tone(3.2)))
    above = boxes_above(content, b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1")
    for at in above:
        struct.pack_into(">I", content, at, struct.unpack_from(">I", content, at)[0] + 40)
    clap = struct.pack(">I4s8i", 40, b"clap", 91, 1, 33, 1, -21, 2, -11, 2)
    content[above[-1] + 86 : above[-1] + 86] = clap
    return bytes(content)


def matroska_with_rectangle():
    """The same: elements of the colors are overwritten by PixelCrop's."""
    frames = [av.VideoFrame.from_ndarray(each, format="rgb24") for each in light_left_upper()]
    tags = {"colorspace": 5, "color_range": 1, "color_primaries": 6, "color_trc": 6}
    content = encoded("libx264", "yuv420p", "matroska", frames, **tags)
    sides = zip((0xCC, 0xDD, 0xBB, 0xAA), (8, 29, 10, 21), strict=True)
    crops = b"".join(bytes([0x54, side, 0x81, pixels]) for side, pixels in sides)
    colors_element = b"\x55\xb0\x90"  # of 16 bytes
    before, after = content.split(colors_element)
    return before + crops + b"\xec\x81\x00" + after[16:]


@pytest.mark.parametrize("content", [mp4_with_rectangle, matroska_with_rectangle])
def test_a_picture_is_cut_to_the_rectangle_that_its_file_shows(content):
    shown, notes = shown_and_notes(content())
    assert notes == ("cut to the 91x33 pixels that the file shows",)
    expected = light_left_upper()[0, 10:43, 8:99]
    assert np.abs(shown - expected).mean() < 6


LAYOUTS = (
    "mono stereo 2.1 3.0 3.0(back) 4.0 quad quad(side) 3.1 5.0 5.0(side) 4.1 5.1 5.1(side) 6.0 "
)
LAYOUTS += (
    "6.0(front) hexagonal 6.1 6.1(back) 6.1(front) 7.0 7.0(front) 7.1 7.1(wide) octagonal downmix"
)


def recorded(container, codec, layout, *tracks, dispositions=(0, 0)):
    """A file of tracks of sound, each of float32 (channels, samples)."""
    buffer, kind = io.BytesIO(), {"pcm_f32le": "flt", "pcm_s16le": "s16"}[codec]
    with av.open(buffer, "w", format=container) as file:
        streams = [file.add_stream(codec, rate=RATE_HZ, layout=layout) for _ in tracks]
        for stream, disposition in zip(streams, dispositions, strict=False):
            stream.disposition = disposition
        for stream, sound in zip(streams, tracks, strict=True):
            packed = np.ascontiguousarray(sound.T).reshape(1, -1)
            packed = packed if kind == "flt" else (packed * 32_768).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(packed, format=kind, layout=layout)
            frame.sample_rate, frame.time_base, frame.pts = RATE_HZ, Fraction(1, RATE_HZ), 0
            file.mux([*stream.encode(frame), *stream.encode()])
    return buffer.getvalue()


def two_voices(*dispositions):
    """A Matroska file of two sound tracks, of 300 and 700 Hz; 1 is the default."""
    voices = [tone(3.2, channels=1, hertz=hertz) for hertz in (300, 700)]
    return recorded("matroska", "pcm_s16le", "mono", *voices, dispositions=dispositions)


@pytest.mark.parametrize("layout", LAYOUTS.split())
def test_every_channel_is_heard_at_its_own_level(layout):
    """As ITU-R BS.775 mixes them to two channels, and these to their mean; LFE is skipped."""
    channels = av.AudioLayout(layout).channels
    hertz = [300 + 100 * number for number in range(len(channels))]
    sound = np.concatenate([tone(3.2, channels=1, hertz=each) for each in hertz])
    window = decode(recorded("wav", "pcm_f32le", layout, sound), picture=False)
    power = np.abs(np.fft.rfft(window.waveform[: 2 * 44_100])) / 44_100 / 0.1
    levels = [power[2 * each] for each in hertz]
    known = {"FL": 0.5, "FR": 0.5, "FC": math.sqrt(0.5), "LFE": 0.0}
    expected = [known.get(each.name, math.sqrt(0.125)) for each in channels]
    if len(channels) < 3:
        expected = [1 / len(channels)] * len(channels)
    np.testing.assert_allclose(levels, expected, atol=0.01)
    note = f"{len(channels)} channels of sound ({layout}) are mixed"
    assert window.notes == (note,) * (len(channels) > 2)


def loudest_hertz(content):
    waveform = decode(content, picture=False).waveform
    return np.abs(np.fft.rfft(waveform[:44_100])).argmax()


@pytest.mark.parametrize(("dispositions", "hertz"), [((0, 1), 700), ((1, 0), 300), ((0, 0), 300)])
def test_the_default_sound_track_is_heard(dispositions, hertz):
    assert loudest_hertz(two_voices(*dispositions)) == hertz


def test_a_track_of_an_unknown_codec_matters_only_where_it_is_needed():
    """iPhones write such a track beside AAC. Here, it has the code of a codec that nothing has."""
    content = remuxed(two_voices(1, 1), "mov")
    assert loudest_hertz(content) == 300
    at = content.index(b"sowt", content.index(b"stsd"))
    one_unknown = content[:at] + b"apxc" + content[at + 4 :]
    assert loudest_hertz(one_unknown) == 700
    notes = decode(one_unknown, picture=False).notes
    assert notes == ("the default audio track has an unknown codec: another was used",)
    with pytest.raises(ClipError, match="the audio track has an unknown codec"):
        decode(content.replace(b"sowt", b"apxc"), picture=False)
    unheard = remuxed(encode(noise_pictures(95, 64, 64), tone(3.2)), "mov")
    assert len(decode(unheard.replace(b"mp4a", b"apxc"), sound=False).frames) == 30
