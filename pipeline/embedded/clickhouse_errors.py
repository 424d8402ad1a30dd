"""ClickHouse's errors: number, name, text, and the HTTP status under which its server sends them."""

from __future__ import annotations

import re

_TEXT = re.compile(r"Code: (\d+)\. DB::Exception: (.*)", re.DOTALL)
_VERSION = re.compile(r"\s*\(version [^()]*(\([^()]*\))?\)\.?\s*$")
_OWN_WORDS = re.compile(r"^Streaming (query|insert (append|finish)) failed: ")

SYNTAX_ERROR = 62
READONLY = 164
TIMEOUT_EXCEEDED = 159
TOO_MANY_SIMULTANEOUS_QUERIES = 202
QUERY_IS_TOO_LARGE = 223
ACCESS_DENIED = 497
AUTHENTICATION_FAILED = 516

_STATUS = {
    # What the request says is wrong.
    **dict.fromkeys((6, 26, 27, 28, 33, 36, 38, 41, 43, 44, 53, 62, 72, 117, 130, 131, 321, 427, 441, 456, 457), 400),
    AUTHENTICATION_FAILED: 403,
    # What it names is not there.
    **dict.fromkeys((16, 46, 47, 50, 56, 60, 63, 73, 81, 82, 115, 141, 192), 404),
    TIMEOUT_EXCEEDED: 408,
    QUERY_IS_TOO_LARGE: 413,
    48: 501,  # NOT_IMPLEMENTED
    TOO_MANY_SIMULTANEOUS_QUERIES: 503,  # a status that clickhouse-connect tries again after
}


class ServerError(Exception):
    """An error as ClickHouse states it: `text` begins `Code: N. DB::Exception: ` and ends with its name."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text

    @property
    def status(self) -> int:
        return _STATUS.get(self.code, 500)

    @classmethod
    def of(cls, code: int, message: str, name: str) -> ServerError:
        return cls(code, f"Code: {code}. DB::Exception: {message}. ({name})")

    @classmethod
    def syntax(cls, message: str) -> ServerError:
        return cls.of(SYNTAX_ERROR, message, "SYNTAX_ERROR")

    @classmethod
    def refused(cls, what: str) -> ServerError:
        return cls.of(48, f"The embedded ClickHouse does not run {what}", "NOT_IMPLEMENTED")

    @classmethod
    def denied(cls, what: str) -> ServerError:
        return cls.of(ACCESS_DENIED, f"Not allowed in the embedded ClickHouse: {what}", "ACCESS_DENIED")

    @classmethod
    def readonly(cls) -> ServerError:
        return cls.of(READONLY, "Cannot execute query in readonly mode", "READONLY")

    @classmethod
    def authentication(cls) -> ServerError:
        message = "Authentication failed: password is incorrect, or there is no user with such name"
        return cls.of(AUTHENTICATION_FAILED, message, "AUTHENTICATION_FAILED")

    @classmethod
    def too_busy(cls) -> ServerError:
        return cls.of(TOO_MANY_SIMULTANEOUS_QUERIES, "Too many simultaneous queries", "TOO_MANY_SIMULTANEOUS_QUERIES")

    @classmethod
    def too_large(cls, what: str) -> ServerError:
        return cls.of(QUERY_IS_TOO_LARGE, f"Too large: {what}", "QUERY_IS_TOO_LARGE")

    @classmethod
    def from_chdb(cls, raised: Exception) -> ServerError:
        """Map what chdb raises (RuntimeError or ChdbError with ClickHouse's text, or any other)."""
        message = _VERSION.sub("", _OWN_WORDS.sub("", str(raised)))
        found = _TEXT.search(message)
        if found is None:
            return cls.of(1002, message or type(raised).__name__, "UNKNOWN_EXCEPTION")
        return cls(int(found[1]), message)
