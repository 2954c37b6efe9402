"""Whatever is done to a file of the repository, a node ends with a release as it was signed."""

import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.deployment.release_store import ReleaseStore
from common.errors import FedtailError
from tests.support.release_town import Town
from tests.support.repositories import static_server

EXAMPLES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
WORDS = st.sampled_from(
    [None, True, -1, 0, 1, 2**63, 2**80, "", "x", "9999-12-31T00:00:00Z", [], {}]
)


@pytest.fixture(scope="module")
def three(template2, tmp_path_factory):
    """A node that uses 2.0 where 3.0 is the latest, its state to go back to, and the server."""
    place = tmp_path_factory.mktemp("three") / "town"
    shutil.copytree(template2, place, symlinks=True)
    with (
        pytest.MonkeyPatch.context() as patch,
        static_server(place / "server" / "public" / "releases") as web,
    ):
        patch.setattr("os.fsync", lambda _: None)
        town = Town(place, web)
        town.rotate("timestamp")
        town.operator.publish("3.0")
        town.fresh = shutil.copytree(town.node.root, place / "fresh", symlinks=True)
        yield town


def files_of(town):
    return sorted(
        path.relative_to(town.place).as_posix()
        for path in town.place.rglob("*")
        if path.is_file() and "1.0/" not in path.as_posix() and "2.0/" not in path.as_posix()
    )


def ends_well(town, name, content):
    """Fetch from a server on which one file is `content`: 2.0 stays or 3.0 comes, as signed."""
    shutil.rmtree(town.node.root)
    shutil.copytree(town.fresh, town.node.root, symlinks=True)
    path = town.place / name
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        town.fetch()
        assert town.current == "3.0"
    except FedtailError:
        assert town.current == "2.0"
    finally:
        path.write_bytes(before)
    release = ReleaseStore(town.node).verify(town.current)
    assert release.files["notes.txt"] == f"release {town.current}".encode() * 50


def bent_bytes(town, data):
    """Flip a bit of a file, cut it, add to it or empty it."""
    name = data.draw(st.sampled_from(files_of(town)), label="file")
    content = bytearray((town.place / name).read_bytes())
    where = data.draw(st.integers(0, len(content) - 1), label="where")
    match data.draw(st.sampled_from(["flip", "cut", "add", "empty"]), label="how"):
        case "flip":
            content[where] ^= 1 << data.draw(st.integers(0, 7), label="bit")
        case "cut":
            del content[where:]
        case "add":
            content[where:where] = data.draw(st.binary(min_size=1, max_size=9), label="added")
        case _:
            content.clear()
    return name, bytes(content)


def places_in(value, path=()):
    """Yield the path to each value inside a JSON document."""
    yield path
    if isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places_in(one, (*path, key))


def bent_value(town, data):
    """Change one value of one metadata file, or take it away."""
    metadata = [name for name in files_of(town) if name.startswith("metadata/")]
    name = data.draw(st.sampled_from(metadata), label="file")
    document = json.loads((town.place / name).read_bytes())
    path = data.draw(st.sampled_from(list(places_in(document))[1:]), label="place")
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    if data.draw(st.booleans(), label="take away"):
        del holder[path[-1]]
    else:
        holder[path[-1]] = data.draw(WORDS, label="instead")
    return name, json.dumps(document).encode()


def another_file(town, data):
    """Put one file in the place of another."""
    names = st.sampled_from(files_of(town))
    name, other = data.draw(names, label="file"), data.draw(names, label="other")
    return name, (town.place / other).read_bytes()


@pytest.mark.parametrize("bend", [bent_bytes, bent_value, another_file])
@given(data=st.data())
@settings(EXAMPLES, max_examples=8)
def test_no_change_of_a_file_changes_a_release(three, bend, data):
    ends_well(three, *bend(three, data))


@pytest.mark.slow
@pytest.mark.parametrize("bend", [bent_bytes, bent_value, another_file])
@given(data=st.data())
@settings(EXAMPLES, max_examples=200)
def test_none_of_many_changes_of_a_file_changes_a_release(three, bend, data):
    ends_well(three, *bend(three, data))
