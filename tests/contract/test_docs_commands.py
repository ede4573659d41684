"""Each command in the documents is run by a test or marked with what it needs, and uses existing files and options."""

import ast
import re
import shlex
from functools import cache

import pytest

from tests.contract.markdown import Block, blocks, fences, names, section
from tests.contract.template import ROOT, source
from tests.support.aws_commands import refused

DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
)
BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]
RUNNER = ROOT / "tests" / "e2e" / "test_recipes.py"
# Variables with outputs of the stack.
STACK_ENVIRONMENT = {"TOPIC_ARN", "STATE_MACHINE_ARN", "API_URL", "API_KEY", "BUCKET_NAME"}


def block_id(one: Block) -> str:
    return f"{one.document}: {one.heading} {one.nth}"


@cache
def run_by_a_test() -> set[tuple[str, str, int]]:
    """Return the blocks that the end-to-end tests run: `block("docs/recipes.md", "Queue", 1)`."""
    calls = [
        node
        for node in ast.walk(ast.parse(RUNNER.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "block"
    ]
    named = [[ast.literal_eval(argument) for argument in call.args] for call in calls]
    return {(document, heading, nth[0] if nth else 0) for document, heading, *nth in named}


def targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))


def aws_commands(one: Block) -> list[str]:
    """Return the commands of the AWS CLI, including those in `$(…)`."""
    inner = [found[1] for line in one.lines for found in re.finditer(r"\$\((aws [^)]*)\)", line)]
    return [*inner, *(line for line in one.lines if line.startswith("aws "))]


def test_the_documents_have_commands() -> None:
    assert len(BLOCKS) > 10


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_are_in_blocks_marked_sh(document: str) -> None:
    languages = {fence.language for fence in fences((ROOT / document).read_text(encoding="utf-8"))}
    assert not {"bash", "shell", "console", "zsh"} & languages


@pytest.mark.parametrize("one", BLOCKS, ids=block_id)
def test_a_block_is_run_by_a_test_or_is_marked_or_calls_make(one: Block) -> None:
    if one.needs_more or (one.document, one.heading, one.nth) in run_by_a_test():
        return
    for line in one.lines:
        command, *words = shlex.split(re.sub(r'^eval "\$\((make .+)\)"$', r"\1", line), comments=True)
        assert command == "make", f"{block_id(one)}: neither run nor marked `# needs AWS`: {line}"
        assert {word for word in words if "=" not in word and not word.startswith("-")} <= targets(), line


def test_a_block_that_a_test_runs_is_not_marked() -> None:
    run = [one for one in BLOCKS if (one.document, one.heading, one.nth) in run_by_a_test()]
    assert len(run) == len(run_by_a_test())
    assert not [block_id(one) for one in run if one.needs_more]


def test_the_aws_cli_accepts_each_of_its_commands() -> None:
    commands = [command for one in BLOCKS for command in aws_commands(one)]
    assert len(commands) > 10
    assert refused(commands) == {}


def test_a_command_that_the_aws_cli_refuses_is_found() -> None:
    wrong = {
        "aws sns subscribe-all": "Invalid choice",
        "aws sns subscribe --topic-arn x --protocol email --colour red": "Unknown options: --colour",
        "aws sns subscribe --topic-arn x": "required: --protocol",
        "aws events put-events --entries file://events/schedule.json": "Error parsing parameter '--entries'",
    }
    found = refused([*wrong])
    assert {command: why for command, why in wrong.items() if why in found.get(command, "")} == wrong


def test_the_documents_name_existing_make_targets() -> None:
    for document in DOCUMENTS:
        text = (ROOT / document).read_text(encoding="utf-8")
        code = "\n".join([*names(text), *(fence.text for fence in fences(text))])
        named = set(re.findall(r"(?:^|[`(])make (?:-s )?([a-z-]+)", code, re.MULTILINE))
        assert named <= targets(), document


def test_a_deployed_template_gets_existing_and_all_required_parameters() -> None:
    for one in BLOCKS:
        for line in one.lines:
            words = shlex.split(line)
            if words[:2] != ["sam", "deploy"] or "--template-file" not in words:
                continue
            parameters = source(ROOT / words[words.index("--template-file") + 1])["Parameters"]
            required = {name for name, declared in parameters.items() if "Default" not in declared}
            given = {
                word.partition("=")[0]
                for word in words[words.index("--parameter-overrides") + 1 :]
                if "=" in word
            }
            assert required <= given <= parameters.keys(), line


def test_each_recipe_is_in_the_document() -> None:
    document = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    files = [
        path
        for path in (ROOT / "docs" / "recipes").iterdir()
        if path.suffix in {".yaml", ".py", ".mjs"} or (path / "template.yaml").exists()
    ]
    assert files
    assert not [path.name for path in files if f"(recipes/{path.name})" not in document]


def test_the_introduction_of_the_recipes_lists_the_variables_of_the_commands() -> None:
    introduction = section((ROOT / "docs" / "recipes.md").read_text(encoding="utf-8"), "Recipes")
    variables = {name for name in names(introduction) if re.fullmatch(r"[A-Z_]+", name)}
    assert variables - {"API_KEY"} == STACK_ENVIRONMENT - {"API_KEY"}
