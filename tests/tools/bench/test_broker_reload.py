"""The reload benchmark with a small room: nobody is dropped by a reload, and a broker that drops people is seen."""

from __future__ import annotations

import pytest

from provisioning.mosquitto import Mosquitto
from tests.integration.room_broker import require_mosquitto
from tools.bench import broker_reload
from tools.bench.broker_reload import main, measure
from tools.bench.measurement import Measurement


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    require_mosquitto()
    monkeypatch.setattr(broker_reload, "BETWEEN_S", 0.2)
    monkeypatch.setattr(broker_reload, "SETTLE_S", 3.0)


def row(rows: list[Measurement], name: str) -> Measurement:
    return next(row for row in rows if row.name.startswith(name))


def test_reload_with_eight_clients_drops_none_and_loses_nothing() -> None:
    rows = measure(clients=8, reloads=2)
    for name in ("connections ended", "messages lost"):
        assert (row(rows, name).value, row(rows, name).met) == (0, True)
    assert 0 < row(rows, "reload to new rights, median").value <= row(rows, "reload to new rights, longest").value
    assert int(row(rows, "messages lost").name.rpartition("= ")[2]) > 50


def test_broker_that_drops_everybody_is_seen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Mosquitto, "reload", Mosquitto.restart)
    assert main(["--clients", "3", "--reloads", "1"]) == 1
    assert "no" in capsys.readouterr().out


def test_room_of_nobody_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--clients", "1"])
    assert "--clients from 2 to 41" in capsys.readouterr().err
