"""What ClickHouse itself refuses, with the gate out of the way; and that the gate knows what this chdb can do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.embedded.clickhouse_names import (
    ENGINES,
    FORBIDDEN_CALLS,
    FORBIDDEN_NAMES,
    HARMLESS_TABLE_FUNCTIONS,
)

pytestmark = pytest.mark.stack

# 497 ACCESS_DENIED, 164 READONLY. Where an argument is looked at before the grant, it has to be a good one.
# executable() is not here: chdb has no grant for it, only a folder of scripts; it is the gate's to refuse.
GRANTS = [
    "SELECT * FROM file('/etc/passwd', LineAsString)",
    "SELECT * FROM `/etc/passwd`",
    "SELECT * FROM url('http://127.0.0.1:1/x', LineAsString)",
    "SELECT * FROM s3('http://127.0.0.1:9/bucket/x', LineAsString)",
    "SELECT * FROM gcs('http://127.0.0.1:9/bucket/x', LineAsString)",
    "SELECT * FROM hdfs('hdfs://127.0.0.1:9/x', 'TSV', 'a Int8')",
    "SELECT * FROM iceberg('http://127.0.0.1:9/bucket/x')",
    "SELECT * FROM icebergLocal('/tmp')",
    "SELECT * FROM remote('127.0.0.1', 'a.b')",
    "SELECT * FROM mysql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
    "SELECT * FROM postgresql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
    "SELECT * FROM sqlite('/tmp/x.db', 't')",
    "SELECT * FROM mongodb('127.0.0.1:1', 'k', 'a', 'b', 'c', 'a Int8')",
    "SELECT * FROM redis('127.0.0.1:9', 'a', 'a Int8')",
    "SELECT * FROM filesystem('/')",
    "CREATE TABLE g.f (a String) ENGINE = File(CSV)",
    "CREATE TABLE g.f (a String) ENGINE = URL('http://127.0.0.1:9/', CSV)",
    "CREATE DATABASE f ENGINE = Filesystem('/')",
    "INSERT INTO FUNCTION file('/tmp/never', CSV) SELECT 1",
    "CREATE USER u",
    "GRANT ALL ON *.* TO default",
    "CREATE FUNCTION f AS x -> x",
    "CREATE NAMED COLLECTION n AS a = 1",
    "CREATE DICTIONARY g.d (a UInt64) PRIMARY KEY a SOURCE(NULL()) LAYOUT(FLAT()) LIFETIME(0)",
    "BACKUP TABLE g.t TO File('/tmp/never')",
    "SYSTEM FLUSH LOGS",
    "SELECT * FROM system.users",
]

READONLY = [
    *("SET readonly = 0", "SET max_memory_usage = 1", "SET profile = 'default'", "SELECT 1 SETTINGS readonly = 0"),
    *("SELECT 1 SETTINGS max_memory_usage = 0", "SELECT 1 SETTINGS profile = 'default'", "INSERT INTO g.t SELECT 1"),
    *("CREATE TABLE g.u (a UInt8) ENGINE = Memory", "DROP TABLE g.t", "ALTER TABLE g.t DELETE WHERE 1"),
    *("TRUNCATE TABLE g.t", "OPTIMIZE TABLE g.t", "CREATE TEMPORARY TABLE u (a UInt8)"),
]

CAPS = [
    ("SELECT * FROM numbers(2000000)", 396),
    ("SELECT sum(number) FROM numbers(300000000)", 158),
    ("SELECT groupArray(number) FROM numbers(100000000)", 241),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("probe") / "with space"


def _probe(folder: Path, statements: list[tuple[str, str]]) -> list[int | str]:
    command = [sys.executable, "-m", "tests.embedded.clickhouse_probe", str(folder)]
    done = subprocess.run(
        command, input=json.dumps(statements), capture_output=True, text=True, timeout=120, check=True
    )
    answers: list[int | str] = json.loads(done.stdout)
    return answers


def test_each_fence_holds_without_the_gate(folder: Path) -> None:
    start = [
        ("write", "CREATE DATABASE IF NOT EXISTS g"),
        ("write", "CREATE TABLE IF NOT EXISTS g.t (a UInt8) ENGINE = MergeTree ORDER BY a"),
    ]
    asked = [*start, *(("write", sql) for sql in GRANTS), *(("reader", sql) for sql in READONLY + GRANTS)]
    asked += [("reader", sql) for sql, _ in CAPS] + [("read", "INSERT INTO g.t SELECT 1"), ("read", "SET readonly = 0")]
    answers = _probe(folder, asked)
    assert answers[:2] == [0, 0]
    assert answers[-2:] == [164, 164]
    told = list(zip(asked, answers, strict=True))[2:-2]
    assert [(sql, code) for (access, sql), code in told if access == "write" and code != 497] == []
    readers = told[len(GRANTS) :]
    assert [(sql, code) for (_, sql), code in readers[: len(READONLY)] if code != 164] == []
    assert [(sql, code) for (_, sql), code in readers[len(READONLY) : -len(CAPS)] if code not in (164, 497)] == []
    assert [code for _, code in readers[-len(CAPS) :]] == [code for _, code in CAPS]


def test_the_writer_cannot_raise_its_caps_either(folder: Path) -> None:
    asked = [("write", f"SET max_memory_usage = {value}") for value in (0, 10**12, 1_000_000)]
    assert _probe(folder, asked) == [452, 452, 0]


def test_every_table_function_of_this_chdb_is_known_to_the_gate(folder: Path) -> None:
    (names,) = _probe(
        folder, [("read", "SELECT arrayStringConcat(groupArray(lower(name)), ' ') FROM system.table_functions")]
    )
    known = FORBIDDEN_CALLS | FORBIDDEN_NAMES | HARMLESS_TABLE_FUNCTIONS
    assert set(str(names).split()) - known == set()


def test_every_engine_that_the_gate_lets_through_exists(folder: Path) -> None:
    query = "SELECT arrayStringConcat(groupArray(lower(name)), ' ') FROM (SELECT name FROM system.table_engines"
    (names,) = _probe(folder, [("read", f"{query} UNION ALL SELECT name FROM system.database_engines)")])
    assert ENGINES - set(str(names).split()) == set()


def test_a_second_process_is_told_that_the_folder_is_taken(folder: Path) -> None:
    holder = (
        "import sys, pathlib; from pipeline.embedded.clickhouse_engine import Engine;"
        "engine = Engine(pathlib.Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "open\n"
        second = subprocess.run(
            [sys.executable, "-m", "pipeline.embedded.clickhouse", "--data", str(folder), "--port", "1"],
            env={"MAILRIVER_CLICKHOUSE__PASSWORD": "a", "MAILRIVER_CLICKHOUSE__READER_PASSWORD": "b"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert second.returncode == 1
        assert "cannot open" in second.stderr
        first.communicate()
