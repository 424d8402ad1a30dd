"""Which statements the embedded ClickHouse runs: by table, without a server."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.embedded.clickhouse_errors import ServerError
from pipeline.embedded.clickhouse_gate import Shape, Statement, free_of_forbidden, judge


def _judge(text: str, *, may_write: bool = True, **parameters: str) -> Statement:
    return judge(text, may_write=may_write, parameters=parameters)


def _code(text: str, *, may_write: bool = True, **parameters: str) -> int:
    with pytest.raises(ServerError) as raised:
        _judge(text, may_write=may_write, **parameters)
    return raised.value.code


READS = [
    "SELECT 1",
    "select 'file', 'into outfile' as a, \"into\" from t -- into outfile 'x'",
    "SELECT name, value, readonly FROM system.settings LIMIT 10000",
    "WITH 1 AS x SELECT x",
    "(SELECT 1) UNION ALL (SELECT 2)",
    "FROM t SELECT *",
    "SELECT 1;",
    "/* url('x') */ SELECT 'kill query', \"parallel\" FROM t",
    "SELECT format('{}', x), url FROM t",
    "SELECT engine FROM system.tables WHERE engine = 'File'",
    "EXPLAIN SELECT 1",
    "SHOW TABLES",
    "DESCRIBE TABLE t",
    "EXISTS t",
    "SELECT 'a;b', 'it''s', 'it\\'s'; ; ",
    "SELECT {x:String}, {t:Identifier} FROM numbers(3)",
]

WRITES = [
    "INSERT INTO t VALUES (1)",
    "INSERT INTO t SELECT 1",
    "CREATE DATABASE x",
    "CREATE TABLE t (a UInt8) ENGINE = ReplacingMergeTree(v) ORDER BY a SETTINGS non_replicated_deduplication_window=9",
    "CREATE MATERIALIZED VIEW v TO t AS SELECT a, engine FROM u",
    "CREATE MATERIALIZED VIEW v REFRESH EVERY 1 MINUTE ENGINE MergeTree ORDER BY a AS SELECT a FROM u",
    "CREATE OR REPLACE VIEW v AS SELECT engine AS x FROM u FINAL",
    "ALTER TABLE t ADD COLUMN b String",
    "ALTER TABLE t DELETE WHERE a = 1",
    "OPTIMIZE TABLE t FINAL",
    "TRUNCATE TABLE t",
    "DROP TABLE t SYNC",
    "DELETE FROM t WHERE a = 1",
    "RENAME TABLE a TO b",
    "EXCHANGE TABLES a AND b",
]


@pytest.mark.parametrize("text", READS)
def test_reads_are_for_everybody(text: str) -> None:
    assert _judge(text, may_write=False).sql
    assert _judge(text).sql


@pytest.mark.parametrize("text", WRITES)
def test_writes_are_for_the_writer(text: str) -> None:
    assert _judge(text).sql
    assert _code(text, may_write=False) == 164


@pytest.mark.parametrize(
    "text",
    [
        *("SET max_threads = 1", "USE x", "SYSTEM FLUSH LOGS", "KILL QUERY WHERE 1", "GRANT ALL ON *.* TO default"),
        *(
            "ATTACH TABLE t FROM '/etc'",
            "DETACH TABLE t",
            "BACKUP TABLE t TO File('x')",
            "RESTORE TABLE t FROM File('x')",
        ),
        *("EXECUTE AS default SELECT 1", "BEGIN TRANSACTION", "WATCH v", "\\q", "@x", "42", "'SELECT 1'", "`SELECT` 1"),
    ],
)
def test_a_statement_that_is_not_on_the_list_is_refused(text: str) -> None:
    assert _code(text) in (48, 62)


FORBIDDEN = [
    "SELECT file('/etc/passwd')",
    "SELECT FiLe ('/etc/passwd')",
    "SELECT file/* */\n('/etc/passwd')",
    "SELECT file -- x\n('/etc/passwd')",
    "SELECT `file`('/etc/passwd')",
    "SELECT \"file\"('/etc/passwd')",
    "SELECT * APPLY file FROM (SELECT '/etc/passwd')",
    "SELECT * APPLY(`file`) FROM (SELECT '/etc/passwd')",
    "SELECT arrayMap(file, ['/etc/passwd'])",
    "WITH (SELECT file('/etc/passwd')) AS x SELECT x",
    "SELECT (SELECT (SELECT file('/etc/passwd')))",
    "EXPLAIN SELECT file('/etc/passwd')",
    "DESCRIBE TABLE file('/etc/passwd', LineAsString)",
    "SELECT * FROM eval('SELECT 1')",
    "SELECT * FROM Python(x)",
    "SELECT * FROM url('http://127.0.0.1/')",
    "SELECT * FROM /* x */ URL /* y */ ('http://127.0.0.1/')",
    "SELECT * FROM `remote`('127.0.0.1', 'a.b')",
    "SELECT * FROM s3Cluster('c', 'http://127.0.0.1/')",
    "SELECT * FROM icebergLocal('/')",
    "SELECT * FROM mysql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
    "SELECT * FROM postgresql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
    "SELECT * FROM executable('id', 'TSV', 'a String')",
    "SELECT * FROM view(SELECT * FROM s3('x'))",
    "SELECT aiGenerate('x')",
    "SELECT 1 INTO OUTFILE '/tmp/x'",
    "SELECT 1 INTO/**/OUTFILE '/tmp/x'",
    "select 1 into outfile '/tmp/x' format CSV",
    "INSERT INTO t FROM INFILE '/etc/passwd' FORMAT LineAsString",
    "INSERT INTO t\nFROM\nINFILE '/etc/passwd'",
    "INSERT INTO FUNCTION file('/tmp/x', CSV) SELECT 1",
    "INSERT INTO TABLE FUNCTION null('x Int8') SELECT 1",
    "INSERT INTO t SELECT file('/etc/passwd')",
    "CREATE VIEW v AS SELECT file('/etc/passwd')",
    "CREATE TABLE t (a String) ENGINE = File(CSV)",
    "CREATE TABLE t (a String) ENGINE File(CSV)",
    "CREATE TABLE t (a String) ENGINE /**/ = /**/ `Executable`('id', 'TSV')",
    "CREATE TABLE t (a String) ENGINE = URL('http://127.0.0.1/', CSV)",
    "CREATE TABLE t (a String) ENGINE = EmbeddedRocksDB(0, '/tmp/x') PRIMARY KEY a",
    "CREATE DATABASE d ENGINE = Filesystem('/')",
    "CREATE TABLE t (a String) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = web, endpoint = 'http://h/')",
    "CREATE TABLE t (a String) ENGINE = MergeTree ORDER BY a SETTINGS `disk` = 'x'",
    "CREATE TABLE t (a String) SETTINGS default_table_engine = 'Executable'",
    "CREATE TEMPORARY TABLE t (a UInt8)",
    "CREATE OR REPLACE TEMPORARY TABLE t (a UInt8)",
    "CREATE FUNCTION f AS x -> x",
    "CREATE DICTIONARY d (a UInt8) PRIMARY KEY a SOURCE(NULL()) LAYOUT(FLAT())",
    "CREATE TABLE t (a UInt8) ENGINE = Memory PARALLEL WITH KILL QUERY WHERE 1",
    "ALTER TABLE t MODIFY SETTING disk = 'x'",
    "SELECT 1 SETTINGS format_schema = '/etc/passwd:x'",
]


@pytest.mark.parametrize("text", FORBIDDEN)
def test_what_reaches_out_is_refused_however_it_is_written(text: str) -> None:
    assert _code(text) == 497


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("SELECT $x$ into outfile $x$", "character '$'"),
        ("SELECT $$a$$", "character '$'"),
        ("SELECT ‘a’".encode().decode("latin-1"), "must be in quotes"),
        ("SELECT\u00a01".encode().decode("latin-1"), "must be in quotes"),
        ("SELECT /* a /* b */ 1", "comment within a comment"),
        ("SELECT 1 # comment", "character '#'"),
        ("SELECT 1 /* open", "not closed"),
        ("SELECT 'open", "not closed"),
        ("SELECT 'open\\'", "not closed"),
        ("SELECT `f\\x69le`('x')", "backslash in the identifier"),
        ("SELECT 1 \x00", "must be in quotes"),
        ("SELECT 1; SELECT 2", "Multi-statements"),
        ("SELECT 1; INSERT INTO t VALUES (1)", "Multi-statements"),
        ("", "Empty query"),
        (" ;; -- nothing", "Empty query"),
    ],
)
def test_a_text_that_clickhouse_may_read_otherwise_is_a_syntax_error(text: str, why: str) -> None:
    with pytest.raises(ServerError, match="SYNTAX_ERROR") as raised:
        _judge(text)
    assert why in raised.value.text


@pytest.mark.parametrize("value", ["file", "FILE", " url "])
def test_an_identifier_given_as_a_parameter_is_looked_at_and_a_string_is_not(value: str) -> None:
    assert _code("SELECT arrayMap({ f : Identifier }, ['/etc/passwd'])", f=value) == 497
    assert _code("INSERT INTO {f:Identifier} FORMAT CSV", f=value) == 497
    assert _judge("SELECT {f:String}", f=value)


def test_an_insert_is_cut_where_its_rows_begin() -> None:
    text = "INSERT INTO `t` (`a`, `b`) SETTINGS x = 1 FORMAT Native \n\x01\xff;'not sql"
    statement = _judge(text)
    assert (statement.shape, statement.sql, statement.format) == (
        Shape.INSERT,
        "INSERT INTO `t` (`a`, `b`) SETTINGS x = 1 ",
        "Native",
    )
    assert text[statement.data_at :] == "\x01\xff;'not sql"


def test_only_one_line_end_after_the_format_is_not_data() -> None:
    text = "insert into t format TSV\n\n"
    assert text[_judge(text).data_at :] == "\n"


def test_values_are_a_format_too() -> None:
    text = "INSERT INTO t (a) VALUES (1), (2)"
    statement = _judge(text)
    assert (statement.sql, statement.format, text[statement.data_at :]) == ("INSERT INTO t (a) ", "Values", " (1), (2)")
    assert _judge("INSERT INTO t FORMAT vaLues (1)").format == "Values"


def test_a_column_called_format_or_values_does_not_end_the_head() -> None:
    assert _judge("INSERT INTO t (format, values) FORMAT CSV\n1,2").sql == "INSERT INTO t (format, values) "


@pytest.mark.parametrize(
    "values", ["(file('/etc/passwd'))", "(`file`('x'))", "(1), ((SELECT * FROM url('x')))", "('open"]
)
def test_values_with_forbidden_names_are_not_evaluated(values: str) -> None:
    assert not free_of_forbidden(values)


def test_plain_values_may_be_evaluated() -> None:
    assert free_of_forbidden("(1, now(), 'file'), (2, toDate('2026-01-01'), NULL)")


@pytest.mark.parametrize(
    ("text", "form", "sql"),
    [
        ("SELECT 1\n FORMAT Native", "Native", "SELECT 1\n "),
        ("SELECT 1 format JSON settings max_threads = 1;", "JSON", "SELECT 1  settings max_threads = 1"),
        ("SELECT format FROM t", None, "SELECT format FROM t"),
        ("SELECT 1 AS format", None, "SELECT 1 AS format"),
        ("SELECT format('{}', 1) FORMAT TSV -- end", "TSV", "SELECT format('{}', 1) "),
    ],
)
def test_the_format_clause_is_told_from_other_uses_of_the_word(text: str, form: str | None, sql: str) -> None:
    statement = _judge(text)
    assert (statement.shape, statement.format, statement.sql) == (Shape.ROWS, form, sql)


@given(st.text(alphabet=st.characters(max_codepoint=255)))
def test_any_text_is_judged_or_refused_and_nothing_else(text: str) -> None:
    with suppress(ServerError):
        assert _judge(text).sql


@given(st.text(alphabet=st.characters(max_codepoint=255)) | st.sampled_from([*";(){}:=", "settings", "values"]))
def test_a_literal_never_changes_the_verdict(content: str) -> None:
    literal = "'" + content.replace("\\", "\\\\").replace("'", "\\'") + "'"
    assert _judge(f"SELECT {literal}").sql == f"SELECT {literal}"
    assert _code(f"SELECT {literal}, file({literal})") == 497
