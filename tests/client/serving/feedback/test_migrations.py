import json

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from client.serving.feedback.database import migrate, writing
from client.serving.feedback.migrations.versions import v0001_first, v0002_experiments
from client.serving.feedback.store import Store
from client.serving.feedback.tables import METADATA
from common.errors import InputError
from tests.support.stores import list_row


@pytest.fixture
def store(tmp_path):
    found = Store(f"sqlite:///{tmp_path / 'events.db'}")
    yield found
    found.close()


def test_the_migrations_make_the_tables_that_the_code_knows(store):
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_a_store_of_the_first_version_keeps_its_lists(store, tmp_path):
    row = list_row("a" * 32)
    with writing(store.engine) as connection:
        connection.execute(text("DROP TABLE experiments"))
        connection.execute(text("DROP TABLE daily_figures"))
        connection.execute(text("DROP INDEX recommendations_by_experiment"))
        connection.execute(text("DROP INDEX recommendations_by_time"))
        connection.execute(text("ALTER TABLE recommendations DROP COLUMN experiment"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
        old = {name: value for name, value in row.items() if name != "experiment"}
        columns = ", ".join(old)
        values = ", ".join(f":{name}" for name in old)
        connection.execute(
            text(f"INSERT INTO recommendations ({columns}) VALUES ({values})"),  # noqa: S608 -- ours
            old,
        )
        migrate(connection)
    found = store.find_list("a" * 32)
    assert found["items"] == json.loads(row["items"])
    assert found["experiment"] is None
    with writing(store.engine) as connection:
        migrate(connection)  # today's already


@pytest.mark.parametrize("version", [v0001_first, v0002_experiments])
def test_no_version_is_undone(version):
    with pytest.raises(InputError):
        version.downgrade()
