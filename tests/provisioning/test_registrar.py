"""The registrar's program around its application: folder, keys, TLS, upkeep, commands."""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device.errors import ConfigError, MoodlineError, TransportError
from device.messages.roster import read_roster
from device.trust import staged
from provisioning import certificates, keys, registrar_commands
from provisioning.authority import REVOKED_FILE, ROSTER_FILE, RoomAuthority
from provisioning.boxes import CERTIFICATE_FILE
from provisioning.certificates import Role, now_utc
from provisioning.claims import SeatState
from provisioning.enrolment_messages import short_code
from provisioning.pinned import PinnedClient
from provisioning.publication import BrokerProcess, BrokerService, Places, is_due, publish, renew_own
from provisioning.refusals import Refusal, RefusalError
from provisioning.registrar import Registrar, broker_of, main, open_office, server_context, write_registrar_box
from provisioning.registration import SETTINGS_FILE, RegistrarFolder, RegistrarSettings, load_settings
from tests.provisioning.registrar_program import HOST, TOKEN, RegistrarProgram, found_room


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# --- the folder --------------------------------------------------------------------------------------------------


def test_a_registrars_folder_holds_its_two_keys_and_not_the_authoritys(tmp_path: Path) -> None:
    authority = found_room(tmp_path / "authority")
    folder = tmp_path / "registrar"
    write_registrar_box(folder, authority, broker_port=1_883, gateway=tmp_path / "gateway")
    before = contents(folder)
    with RegistrarFolder(folder).claims() as claims:
        claims.open_window(60, wall_ms=0)
    write_registrar_box(folder, authority, broker_port=1_884)
    after = contents(folder)
    assert {name for name in after if after[name] != before.get(name)} == {SETTINGS_FILE, "claims.json"}
    assert set(before) == {
        "certificate-authority.key",
        "certificate-authority.pem",
        "registrar.key",
        "registrar.toml",
        "room-authority.pem",
        "trust.cbor",
    }
    for name in ("registrar.key", "certificate-authority.key", "claims.json", "registrar.toml"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    found = RegistrarFolder(folder)
    assert found.digest == authority.registrar_digest
    assert found.certificate_authority().certificate == authority.ca.certificate
    assert found.settings == RegistrarSettings(room="r2", broker_port=1_884)


def test_a_publication_reaches_the_gateway_in_an_order_that_a_power_cut_may_end(tmp_path: Path) -> None:
    authority = found_room(tmp_path / "authority")
    for name in ("registrar", "gateway"):
        (tmp_path / name).mkdir()
    places = Places(tmp_path / "registrar", tmp_path / "gateway")
    publish(authority, places)
    first = contents(tmp_path / "gateway")
    assert {"roster.cose", "policy.cose", "room-authority.pem", "certificate-authority.pem"} <= set(first)
    authority.rotate()
    publish(authority, places)
    raw = (tmp_path / "gateway" / ROSTER_FILE).read_bytes()
    assert read_roster(raw, authority_key=authority.verifying_key, room="r2").epoch == 2
    # A staged file has the content that counts, so whoever loads may take either.
    for name in ("policy.cose", "room-authority.pem"):
        path = tmp_path / "gateway" / name
        assert staged(path).read_bytes() == path.read_bytes() != first[name]


def test_keys_that_others_can_read_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "registrar"
    write_registrar_box(folder, found_room(tmp_path / "authority"))
    for name in ("registrar.key", "certificate-authority.key"):
        (folder / name).chmod(0o644)
        assert main(["--folder", str(folder), "--host", HOST, "--port", "0", "--no-mdns"]) == 2
        assert f"{name}: others may use this private key (mode 0644)" in capsys.readouterr().err
        (folder / name).chmod(0o600)


def test_what_cannot_be_served_is_refused_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = RegistrarProgram(tmp_path)
    folder = program.registrar.folder

    def refused(*more: str) -> str:
        assert main(["--folder", str(folder), "--host", HOST, "--port", "0", "--no-mdns", *more]) == 2
        return capsys.readouterr().err

    assert main(["--folder", str(tmp_path / "nowhere")]) == 2
    assert "holds no registrar" in capsys.readouterr().err
    with socket.create_server((HOST, 0)) as taken:
        assert "cannot be used" in refused("--port", str(taken.getsockname()[1]))
    assert "holds no room authority" in refused("--authority", str(tmp_path / "nowhere"))
    settings = (folder / SETTINGS_FILE).read_text()
    (folder / SETTINGS_FILE).write_text(settings + "surprise = 1\n")
    assert "surprise" in refused()
    (folder / SETTINGS_FILE).write_text(settings)
    (folder / "trust.cbor").write_bytes(b"\x80")
    assert "trust.cbor" in refused()
    (folder / "trust.cbor").unlink()
    assert "Publish the room's roster" in refused()


def test_settings_say_how_the_broker_is_told(tmp_path: Path) -> None:
    folder = tmp_path
    (folder / SETTINGS_FILE).write_text('room = "r2"\nbroker = "broker"\nbroker_service = "moodline-broker.service"\n')
    assert broker_of(load_settings(folder)) == BrokerService(folder / "broker", "moodline-broker.service")
    (folder / SETTINGS_FILE).write_text('room = "r2"\nbroker = "broker"\nbroker_pid_file = "run/pid"\n')
    assert broker_of(load_settings(folder)) == BrokerProcess(folder / "broker", folder / "run/pid")
    (folder / SETTINGS_FILE).write_text('room = "r2"\nbroker = "broker"\n')
    assert broker_of(load_settings(folder)) is None
    assert broker_of(RegistrarSettings(room="r2")) is None


def test_a_broker_that_does_not_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provisioning.publication.check_files", lambda folder: None)
    for content in (None, "no number", str(2**30)):
        if content is not None:
            (tmp_path / "pid").write_text(content)
        with pytest.raises(TransportError, match="names no running broker"):
            BrokerProcess(tmp_path, tmp_path / "pid").reload()


def test_an_authority_is_not_opened_where_its_changes_could_not_be_written(tmp_path: Path) -> None:
    program = RegistrarProgram(tmp_path)
    write_registrar_box(program.registrar.folder, program.authority, gateway=tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="no change of the room could be published"):
        open_office(program.authority, RegistrarFolder(program.registrar.folder))


# --- TLS ---------------------------------------------------------------------------------------------------------


def test_only_tls_13_is_spoken_and_the_key_is_the_registrars(tmp_path: Path) -> None:
    program = RegistrarProgram(tmp_path)
    with program.running():
        client = PinnedClient([HOST], program.port, None)
        client.get("/healthz", limit=100)
        assert client.seen_digest == program.digest == program.authority.registrar_digest
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with (
            socket.create_connection((HOST, program.port), timeout=10.0) as plain,
            pytest.raises(ssl.SSLError, match=r"(?i)version|protocol"),
        ):
            old.wrap_socket(plain)


def test_a_key_file_of_another_key_makes_no_server(tmp_path: Path) -> None:
    path = tmp_path / "registrar.key"
    keys.signing_key(path)
    with pytest.raises(ConfigError, match="cannot be used for TLS"):
        server_context(Ed25519PrivateKey.generate(), path)


def test_a_registrar_that_was_never_started_stops_cleanly(tmp_path: Path) -> None:
    program = RegistrarProgram(tmp_path)
    registrar = Registrar(program.registrar, host=HOST, port=0)
    registrar.stop()
    registrar.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, registrar.port), timeout=1.0)


def test_with_open_connections_it_stops_all_the_same(tmp_path: Path) -> None:
    program = RegistrarProgram(tmp_path)
    with contextlib.ExitStack() as hanging:
        with program.running():
            for _ in range(5):
                hanging.enter_context(socket.create_connection((HOST, program.port), timeout=10.0))
            assert program.client.get("/healthz", limit=100)
        with pytest.raises(TransportError):
            program.challenge()


# --- upkeep ------------------------------------------------------------------------------------------------------


def own_certificate(folder: Path, authority: RoomAuthority, *, life: timedelta, age: timedelta) -> x509.Certificate:
    folder.mkdir(exist_ok=True)
    key = Ed25519PrivateKey.generate().public_key()
    made = authority.ca.issue("broker", Role.BROKER, key, now_utc() - age, hosts=("localhost", "192.0.2.1"), life=life)
    (folder / CERTIFICATE_FILE).write_bytes(certificates.pem(made))
    return made


def test_a_certificate_is_due_in_the_last_third_of_its_life_and_after(tmp_path: Path) -> None:
    authority = found_room(tmp_path / "authority")
    # It begins a day before it is made.
    made = own_certificate(tmp_path / "broker", authority, life=timedelta(days=89), age=timedelta())
    begins = made.not_valid_before_utc
    assert not is_due(made, begins + timedelta(days=59))
    assert is_due(made, begins + timedelta(days=61))
    assert is_due(made, begins + timedelta(days=900))


def test_the_brokers_own_certificate_is_renewed_for_the_same_key_and_names(tmp_path: Path) -> None:
    authority, folder = found_room(tmp_path / "authority"), tmp_path / "broker"
    old = own_certificate(folder, authority, life=timedelta(days=30), age=timedelta(days=70))
    assert renew_own(folder, authority.ca, now_utc()) == "broker"
    new = certificates.load_certificate(folder / CERTIFICATE_FILE)
    assert certificates.key_of(new) == certificates.key_of(old)
    assert certificates.hosts_of(new) == certificates.hosts_of(old) == ("localhost", "192.0.2.1")
    assert new.not_valid_after_utc > now_utc() + timedelta(days=700)
    assert renew_own(folder, authority.ca, now_utc()) is None


def test_upkeep_renews_nobody_elses_certificate(tmp_path: Path) -> None:
    authority, other = found_room(tmp_path / "authority"), found_room(tmp_path / "other")
    folder = tmp_path / "broker"
    own_certificate(folder, other, life=timedelta(days=30), age=timedelta(days=70))
    with pytest.raises(ConfigError, match="is not the certificate of this room's"):
        renew_own(folder, authority.ca, now_utc())
    unit = authority.ca.issue("b3", Role.UNIT, Ed25519PrivateKey.generate().public_key(), now_utc())
    (folder / CERTIFICATE_FILE).write_bytes(certificates.pem(unit))
    with pytest.raises(ConfigError, match="is not the certificate of this room's"):
        renew_own(folder, authority.ca, now_utc())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hand files over")
def test_what_root_writes_belongs_to_the_folders_owner(tmp_path: Path) -> None:
    program = RegistrarProgram(tmp_path)
    folder = program.registrar.folder
    os.chown(folder, 1_234, 1_235)
    write_registrar_box(folder, program.authority, broker_port=1_883)
    with program.registrar.claims() as claims:
        claims.open_window(60, wall_ms=0)
    box = program.box()
    with program.running():
        program.enrol(box)
        program.renew(box, "b3")
    made = ["registrar.key", "certificate-authority.key", "claims.json", SETTINGS_FILE, "issued"]
    made += [str(path.relative_to(folder)) for path in (folder / "issued").iterdir()]
    assert len(made) == 6
    for name in made:
        assert ((folder / name).stat().st_uid, (folder / name).stat().st_gid) == (1_234, 1_235)


# --- commands ----------------------------------------------------------------------------------------------------


def provision(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    registrar_commands.add(parser.add_subparsers(required=True))
    options = parser.parse_args(arguments)
    exit_code: int = options.command(options)
    return exit_code


def test_an_operator_opens_the_window_compares_and_accepts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = RegistrarProgram(tmp_path)
    where = ("--registrar", str(program.registrar.folder))
    box, other = program.box(), program.box()
    with program.running(open_authority=False):
        provision("window", "open", *where)
        opened = program.announce(box)
        code = short_code(box.key, program.digest, box.nonce, opened.nonce)
        assert program.reveal(box, opened.claim).waiting == "operator"
        unwanted = program.announce(other).claim
        unwanted_code = program.reveal(other, unwanted).code
        provision("claims", *where)
        said = capsys.readouterr().out
        assert f"{code}  a test's box, serial 100000001, from {HOST}" in said
        assert "has EXPIRED" in said
        provision("reject", unwanted_code, *where)
        with pytest.raises(RefusalError) as caught:
            program.reveal(other, unwanted)
        assert caught.value.refusal is Refusal.CLAIM_REJECTED
        provision("window", "close", *where)
        with pytest.raises(ConfigError, match="Which place"):
            provision("accept", code, *where)
        provision("accept", code, "--unit", "a1", "--line", "a", "--desk", "Desk 1", *where)
        assert program.reveal(box, opened.claim).waiting == "authority"
        provision("accept", code, "--unit", "a1", *where, "--authority", str(program.authority.folder))
        assert "a1 is enrolled: line a, Desk 1." in capsys.readouterr().out
        answer = program.reveal(box, opened.claim)
        assert answer.enrolled is not None
        assert answer.enrolled.unit == "a1"


def test_boxes_with_tokens_are_admitted_together_when_the_authority_comes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = RegistrarProgram(tmp_path)
    where = ("--registrar", str(program.registrar.folder))
    box = program.box()
    with program.running(open_authority=False):
        program.enrol(box, TOKEN)
        for _ in range(2):
            provision("accept", *where, "--authority", str(program.authority.folder))
        said = capsys.readouterr().out
        assert "b3 is enrolled: line b, Desk b3." in said
        assert "No box waits for the room authority." in said
        assert program.enrol(box, TOKEN).state == "enrolled"


def test_a_box_takes_the_place_of_another(tmp_path: Path) -> None:
    program = RegistrarProgram(tmp_path)
    where = ("--registrar", str(program.registrar.folder), "--authority", str(program.authority.folder))
    old, new = program.box(), program.box()
    with program.running():
        program.enrol(old)
        program.open_window()
        claim = program.announce(new).claim
        code = program.reveal(new, claim).code
        with pytest.raises(ConfigError, match="--replaces b3"):
            provision("accept", code, "--unit", "b3", *where)
        provision("accept", code, "--unit", "b3-2", "--line", "b", "--desk", "Desk b3", "--replaces", "b3", *where)
        answer = program.reveal(new, claim)
        assert answer.enrolled is not None
        assert (answer.enrolled.unit, answer.enrolled.line) == ("b3-2", "b")
        assert [unit.unit for unit in program.registrar.trust().roster.units_of("b")] == ["b3-2"]
        with pytest.raises(RefusalError) as caught:
            program.enrol(old)
        assert caught.value.refusal is Refusal.REVOKED


def test_a_revocation_ends_the_certificates_that_the_registrar_issued_too(tmp_path: Path) -> None:
    program = RegistrarProgram(tmp_path)
    box = program.box()
    with program.running():
        first = program.enrol(box).enrolled
        second = program.renew(box, "b3").certificate
    assert first is not None
    program.authority.revoke("b3")
    where = ("--registrar", str(program.registrar.folder), "--authority", str(program.authority.folder))
    provision("publish", *where)
    listed = x509.load_pem_x509_crl((program.authority.folder / REVOKED_FILE).read_bytes())
    serials = {x509.load_pem_x509_certificate(pem.encode()).serial_number for pem in (first.certificate, second)}
    assert len(serials) == 2
    assert {entry.serial_number for entry in listed} == serials


def test_a_seat_is_released_and_a_change_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = RegistrarProgram(tmp_path)
    where = ("--registrar", str(program.registrar.folder))
    with program.running(open_authority=False):
        program.enrol(program.box())
    provision("release", "b3", *where)
    with program.registrar.claims() as claims:
        assert [seat.state for seat in claims.book.seats] == [SeatState.UNUSED, SeatState.UNUSED]
    key = Ed25519PrivateKey.generate().public_key()
    program.authority.admit("c1", Role.UNIT, key, line="c")
    provision("publish", *where, "--authority", str(program.authority.folder))
    assert "Roster of epoch 2 stands in:" in capsys.readouterr().out
    assert program.registrar.trust().roster.line_of("c1") == "c"
    with pytest.raises(MoodlineError, match="holds no room authority"):
        provision("publish", *where, "--authority", str(tmp_path / "nowhere"))
