"""Every error that is raised on purpose, as one tree whose branches say who has to act."""


class TachographError(Exception):
    """Base of the tree: `what` says where, what came and what was expected; `hint` is one line to try.

    `exit_code` is what a command ends with when nobody catches the error.
    """

    exit_code = 3

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


class ConfigError(TachographError):
    """The operator has to act: a setting, a flag or a path is wrong."""

    exit_code = 2


class Rejected(TachographError):
    """The sender has to act and must not send the same again (HTTP 400, or `status` where another fits)."""

    exit_code = 2

    def __init__(self, what: str, hint: str = "", status: int = 400) -> None:
        super().__init__(what, hint)
        self.status = status


class Busy(TachographError):
    """The sender may send the same again after `retry_after_s` seconds (HTTP 503 with Retry-After).

    `status` is what a destination answered, 0 where it did not answer.
    """

    def __init__(self, what: str, hint: str = "", retry_after_s: int = 1, status: int = 0) -> None:
        super().__init__(what, hint)
        self.retry_after_s = retry_after_s
        self.status = status


class QueryError(TachographError):
    """The asker has to act: the question is wrong at `position` (characters from 0; None where unknown)."""

    exit_code = 2

    def __init__(self, what: str, hint: str = "", position: int | None = None) -> None:
        super().__init__(what, hint)
        self.position = position


class Corrupt(TachographError):
    """The operator has to act: a file is not what it should be; it is set aside, never deleted."""

    exit_code = 3
