"""What a repository says beside its releases is read strictly, and paths keep federations apart."""

import pytest
from tuf.api.metadata import DelegatedRole

from common.errors import ReleaseError
from common.release.published import (
    FederationTrust,
    Latest,
    Withdrawn,
    delegated_paths,
    latest_path,
    release_path,
    role_of,
    trust_path,
)

LATEST = Latest(
    federation="main", version="2.0", withdrawn=(Withdrawn(version="1.0", reason="too old"),)
)


def test_records_read_back_as_themselves():
    trust = FederationTrust(federation="main", release_key="pem", authority="pem")
    assert Latest.from_bytes(LATEST.to_bytes()) == LATEST
    assert FederationTrust.from_bytes(trust.to_bytes()) == trust
    assert (LATEST.reason("1.0"), LATEST.reason("2.0")) == ("too old", None)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"2.0"', b'"../2.0"'),
        (b'"2.0"', b'"2.0/x"'),
        (b'"2.0"', b"2.0"),
        (b'"main"', b'"../main"'),
        (b'"main"', b'"_trust"'),
        (b"too old", b"\\u001b[2J"),
        (b"too old", b"x" * 201),
        (b'"fedtail-latest"', b'"fedtail-trust"'),
        (b'"version"', b'"versions"'),
        (b"{", b"["),
    ],
)
def test_what_is_not_exactly_a_record_is_refused(before, after):
    content = LATEST.to_bytes()
    assert before in content
    with pytest.raises(ReleaseError):
        Latest.from_bytes(content.replace(before, after, 1))


@pytest.mark.parametrize("name", ["main", "a", "west-2"])
def test_a_federations_role_lists_what_is_below_its_name_and_nothing_else(name):
    role = DelegatedRole(role_of(name), ["k"], 1, True, paths=delegated_paths(name))
    own = [latest_path(name), *(release_path(name, "1.0", f) for f in ("a", "b/a", "c/b/a"))]
    assert all(role.is_delegated_path(path) for path in own)
    others = [trust_path(name), latest_path("other"), f"{name}x/latest.json", f"{name}/1/c/b/a/x"]
    assert not any(role.is_delegated_path(path) for path in others)
