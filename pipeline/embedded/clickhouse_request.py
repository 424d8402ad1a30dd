"""What an HTTP request asks of ClickHouse: its parameters sorted, its user known, its settings allowed.

Pure. Follows ClickHouse's HTTP interface: every URL parameter that is not one of the protocol's own is a setting;
`param_NAME` fills `{NAME:Type}`; user and password come as basic authentication, as X-ClickHouse-User and -Key, or as
URL parameters.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.embedded import clickhouse_config
from pipeline.embedded.clickhouse_engine import Access
from pipeline.embedded.clickhouse_errors import ServerError
from pipeline.embedded.clickhouse_names import FORBIDDEN_SETTINGS

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_QUERY_ID = re.compile(r"[\x21-\x7e]{1,128}")

# Of the protocol, and settings that only ClickHouse's own HTTP server reads: it is us here.
_TAKEN_BY_US = frozenset(
    {
        *("query", "database", "user", "password", "default_format", "query_id", "wait_end_of_query"),
        *("session_id", "session_timeout", "session_check", "close_session"),
        *("send_progress_in_http_headers", "http_headers_progress_interval_ms", "enable_http_compression"),
        *("http_zlib_compression_level", "cancel_http_readonly_queries_on_client_close", "buffer_size"),
        # Without it the Native format is that of protocol version 0, which every client reads.
        *("client_protocol_version", "quota_key"),
    }
)
_NOT_OFFERED = frozenset({"compress", "decompress", "role", "stacktrace"})

# What a reader may set: nothing of it costs more than the caps allow, or opens anything.
_READER_MAY_SET = re.compile(
    r"output_format_[a-z0-9_]+|date_time_(in|out)put_format|session_timezone|use_client_time_zone|join_use_nulls"
    r"|max_threads|max_block_size|extremes|final|format_csv_delimiter|cast_string_to_dynamic_use_inference"
)


@dataclass(frozen=True, slots=True)
class Login:
    """The two users of this server."""

    user: str
    password: str
    reader: str
    reader_password: str

    def access(self, user: str, password: str, *, get: bool) -> Access:
        """Raises ServerError when there is no such user with that password."""
        writer = _same(user, self.user) and _same(password, self.password)
        reader = _same(user, self.reader) and _same(password, self.reader_password)
        if reader:
            return Access.READER
        if not writer:
            raise ServerError.authentication()
        return Access.READ if get else Access.WRITE


@dataclass(frozen=True, slots=True)
class Request:
    access: Access
    query: str
    database: str
    settings: Mapping[str, str]
    parameters: Mapping[str, str]
    default_format: str
    query_id: str
    compress: bool
    wait_end: bool


def credentials(headers: Mapping[str, str], url: Mapping[str, str]) -> tuple[str, str]:
    """User and password, as ClickHouse looks for them: its own headers, basic authentication, the URL."""
    if "X-ClickHouse-User" in headers or "X-ClickHouse-Key" in headers:
        return headers.get("X-ClickHouse-User", "default"), headers.get("X-ClickHouse-Key", "")
    scheme, _, text = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(text.strip(), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise ServerError.authentication() from None
        return user, password
    return url.get("user", "default"), url.get("password", "")


def read(access: Access, headers: Mapping[str, str], pairs: Iterable[tuple[str, str]]) -> Request:
    """Sort the parameters (of the URL, and of a form). Raises ServerError for one that is not allowed."""
    given: dict[str, str] = {}
    parameters: dict[str, str] = {}
    settings: dict[str, str] = {}
    for name, value in pairs:
        if name in _NOT_OFFERED:
            if value not in ("", "0", "false"):
                raise ServerError.refused(f"requests with {name}={value}")
        elif name in _TAKEN_BY_US:
            given[name] = value
        elif name.startswith("param_"):
            parameters[name.removeprefix("param_")] = value
        else:
            _check_setting(access, name, value)
            settings[name] = value
    query_id = given.get("query_id", "")
    return Request(
        access=access,
        query=given.get("query", ""),
        database=given.get("database") or headers.get("X-ClickHouse-Database", ""),
        settings=settings,
        parameters=parameters,
        default_format=given.get("default_format") or headers.get("X-ClickHouse-Format", ""),
        # It comes back as a header, so it must not hold a line end.
        query_id=query_id if _QUERY_ID.fullmatch(query_id) else str(uuid.uuid4()),
        compress=given.get("enable_http_compression", "1") not in ("0", "false"),
        wait_end=given.get("wait_end_of_query", "0") in ("1", "true"),
    )


def _check_setting(access: Access, name: str, value: str) -> None:
    if not _NAME.fullmatch(name) or name in FORBIDDEN_SETTINGS:
        raise ServerError.denied(f"the setting '{name[:128]}'")
    if access is not Access.READER or _READER_MAY_SET.fullmatch(name):
        return
    cap = clickhouse_config.READER.settings().get(name)
    if cap is None:
        raise ServerError.of(164, f"Cannot modify '{name}' setting in readonly mode", "READONLY")
    if not value.isascii() or not value.isdigit() or not 0 < int(value) <= int(cap):
        message = f"Setting {name} shouldn't be greater than {cap}"
        raise ServerError.of(452, message, "SETTING_CONSTRAINT_VIOLATION")


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
