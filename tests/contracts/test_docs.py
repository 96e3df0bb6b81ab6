"""What the documentation lists is what the code has."""

from pathlib import Path

from typer.testing import CliRunner

from service.cli.app import app

DOCS = Path(__file__).parents[2] / "docs"


def test_the_settings_table_is_the_one_the_command_prints() -> None:
    printed = CliRunner().invoke(app, ["settings", "--markdown"]).output
    documented = (DOCS / "operations" / "settings.md").read_text()
    assert printed.strip() in documented, "run: hidiffusion settings --markdown"
