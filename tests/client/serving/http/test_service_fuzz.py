"""Whatever the description allows, and what it does not, gets no 5xx: make fuzz."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from client.serving.http.gate import Rate
from tests.support.served import Counter

CASES = 200  # of each of two kinds for each of the routes: more than 5,000


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_no_request_makes_the_service_fail(tmp_path, mode):
    counter = Counter(tmp_path, rate=Rate(1e6, 10**6))
    schema = schemathesis.openapi.from_dict(counter.app.openapi())
    statuses = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        takes = operation.body or operation.path_parameters or operation.query
        if not takes and mode == "negative":
            continue  # a route that takes nothing can be sent nothing wrong
        strategy = operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode))

        @settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=strategy)
        def fuzz(case):
            sent = {} if type(case.body).__name__ == "NotSet" else {"json": case.body}
            if isinstance(case.body, bytes):
                sent = {"content": case.body}
            query = {name: str(value) for name, value in (case.query or {}).items()}
            answer = counter.ask(case.method, case.formatted_path, params=query, **sent)
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
            assert answer.status_code < 500, (answer.status_code, answer.text)
            documented = schema.raw_schema["paths"][case.path][case.method.lower()]["responses"]
            assert str(answer.status_code) in documented, (answer.status_code, answer.text)

        fuzz()
    print(mode, sum(statuses.values()), statuses)  # noqa: T201 -- seen with -s
    assert sum(statuses.values()) > 2500
    counter.store.close()
