"""Locks on open files, which the operating system takes back when their process ends."""

import os
import sys

if sys.platform == "win32":
    import msvcrt

    _AWAY = 1 << 30
    """Where the locked byte is; Windows lets nobody read what is locked."""

    def lock_exclusively(descriptor: int) -> bool:
        """Lock an open file for this process alone; False where another holds it."""
        os.lseek(descriptor, _AWAY, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

    def lock_shared(descriptor: int) -> None:
        """Let go of the file: Windows has no shared lock here."""
        os.lseek(descriptor, _AWAY, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        except OSError:
            return
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import errno
    import fcntl

    _HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)

    def lock_exclusively(descriptor: int) -> bool:
        """Lock an open file for this process alone; False where another holds it.

        A file system without locks locks nothing, and nobody is refused there.
        """
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in _HELD
        return True

    def lock_shared(descriptor: int) -> None:
        """Lock an open file together with others who do; waits for one who has it alone."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        except OSError:  # A file system without locks.
            return
