"""The configuration files that chdb starts ClickHouse with: what it may use, and what it may do.

chdb honours a server's `config-file` and users file (tried with chdb 4.4, ClickHouse 26.9): memory and caches, profiles
with constraints, grants. It ignores `access_control_improvements`, so there is one ClickHouse user for all, whose
grants are the writer's; what makes a request the reader's is its session (clickhouse_engine.py). Passwords are not
here: HTTP clients are told apart before chdb is asked (clickhouse_http.py).

Sized for two cores beside a broker and a dozen Python processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

_MIB = 1024 * 1024

SERVER_MEMORY = 1_200 * _MIB
WRITER_MEMORY = 600 * _MIB
_SPILLED = 2_048 * _MIB  # bytes on disk for one query's sorting and grouping


@dataclass(frozen=True, slots=True)
class Caps:
    """What one request may use. Times in seconds, memory and results in bytes."""

    memory: int
    seconds: int
    rows_read: int
    rows: int
    result: int

    def settings(self) -> dict[str, str]:
        return {
            "max_memory_usage": str(self.memory),
            "max_execution_time": str(self.seconds),
            "max_rows_to_read": str(self.rows_read),
            "max_result_rows": str(self.rows),
            "max_result_bytes": str(self.result),
        }


READER = Caps(memory=384 * _MIB, seconds=30, rows_read=200_000_000, rows=1_000_000, result=256 * _MIB)
WRITER = Caps(memory=WRITER_MEMORY, seconds=300, rows_read=2_000_000_000, rows=20_000_000, result=2_048 * _MIB)

_SERVER = {
    # chdb writes no log of its own: what matters comes back as the error of a request.
    "logger": "<level>none</level>",
    "max_server_memory_usage": SERVER_MEMORY,
    "mark_cache_size": 32 * _MIB,
    "primary_index_cache_size": 32 * _MIB,
    "index_mark_cache_size": 8 * _MIB,
    "query_condition_cache_size": 8 * _MIB,
    "compiled_expression_cache_size": 8 * _MIB,
    "mmap_cache_size": 16,
    "max_thread_pool_size": 256,
    "max_io_thread_pool_size": 16,
    "background_pool_size": 2,
    "disable_internal_dns_cache": 1,
}

_PROFILE = {
    "max_threads": 2,
    "max_insert_threads": 1,
    # One insert is one block with one token: parts are written, or refused as repeated, before the answer.
    "async_insert": 0,
    "log_queries": 0,
    "allow_introspection_functions": 0,
    "max_temporary_data_on_disk_size_for_query": _SPILLED,
    **WRITER.settings(),
}

_GRANTS = (
    "GRANT SHOW, SELECT, INSERT, ALTER TABLE, ALTER VIEW, CREATE DATABASE, CREATE TABLE, CREATE VIEW, "
    "DROP, TRUNCATE, OPTIMIZE, CHECK ON *.*"
)


def write(folder: Path) -> Path:
    """Write the configuration into `folder`; returns the file to hand to chdb."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    users = folder / "users.xml"
    users.write_text(_users())
    server = folder / "server.xml"
    entries = "".join(f"<{name}>{value}</{name}>" for name, value in _SERVER.items())
    places = f"<users_config>{escape(str(users.absolute()))}</users_config>"
    server.write_text(f"<clickhouse>{entries}{places}</clickhouse>\n")
    return server


def _users() -> str:
    profile = "".join(f"<{name}>{value}</{name}>" for name, value in _PROFILE.items())
    # A maximum alone would let 0 pass, which means no limit.
    limits = "".join(f"<{name}><min>1</min><max>{value}</max></{name}>" for name, value in WRITER.settings().items())
    return (
        "<clickhouse>"
        f"<profiles><default>{profile}<constraints>{limits}</constraints></default></profiles>"
        "<users><default><password/><networks><ip>127.0.0.1</ip></networks>"
        f"<profile>default</profile><quota>default</quota><grants><query>{_GRANTS}</query></grants></default></users>"
        "<quotas><default/></quotas>"
        "</clickhouse>\n"
    )
