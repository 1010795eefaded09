"""Ports, secrets and the lock of a state."""

import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]  # it has no annotations
import pytest
from typer.testing import CliRunner

from compose.cli import app
from compose.errors import ComposeError, PortTakenError, StateInUseError
from compose.layout import HOST, Ports, State, require_free
from compose.process import end_leftovers
from compose.secrets import load_or_make
from compose.stack import locked


def test_all_ports_of_a_base_differ() -> None:
    ports = list(msgspec.structs.asdict(Ports.from_base(21_000)).values())
    assert len(set(ports)) == len(ports)
    assert min(ports) == 21_000


def test_a_taken_port_is_named_with_its_user_and_the_option() -> None:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(PortTakenError, match=rf"{port} \(Kafka\).*--port-base"):
            require_free({"Kafka": port})


def test_secrets_are_made_once(tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    first = load_or_make(file)
    assert load_or_make(file) == first
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_state_has_one_stack_at_a_time(tmp_path: Path) -> None:
    state = State(tmp_path)
    with locked(state), pytest.raises(StateInUseError, match="--state"), locked(state):
        pass
    with locked(state):
        pass


def test_a_leftover_is_ended_only_when_it_is_still_the_same_process() -> None:

    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    started = psutil.Process(sleeper.pid).create_time()
    try:
        assert end_leftovers([(sleeper.pid, started - 100)]) == 0
        assert sleeper.poll() is None
        assert end_leftovers([(sleeper.pid, started)]) == 1
        assert not psutil.pid_exists(sleeper.pid)
    finally:
        sleeper.kill()


@pytest.mark.parametrize("command", ["up", "demo"])
def test_a_state_that_is_no_folder_is_told(tmp_path: Path, command: str) -> None:
    file = tmp_path / "file"
    file.touch()
    ended = CliRunner().invoke(app, [command, "--state", str(file)])
    assert isinstance(ended.exception, ComposeError)
    assert str(ended.exception) == f"--state {file} must be a folder to write to: File exists."


def test_ports_that_there_are_not_are_told() -> None:
    assert CliRunner().invoke(app, ["doctor", "--port-base", "99999"]).exit_code == 2
