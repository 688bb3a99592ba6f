"""Who trusts whom, before, during and after each kind of replacement; by OpenSSL's own judgement."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from bus import certificates
from bus.certificate_folder import CertificateFolder, NoAuthority, load
from bus.certificates import ROLES
from bus.settings import Settings
from bus.tls import asking_with, serving, serving_from

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def folder(tmp_path: Path) -> CertificateFolder:
    made = CertificateFolder(tmp_path / "certificates")
    made.init(["portal.test"], NOW)
    return made


def shake_hands(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost"
) -> ssl.SSLObject:
    """A whole handshake in memory; returns the client's end."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    at_server = server.wrap_bio(up, down, server_side=True)
    at_client = client.wrap_bio(down, up, server_hostname=name)
    for _ in range(4):
        for end in (at_client, at_server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert at_client.cipher()
    assert at_server.cipher()
    return at_client


def serial(folder: CertificateFolder, role: str) -> int:
    return load(folder.of(role))[0].serial_number


def test_each_role_gets_a_key_and_certificate_of_its_own_readable_by_the_owner_only(folder):
    serials = {serial(folder, role) for role in ROLES}

    assert len(serials) == len(ROLES)
    assert {path.stat().st_mode & 0o777 for path in folder.root.iterdir()} == {0o600}
    assert folder.root.stat().st_mode & 0o777 == 0o700


def test_making_them_again_changes_nothing(folder):
    before = {path: path.read_bytes() for path in folder.root.iterdir()}

    assert folder.init(["portal.test"], NOW) == []
    assert {path: path.read_bytes() for path in folder.root.iterdir()} == before


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "portal.test"])
def test_a_server_is_known_by_every_name_it_has(folder, name):
    end = shake_hands(serving_from(folder.of("edge")), asking_with(folder.of("ca")), name)

    assert end.version() == "TLSv1.3"


def test_a_name_that_is_not_in_the_certificate_is_refused(folder):
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(serving_from(folder.of("edge")), asking_with(folder.of("ca")), "other.test")


def test_a_certificate_of_another_authority_is_refused(folder, tmp_path):
    other = CertificateFolder(tmp_path / "other")
    other.init([], NOW)

    with pytest.raises(ssl.SSLCertVerificationError, match=r"self-signed|issuer"):
        shake_hands(serving_from(other.of("edge")), asking_with(folder.of("ca")))


def test_an_expired_certificate_is_refused(folder):
    past = NOW - timedelta(days=100)
    folder.issue(["edge"], [], past)

    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake_hands(serving_from(folder.of("edge")), asking_with(folder.of("ca")))


def test_a_certificate_that_only_asks_cannot_serve(folder):
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        shake_hands(serving_from(folder.of("handlers")), asking_with(folder.of("ca")))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_are_refused(folder, version):
    client = ssl.create_default_context(cafile=folder.of("ca"))
    client.set_ciphers("ALL:@SECLEVEL=0")
    client.minimum_version, client.maximum_version = version, version

    with pytest.raises(ssl.SSLError, match=r"(?i)version|unsupported|alert"):
        shake_hands(serving_from(folder.of("edge")), client)


@pytest.mark.parametrize("suite", ["ECDHE-ECDSA-AES128-SHA256", "AES128-GCM-SHA256"])
def test_suites_without_forward_secrecy_or_authenticated_encryption_are_refused(folder, suite):
    client = ssl.create_default_context(cafile=folder.of("ca"))
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(suite)

    with pytest.raises(ssl.SSLError, match=r"(?i)handshake failure|no shared cipher"):
        shake_hands(serving_from(folder.of("edge")), client)


def test_a_context_shows_and_trusts_what_the_files_say_now(folder):
    server, client = serving_from(folder.of("edge")), asking_with(folder.of("ca"))
    before = shake_hands(server, client).getpeercert(binary_form=True)
    folder.rotate(NOW)
    after = shake_hands(server, client).getpeercert(binary_form=True)

    assert before != after
    assert x509.load_der_x509_certificate(after).serial_number == serial(folder, "edge")


def test_a_damaged_file_leaves_the_last_good_certificate_in_force(folder):
    server, client = serving_from(folder.of("edge")), asking_with(folder.of("ca"))
    good = serial(folder, "edge")
    folder.of("edge").write_text("nonsense")
    shown = shake_hands(server, client).getpeercert(binary_form=True)

    assert x509.load_der_x509_certificate(shown).serial_number == good


def test_a_public_certificate_is_shown_from_the_moment_it_is_there(folder, tmp_path):
    other = CertificateFolder(tmp_path / "other")
    other.init([], NOW)
    settings = Settings(
        tls="on", certificates=folder.root, nats_url="tls://x", redis_url="rediss://x"
    )
    server = serving(settings, "edge")["ssl_context_factory"]()
    shake_hands(server, asking_with(folder.of("ca")))
    folder.of("public").write_bytes(other.of("edge").read_bytes())

    shake_hands(server, asking_with(other.of("ca")))
    assert "public" in [one.name for one in folder.standings(NOW)]


def test_a_new_authority_is_trusted_by_those_who_know_only_the_old_one_and_the_other_way(
    folder, tmp_path
):
    """Every pair of old and new, because nobody reloads in the same moment."""
    old_trust = tmp_path / "old-ca.pem"
    old_trust.write_bytes(folder.of("ca").read_bytes())
    old_server = tmp_path / "old-edge.pem"
    old_server.write_bytes(folder.of("edge").read_bytes())
    folder.rotate_authority(NOW)

    for server in (old_server, folder.of("edge")):
        for trust in (old_trust, folder.of("ca")):
            shake_hands(serving_from(server), asking_with(trust))


def test_a_retired_authority_is_trusted_no_longer(folder, tmp_path):
    old_server = tmp_path / "old-edge.pem"
    old_server.write_bytes(folder.of("edge").read_bytes())
    client = asking_with(folder.of("ca"))
    folder.rotate_authority(NOW)
    shake_hands(serving_from(old_server), client)
    folder.retire(NOW)

    assert len(folder.trusted()) == 1
    shake_hands(serving_from(folder.of("edge")), client)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(serving_from(old_server), client)


def test_a_rotation_that_was_cut_off_goes_on_where_it_was(folder, monkeypatch):
    monkeypatch.setattr(folder, "issue", lambda *_: [])
    folder.rotate_authority(NOW)
    monkeypatch.undo()

    assert set(folder.rotate(NOW)) == set(ROLES)
    assert {load(folder.of(role))[0].issuer for role in ROLES} == {
        folder.authority().certificate.subject
    }


def test_what_another_authority_has_made_is_never_replaced(folder, tmp_path):
    other = CertificateFolder(tmp_path / "other")
    other.init([], NOW)
    foreign = certificates.bundle([
        certificates.new_authority(NOW).certificate, *load(folder.of("ca")),
    ])  # fmt: skip
    folder.of("ca").write_bytes(foreign)
    folder.of("edge").write_bytes(other.of("edge").read_bytes())

    assert "edge" not in folder.rotate(NOW)
    assert folder.of("edge").read_bytes() == other.of("edge").read_bytes()


def test_without_a_key_nothing_is_made(folder):
    folder.of("authority").unlink()

    assert folder.renew(NOW + timedelta(days=89)) == []
    with pytest.raises(NoAuthority):
        folder.rotate(NOW)


def test_what_has_less_than_thirty_days_is_due_and_renewed_with_its_names(folder):
    later = NOW + timedelta(days=61)
    due = {one.name for one in folder.standings(later) if one.due}
    renewed = folder.renew(later)

    assert due == set(ROLES) == set(renewed)
    assert not [one for one in folder.standings(later) if one.due]
    assert "portal.test" in certificates.hosts_of(load(folder.of("edge"))[0])


@given(st.integers(-400, 4000))
def test_days_left_count_whole_days_and_never_more_than_there_are(days):
    authority = certificates.new_authority(NOW)
    at = NOW + timedelta(days=days, hours=1)
    standing = certificates.standing("ca", authority.certificate, at)

    left = timedelta(days=standing.days_left)
    assert left <= standing.not_after - at < left + timedelta(days=1)
    assert standing.due == (standing.days_left < certificates.WARN_DAYS)
