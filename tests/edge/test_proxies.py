"""Client addresses behind proxies: what an untrusted client writes never becomes its address."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bus.settings import Settings
from edge.proxies import Proxies

OURS = Proxies([ip_network("10.0.0.0/8"), ip_network("2001:db8:ffff::/48")])
XFF, FORWARDED, PROTO = b"x-forwarded-for", b"forwarded", b"x-forwarded-proto"

strangers = st.one_of(
    st.ip_addresses(v=4, network="198.51.100.0/24").map(str),
    st.ip_addresses(v=6, network="2001:db8:1::/48").map(str),
)
proxies = st.one_of(
    st.ip_addresses(v=4, network="10.0.0.0/8").map(str),
    st.ip_addresses(v=6, network="2001:db8:ffff::/48").map(str),
)
junk = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([
        b"unknown", b"_hidden", b"127.0.0.1", b"::1", b"10.0.0.9", b"fe80::1%eth0", b"1.2.3.4.5",
        b"0x7f.1", b"[::1", b"1.2.3.4:99999999", b'"', b'for="', b",,,", b"", b"\r\nx: y", b"a" * 3000,
    ]),
)  # fmt: skip


def quoted(address: str) -> str:
    return f'for="[{address}]"' if ":" in address else f"for={address}"


@given(
    peer=st.one_of(strangers, st.sampled_from(["-", "", "unknown", "fe80::1%eth0"])), written=junk
)
def test_nobody_else_is_believed(peer, written):
    headers = [(XFF, written), (FORWARDED, written), (PROTO, b"https")]

    assert OURS.address_of(peer, headers) == peer
    assert OURS.secure(peer, "http", headers) is False
    assert Proxies([]).address_of("10.0.0.1", headers) == "10.0.0.1"


@given(
    client=strangers,
    chain=st.lists(proxies, max_size=4),
    peer=proxies,
    before=st.lists(junk, max_size=3),
)
def test_whatever_the_client_writes_before_it_the_right_most_stranger_is_the_client(
    client, chain, peer, before
):
    hops = [client, *chain]
    written = [(XFF, one) for one in before if len(one) < 100]
    plain = [*written, (XFF, ", ".join(hops).encode())]
    assert OURS.address_of(peer, plain) == client

    standard = [(FORWARDED, ", ".join(quoted(hop) for hop in hops).encode())]
    assert OURS.address_of(peer, standard) == client


@given(
    peer=proxies, headers=st.lists(st.tuples(st.sampled_from([XFF, FORWARDED]), junk), max_size=4)
)
def test_nonsense_never_crashes_and_gives_an_address(peer, headers):
    assert ip_address(OURS.address_of(peer, headers))


@given(peer=proxies, victim=strangers, client=strangers, bad=junk.filter(lambda b: b"," not in b))
def test_an_unreadable_hop_ends_the_walk_at_the_proxy_that_passed_it_on(peer, victim, client, bad):
    headers = [(XFF, victim.encode() + b", " + b"not-an-address")]
    assert OURS.address_of(peer, headers) == peer


@given(peer=proxies, client=strangers, victim=strangers)
def test_two_headers_that_name_different_clients_are_both_not_believed(peer, client, victim):
    headers = [(XFF, client.encode()), (FORWARDED, quoted(victim).encode())]
    expected = client if client == victim else peer

    assert OURS.address_of(peer, headers) == expected


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (b"198.51.100.7:4711", "198.51.100.7"),
        (b"[2001:db8:1::5]:4711", "2001:db8:1::5"),
        (b"::ffff:198.51.100.7", "198.51.100.7"),
        (b"::ffff:10.1.1.1", "10.1.1.1"),
        (b"198.51.100.7%eth0", "10.9.9.9"),
        (b"10.0.0.1, 10.0.0.2", "10.0.0.1"),
        (b"", "10.9.9.9"),
    ],
)
def test_forms_of_an_address(written, read):
    assert OURS.address_of("10.9.9.9", [(XFF, written)]) == read


def test_the_scheme_is_told_only_by_a_trusted_peer():
    https = [(PROTO, b"https")]
    assert OURS.secure("10.0.0.1", "http", https)
    assert not OURS.secure("10.0.0.1", "https", [(PROTO, b"https, http")])
    assert not OURS.secure("198.51.100.1", "http", https)
    assert OURS.secure("198.51.100.1", "https", [])


def test_a_network_that_is_none_is_a_bad_setting():
    for bad in (["10.0.0.1/8"], ["everybody"], ["10.0.0.0/33"]):
        with pytest.raises(ValidationError):
            Settings(trusted_proxies=bad)
