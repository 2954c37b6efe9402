from typer.testing import CliRunner

from fedtail import app


def test_the_command_says_what_it_made(tmp_path):
    done = CliRunner().invoke(app, ["server", "demo", "--out", str(tmp_path)])
    assert done.exit_code == 0
    assert "first.toml" in done.output
    assert (tmp_path / "tables-c" / "purchases.csv").exists()
