"""Every command's output and refusals: sentences that say what, where and what to do."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from pipeline import checkin
from pipeline.cli import COMMANDS, app_for, operate
from pipeline.embedded.ports import free_ports
from pipeline.roles import ROLES
from schemas.attachments import AttachmentRequested
from schemas.claims import Claim
from tests.cli.conftest import Cli
from topics.claims import FolderClaims
from topics.registry import TOPICS


def test_the_help_names_every_command(cli: Cli) -> None:
    shown = cli("--help")
    assert shown.status == 0
    assert all(f" {name} " in shown.out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_found_in_its_own_file(cli: Cli, name: str) -> None:
    app = app_for([name])
    assert len(app.registered_commands) + len(app.registered_groups) < len(COMMANDS)
    assert cli(name, "--help").status == 0


def test_a_misspelt_command_is_corrected(cli: Cli) -> None:
    shown = cli("dmo")
    assert shown.status == 2
    assert "Did you mean 'demo'?" in shown.err


def test_the_version_is_printed(cli: Cli) -> None:
    assert cli("--version").out.startswith("mailriver 0.")


def test_topics_are_listed_for_people_and_programs(cli: Cli) -> None:
    assert {row["topic"] for row in cli("topics", "list", "--json").json} == {topic.name for topic in TOPICS}
    table = cli("topics", "list").out
    assert all(topic.name in table for topic in TOPICS)


def test_schemas_are_written_where_asked(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "formats"
    assert cli("schema", "export", "--to", str(folder)).status == 0
    assert (folder / "asyncapi.json").exists()
    assert len(list((folder / "json").iterdir())) > 10


def test_a_folder_that_cannot_be_written_is_named(cli: Cli, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    assert str(taken) in cli("schema", "export", "--to", str(taken)).err


def test_an_unknown_role_is_answered_with_the_known_ones(cli: Cli) -> None:
    shown = cli("run", "plan", "planner")
    assert (shown.status, shown.err) == (
        2, f"mailriver: there is no role planner; the roles are {', '.join(ROLES)}\n",
    )  # fmt: skip


@pytest.mark.parametrize("argv", [("run", "plan"), ("topics", "plan"), ("topics", "apply", "--json")])
def test_without_kafka_a_command_says_how_to_name_one(process: Cli, argv: tuple[str, ...]) -> None:
    shown = process(*argv)
    assert shown.status == 2
    assert "no Kafka is configured: set MAILRIVER_KAFKA=host:port" in shown.err


def test_half_of_a_security_is_refused(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILRIVER_KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("MAILRIVER_KAFKA__SASL_MECHANISM", "PLAIN")
    shown = cli("topics", "plan")
    assert (shown.status, shown.err) == (
        2, "mailriver: kafka: SASL needs a mechanism, a username and a password file together\n",
    )  # fmt: skip


def test_a_wrong_setting_is_named_with_a_suggestion(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mailriver.toml").write_text('[kafka]\nbootstrp = "x:1"\n')
    shown = cli("topics", "plan")
    assert (shown.status, shown.err) == (
        2, "mailriver: mailriver.toml: kafka.bootstrp is not a setting; did you mean bootstrap?\n",
    )  # fmt: skip


def test_a_secret_that_others_read_is_refused(process: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILRIVER_KAFKA", "127.0.0.1:1")
    secret = tmp_path / "data" / "secrets" / "recipient.key"
    secret.parent.mkdir(parents=True)
    secret.write_text("0123456789abcdef")
    secret.chmod(0o644)
    shown = process("run", "plan")
    assert (shown.status, shown.err) == (2, f"mailriver: {secret}: others may read this secret: chmod 600 it\n")


SEND = ("send", "ann@example.test", "--from", "News <news@brand.test>", "--subject", "Hello")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("send", "nobody", *SEND[2:], "--text", "Hi"), "recipient: "),
        ((*SEND[:2], "--from", "news", *SEND[4:], "--text", "Hi"), "from: "),
        ((*SEND, "--text", "Hi", "--tenant", "no such tenant"), "tenant: "),
        (SEND, "send: "),  # neither text nor html
    ],
)
def test_a_bad_send_is_refused_before_it_is_published(cli: Cli, argv: tuple[str, ...], said: str) -> None:
    shown = cli(*argv)
    assert shown.status == 2
    assert shown.err.startswith(f"mailriver: {said}")


def test_a_kafka_that_is_away_is_named(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("MAILRIVER_KAFKA", f"127.0.0.1:{port}")
    monkeypatch.setattr(operate, "_PATIENCE_MS", 300)
    shown = cli(*SEND, "--text", "Hi")
    assert shown.status == 1
    assert f"mailriver: Kafka at 127.0.0.1:{port} does not answer" in shown.err


@pytest.mark.parametrize("argv", [("sql", "SELECT 1"), ("message", "x")])
def test_a_clickhouse_that_is_away_is_named(
    process: Cli, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...]
) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("MAILRIVER_CLICKHOUSE__URL", f"http://127.0.0.1:{port}")
    shown = process(*argv)
    assert shown.status == 1
    assert shown.err.startswith(f"mailriver: ClickHouse at http://127.0.0.1:{port} does not answer")
    assert "`mailriver up` starts one" in shown.err


@pytest.mark.parametrize("command", ["up", "demo"])
def test_a_missing_extra_is_named_with_the_command_that_brings_it(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setitem(sys.modules, "chdb", None)
    shown = cli(command)
    assert shown.status == 2
    assert "(chdb missing): pip install 'mailriver[embedded]'" in shown.err


def test_the_stack_refuses_settings_that_it_makes_itself(process: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above all delivery to the world."""
    monkeypatch.setenv("MAILRIVER_DELIVERY__MODE", "live")
    shown = process("up")
    assert shown.status == 2
    assert "environment: MAILRIVER_DELIVERY__MODE is not for the stack on this machine" in shown.err


def test_a_port_in_use_is_a_sentence(process: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("MAILRIVER_KAFKA", "127.0.0.1:1")
        monkeypatch.setenv("MAILRIVER_INBOUND__LISTEN", f"127.0.0.1:{taken.getsockname()[1]}")
        shown = process("run", "inbound")
    assert shown.status == 1
    assert "mailriver: inbound: [Errno " in shown.err


def test_a_number_of_brokers_that_cannot_vote_is_refused(cli: Cli) -> None:
    assert (cli("up", "--brokers", "2").err) == "mailriver: --brokers is 1 or 3\n"


@pytest.mark.parametrize("argv", [("up", "--endpoints"), ("demo", "--json")])
def test_a_file_that_cannot_be_written_is_refused_before_the_work(cli: Cli, argv: tuple[str, ...]) -> None:
    shown = cli(*argv, "nowhere/file.json")
    assert shown.status == 2
    assert "nowhere/file.json: there is no folder" in shown.err


RAW = b"From: News <news@brand.test>\r\nSubject: Hello\r\n\r\nHi\r\n"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--attach", "setup.exe"), "attachment 0: .exe files are refused"),
        (("--attach", "nowhere.pdf"), "nowhere.pdf: No such file or directory"),
        (("--attach", "large.pdf"), "set claims.folder to keep them beside Kafka"),
        (("--raw", "good.eml"), "a raw message is complete: drop from, subject, text"),
        (("--raw", "bad.eml"), "bad.eml: line 2: not a header field"),
    ],
)
def test_a_file_that_cannot_be_sent_is_refused_before_it_is_published(
    cli: Cli, tmp_path: Path, argv: tuple[str, ...], said: str
) -> None:
    (tmp_path / "setup.exe").write_bytes(b"MZ")
    (tmp_path / "large.pdf").write_bytes(bytes(300_000))
    (tmp_path / "good.eml").write_bytes(RAW)
    (tmp_path / "bad.eml").write_bytes(RAW.replace(b"Subject:", b"Subject"))
    shown = cli(*SEND, "--text", "Hi", *argv)
    assert shown.status == 2
    assert said in shown.err


def test_files_too_large_for_a_record_are_claimed(tmp_path: Path) -> None:
    claims = FolderClaims(tmp_path / "claims")
    small, large = tmp_path / "a.csv", tmp_path / "b.pdf"
    small.write_bytes(b"a,b\n")
    large.write_bytes(bytes(300_000))
    assert checkin.attachment(small, claims, 1000) == {
        "filename": "a.csv", "content_type": "text/csv", "content": "YSxiCg==",
    }  # fmt: skip
    claimed = checkin.attachment(large, claims, 1000)
    assert AttachmentRequested.model_validate(claimed).size == 300_000
    assert claims.get(Claim.model_validate(claimed["claim"])) == bytes(300_000)
    assert checkin.raw(RAW, claims).keys() == {"raw"}
    assert checkin.raw(RAW + bytes(300_000), claims).keys() == {"raw_claim"}


@pytest.mark.parametrize("name", ["a", "a.eml", "a.tar.gz", "a.unknown"])
def test_a_type_that_is_not_known_or_not_attached_is_left_out(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert "content_type" not in checkin.attachment(tmp_path / name, None, 1000)
