"""The exception tree of Zugvogel.

::

    ZugvogelError              one plain cause and the next step; exit code 1
    ├── Refused                a rule forbids it; nothing was touched
    │   ├── InvalidInput       what the user wrote cannot be meant; exit code 2, HTTP 422
    │   ├── NotFound           no such host, vm, datastore, network or task; HTTP 404
    │   ├── AlreadyExists      the name is taken; HTTP 409
    │   ├── Forbidden          the token's role does not allow it, or there is no token; HTTP 403
    │   │   └── SessionEnded   the user's session is over: log in again
    │   └── TooManyRequests    too many failed tries; carries when to try again; HTTP 429
    ├── Conflict               somebody else changed it first; read again and retry; HTTP 409
    │   └── LeaseTaken         another claim won this epoch (carries the winner, when it could be read)
    ├── Unreachable            a peer, etcd or QEMU did not answer: says *nothing* about whether the
    │                          request was carried out; HTTP 503
    │   └── DeadlineExceeded   no answer in time; the same holds
    ├── StorageError           the datastore answered with an error (full, read-only, gone); HTTP 507
    └── ProcedureFailed        long work ended without its goal; the text says what state it left; HTTP 500
        └── ImageLocked        another process holds the lock of a vm's disk; nothing of the vm ran

``Unreachable`` is the one that must never be read as "it did not happen".
"""

from __future__ import annotations


class ZugvogelError(Exception):
    """One plain cause (`cause`) and what to do about it (`next_step`, may be empty)."""

    code = "failed"
    http_status = 500
    exit_code = 1

    def __init__(self, cause: str, next_step: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.cause}; {self.next_step}" if self.next_step else self.cause


class Refused(ZugvogelError):
    code = "refused"
    http_status = 409


class InvalidInput(Refused):
    code = "invalid-input"
    http_status = 422
    exit_code = 2


class NotFound(Refused):
    code = "not-found"
    http_status = 404


class AlreadyExists(Refused):
    code = "already-exists"
    http_status = 409


class Forbidden(Refused):
    code = "forbidden"
    http_status = 403


class SessionEnded(Forbidden):
    """By its time, by logging out, or by a change of its user."""

    code = "session-ended"


class TooManyRequests(Refused):
    """`retry_after_s`: whole seconds after which it makes sense again."""

    code = "too-many-requests"
    http_status = 429

    def __init__(self, cause: str, next_step: str = "", *, retry_after_s: int = 60) -> None:
        super().__init__(cause, next_step)
        self.retry_after_s = retry_after_s


class Conflict(ZugvogelError):
    code = "conflict"
    http_status = 409


class LeaseTaken(Conflict):
    """Another claim won `epoch`. The holder may be anybody; read the lease again before deciding."""

    code = "lease-taken"

    def __init__(self, cause: str, next_step: str = "", *, epoch: int = 0) -> None:
        super().__init__(cause, next_step)
        self.epoch = epoch


class Unreachable(ZugvogelError):
    code = "unreachable"
    http_status = 503


class DeadlineExceeded(Unreachable):
    code = "deadline-exceeded"
    http_status = 504


class StorageError(ZugvogelError):
    code = "storage-error"
    http_status = 507


class ProcedureFailed(ZugvogelError):
    code = "procedure-failed"
    http_status = 500


class ImageLocked(ProcedureFailed):
    code = "image-locked"


def _tree(cls: type[ZugvogelError]) -> dict[str, type[ZugvogelError]]:
    found = {cls.code: cls}
    for sub in cls.__subclasses__():
        found |= _tree(sub)
    return found


def from_code(code: str, cause: str, next_step: str) -> ZugvogelError:
    """The error a peer sent over the wire, as its own class again; unknown codes stay general."""
    return _tree(ZugvogelError).get(code, ZugvogelError)(cause, next_step)
