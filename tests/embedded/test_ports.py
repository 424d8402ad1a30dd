"""Ports: free when chosen, the same the next time, new only where somebody else took one."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pipeline.embedded.ports import free_ports, is_free, remembered_ports


def listener(port: int) -> socket.socket:
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", port))
    server.listen()
    return server


def test_free_ports_are_different_and_outside_of_the_outgoing_range() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(15_000 <= port < 30_000 for port in ports)
    assert all(is_free(port) for port in ports)


def test_ports_to_avoid_are_avoided() -> None:
    assert min(free_ports(20, avoid=range(15_000, 22_500))) >= 22_500


def test_a_port_that_is_listened_on_is_not_free() -> None:
    (port,) = free_ports(1)
    with listener(port):
        assert not is_free(port)
    assert is_free(port)


def test_a_port_just_closed_by_a_server_with_clients_is_free() -> None:
    (port,) = free_ports(1)
    with listener(port) as server, socket.create_connection(("127.0.0.1", port)) as client:
        peer, _ = server.accept()
        peer.close()  # the server closes first: its side goes through TIME_WAIT
        assert client.recv(1) == b""
    assert is_free(port)


def test_ports_are_remembered_by_name(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "ports.json"
    first = remembered_ports(file, ["kafka", "clickhouse"])
    assert len(set(first.values())) == 2
    assert remembered_ports(file, ["clickhouse", "kafka"]) == first
    more = remembered_ports(file, ["smtp"])
    assert more["smtp"] not in first.values()
    assert remembered_ports(file, ["kafka", "clickhouse", "smtp"]) == first | more


def test_only_a_port_that_was_taken_changes(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    first = remembered_ports(file, ["kafka", "clickhouse"])
    with listener(first["kafka"]):
        second = remembered_ports(file, ["kafka", "clickhouse"])
    assert second["kafka"] != first["kafka"]
    assert second["clickhouse"] == first["clickhouse"]
    assert remembered_ports(file, ["kafka"])["kafka"] == second["kafka"]


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"kafka": "x"}', '{"kafka": 0}', '{"kafka": 99999}'])
def test_a_damaged_memory_is_only_forgotten(tmp_path: Path, content: str) -> None:
    file = tmp_path / "ports.json"
    file.write_text(content)
    ports = remembered_ports(file, ["kafka"])
    assert is_free(ports["kafka"])
    assert remembered_ports(file, ["kafka"]) == ports
