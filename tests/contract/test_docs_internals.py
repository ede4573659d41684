"""docs/internals.md lists the modules and the conditional writes of the code."""

import ast
import inspect
import textwrap
import tomllib
from typing import Any

from tests.contract.markdown import names, table
from tests.contract.template import ROOT
from waterhook.storage import executions_table, webhook_deliveries, webhook_hosts
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.storage.webhook_deliveries import WebhookDeliveries

PACKAGE = ROOT / "layers" / "waterhook" / "waterhook"
DOCUMENT = (ROOT / "docs" / "internals.md").read_text(encoding="utf-8")


def named_conditions(module: Any) -> set[str]:
    """Return the names of the conditions of a module: its texts with lower-case names."""
    return {
        name
        for name, value in vars(module).items()
        if isinstance(value, str) and name.islower() and not name.startswith("_")
    }


CONDITIONS = named_conditions(executions_table)


def conditions_of(method: Any) -> set[str]:
    """Return the named conditions of a write."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & CONDITIONS


def test_the_modules_of_the_package_are_listed_in_the_order_in_which_their_imports_point() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    listed = [row[0].rstrip("/").removesuffix(".py") for row in table(DOCUMENT, "Module")]
    assert listed == [name.strip() for layer in layers for name in layer.split("|")]


def test_every_file_in_the_list_of_modules_exists() -> None:
    listed = [
        PACKAGE / folder / name
        for folder, text in table(DOCUMENT, "Module")
        for name in names(text)
        if name.endswith(".py")
    ]
    assert len(listed) > 30
    assert [path for path in listed if not path.is_file()] == []


def test_the_list_of_changes_names_existing_files_and_names_in_them() -> None:
    for _, place, _ in table(DOCUMENT, "To change"):
        path, *contained = names(place)
        if path != "waterhook_cli/commands/NAME.py":
            (file,) = (found for found in (ROOT / path, PACKAGE / path) if found.is_file())
            assert all(name in file.read_text(encoding="utf-8") for name in contained), place


def test_each_write_is_listed_with_its_conditions() -> None:
    writes = {
        name: used
        for name, method in vars(ExecutionsTable).items()
        if callable(method) and (used := conditions_of(method))
    }
    listed = {row[0]: set(names(row[2])) & CONDITIONS for row in table(DOCUMENT, "Write")}
    assert listed == writes
    assert set().union(*writes.values()) == CONDITIONS


def test_each_write_of_a_delivery_is_listed_and_each_condition_is_used() -> None:
    writes = {
        name
        for name, method in vars(WebhookDeliveries).items()
        if callable(method) and "self._write(" in inspect.getsource(method)
    }
    rows = table(DOCUMENT, "Delivery write")
    assert {row[0] for row in rows} == writes
    conditions = named_conditions(webhook_deliveries)
    assert {name for row in rows for name in names(row[2])} == conditions
    assert named_conditions(webhook_hosts) <= set(names(DOCUMENT))
