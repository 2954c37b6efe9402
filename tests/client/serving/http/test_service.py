import json

from tests.client.serving.http.test_gate import ROUTES
from tests.support.served import Counter


def test_openapi_describes_every_route_and_problem(tmp_path):
    counter = Counter(tmp_path)
    document = counter.ask("GET", "/v1/openapi.json", key="none").json()
    assert document["openapi"].startswith("3.1")
    described = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    assert len(described) == len(ROUTES) + 2
    text = json.dumps(document)
    assert text.count("application/problem+json") >= 9 * len(described)
    counter.store.close()
