"""Disks that can lose their power: a file system of its own for each server.

    ext4 image on a loop device ─► shut down without flushing the log ─► mounted again

What was not synced is gone after that, as it is when a machine loses its power; what the file
system had promised is there. It needs root and loop devices; `missing` says what is not here. The
mounts are in a namespace of this process: whatever ends it, they are gone.
"""

import ctypes
import errno
import fcntl
import functools
import os
import shutil
import struct
import subprocess
from pathlib import Path

CLONE_NEWNS = 0x00020000
EXT4_SHUTDOWN = 0x8004587D
WITHOUT_FLUSH = 2
IMAGE_BYTES = 24 * 2**30  # sparse: a server asks how much room there is, and writes little
PROGRAM_S_MAX = 60
LIBC = ctypes.CDLL(None, use_errno=True)


def missing() -> str | None:
    """What this machine lacks for it; None if nothing."""
    if os.geteuid() != 0:
        return "needs root"
    if not Path("/dev/loop-control").exists():
        return "needs loop devices"
    if shutil.which("mkfs.ext4") is None:
        return "needs mkfs.ext4"
    return None


@functools.cache
def own_mounts() -> None:
    """Have a mount namespace of our own; what is mounted from here on nobody else sees.

    Once a process: it is the calling thread's, and that of threads which it starts later.

    Raises:
        OSError: It is refused.
    """
    if LIBC.unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "a mount namespace is refused")
    run("mount", "--make-rprivate", "/")


class Disk:
    """An ext4 file system in a file, mounted at `place`."""

    def __init__(self, image: Path, place: Path) -> None:
        self._image = image
        self.place = place

    def make(self) -> None:
        """Make the file system and mount it."""
        with self._image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        run("mkfs.ext4", "-q", "-E", "lazy_itable_init=1,lazy_journal_init=1", str(self._image))
        self.place.mkdir(mode=0o700, exist_ok=True)
        self.mount()
        self.place.chmod(0o700)

    def mount(self) -> None:
        """Mount it; the file system's own journal is replayed."""
        run("mount", "-o", "loop", str(self._image), str(self.place))

    def unmount(self) -> None:
        """Take it away; whoever used it must be gone."""
        run("umount", str(self.place))

    def lose_power(self) -> None:
        """From now on nothing reaches the disk, and what was not synced is lost."""
        opened = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(opened, EXT4_SHUTDOWN, struct.pack("I", WITHOUT_FLUSH))
        finally:
            os.close(opened)

    def fill(self) -> Path:
        """Use up all room that is left; deleting the file gives it back."""
        ballast = self.place / "ballast"
        status = os.statvfs(self.place)
        piece, end = status.f_bavail * status.f_frsize, 0
        with ballast.open("wb") as file:
            while piece >= status.f_frsize:
                try:
                    os.posix_fallocate(file.fileno(), end, piece)
                    end += piece
                except OSError as failed:
                    if failed.errno != errno.ENOSPC:
                        raise
                    piece //= 2
        return ballast


def run(*command: str) -> None:
    """Run a program of the system.

    Raises:
        OSError: It failed.
    """
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PROGRAM_S_MAX, check=False
    )
    if done.returncode != 0:
        raise OSError(done.returncode, f"{' '.join(command)}: {done.stderr.strip()}")
