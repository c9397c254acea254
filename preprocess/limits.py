"""What a video or sound file may claim, and what reading it may take.

FFmpeg believes what a file declares: an mp4 of 600 bytes can claim three gigabytes.
"""

import math
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import av

# Limits of a clip.
MAX_BYTES = 256 * 2**20
MAX_DURATION_S = 60

# Limits of every file. Beyond them, a small hostile file could claim any amount of memory or time.
MAX_PIXELS = 4096 * 2304
MAX_ASPECT = 4
MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 384_000
MAX_GAP_S = 60
MAX_INDEX = 10**7  # entries, one per frame
MAX_MEMORY = 2**29  # bytes that a call of the decoder may add to those of the process
# Seconds for opening a file, and then for each second of it.
OPENING_S, WORK_S = 60, 30


class ClipError(ValueError):
    """A file cannot be used; the message is the reason."""


def check_size(width: int, height: int) -> None:
    """Raise ClipError for a picture of a size that no camera records."""
    if min(width, height) < 1:
        raise ClipError("the video has no size, or claims one that no decoder takes")
    if width * height > MAX_PIXELS or max(width, height) > MAX_ASPECT * min(width, height):
        raise ClipError(
            f"the video claims {width}x{height} pixels, expected at most {MAX_PIXELS}, and no side "
            f"longer than {MAX_ASPECT} times the other"
        )


class BoundedFile:
    """A file for the decoder, and limits on the memory and time of the decoder's calls."""

    def __init__(self, file: BinaryIO):
        self.seek, self.tell, self._read = file.seek, file.tell, file.read
        self.left_s = float(OPENING_S)
        self._began_s = self._measured_s = -math.inf
        self._most = resource.getrlimit(resource.RLIMIT_DATA)[0]

    def read(self, size: int) -> bytes:
        """Read on; if the time is up, the file ends here."""
        return b"" if time.monotonic() - self._began_s > self.left_s else self._read(size)

    @contextmanager
    def call(self, advice: str = "") -> Iterator[None]:
        """Limit a call of the decoder, and turn what it raises into a ClipError, with `advice`."""
        self._began_s = time.monotonic()
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        # Measured now and then, because it would take a tenth of the time of decoding.
        if sys.platform == "linux" and self._began_s - self._measured_s > 0.02:
            self._measured_s = self._began_s
            pages = int(Path("/proc/self/statm").read_bytes().split()[5])
            limits = pages * resource.getpagesize() + MAX_MEMORY, soft, hard
            self._most = min(limit for limit in limits if limit != resource.RLIM_INFINITY)
        resource.setrlimit(resource.RLIMIT_DATA, (self._most, hard))
        try:
            yield
        except (av.FFmpegError, MemoryError) as exc:
            reason = f"{getattr(exc, 'strerror', None) or exc}{advice}"
            if isinstance(exc, MemoryError):
                reason = f"it claims more than {MAX_MEMORY >> 20} MB of memory"
            raise ClipError(f"not a readable video or recording: {reason}") from exc
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
            self.left_s -= time.monotonic() - self._began_s
            if self.left_s < 0:
                raise ClipError("takes too long to read: the file is damaged or hostile")
