"""What the documents use of the AWS CLI, over botocore's own models: a command that it refuses, AWS would, too.

`python -m tests.support.aws_cli sns subscribe --topic-arn …` does one call, at AWS_ENDPOINT_URL if that is set.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jmespath
from botocore import xform_name
from botocore.model import OperationModel, Shape, StructureShape
from botocore.session import Session

# The CLI calls some parameters otherwise than the API does.
RENAMED = {("sns", "subscribe", "notification-endpoint"): "endpoint"}
# Commands of the CLI that are no operation of an API.
NO_OPERATION = {("s3", "cp"), ("s3", "ls"), ("s3", "rm"), ("s3", "rb"), ("logs", "tail")}


@dataclass(frozen=True, slots=True)
class Call:
    """One command: the operation, what it is given, and what of the answer is printed."""

    service: str
    operation: OperationModel
    given: dict[str, Any]
    query: str | None = None
    output: str = "json"
    positional: list[str] = field(default_factory=list)

    @property
    def missing(self) -> list[str]:
        """The parameters that the operation needs and was not given."""
        shape = self.operation.input_shape
        return [name for name in shape.required_members if name not in self.given] if shape else []


def read(words: list[str]) -> Call | None:
    """The call that a command without its `aws` means; None for one that is no operation.

    Raises ValueError for what the CLI would refuse: no such service, operation or parameter.
    """
    service, name, *rest = words
    if (service, name) in NO_OPERATION:
        return None
    model = Session().get_service_model(service)
    operations = {xform_name(each, "-"): each for each in model.operation_names}
    if name not in operations:
        raise ValueError(f"{service} has no operation {name}")
    operation = model.operation_model(operations[name])
    shape = operation.input_shape
    members = {xform_name(member, "-"): member for member in shape.members} if shape else {}
    given: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    positional: list[str] = []
    while rest:
        option = rest.pop(0)
        values = []
        while rest and not rest[0].startswith("--"):
            values.append(rest.pop(0))
        if option in {"--query", "--output"}:
            shown[option[2:]], *positional = values
        elif option == "--cli-binary-format":
            continue
        elif not option.startswith("--"):
            positional = [option, *values]
        else:
            known = RENAMED.get((service, name, option[2:]), option[2:])
            member, on = _member(known, members, f"{service} {name}")
            given[member], left = _value(shape, member, values, on=on)
            positional += left
    return Call(service, operation, given, positional=positional, **shown)


def _member(option: str, members: dict[str, str], command: str) -> tuple[str, bool]:
    if option in members:
        return members[option], True
    if option.removeprefix("no-") in members:
        return members[option.removeprefix("no-")], False
    raise ValueError(f"{command} has no --{option}")


def _value(parent: Shape | None, member: str, words: list[str], *, on: bool) -> tuple[Any, list[str]]:
    """A parameter's value as the CLI reads it, and the words that are none of it. No shorthand: the docs use JSON."""
    assert isinstance(parent, StructureShape)
    shape = parent.members[member]
    if shape.type_name == "boolean":
        return on, words
    word, *left = words
    if word.startswith(("file://", "fileb://")):
        word = Path(word.partition("://")[2]).read_text(encoding="utf-8")
    if shape.type_name in {"integer", "long"}:
        return int(word), left
    if shape.type_name == "list" and not word.lstrip().startswith(("[", "{")):
        return words, []
    if shape.type_name in {"list", "map", "structure"}:
        value = json.loads(word)
        # One entry may stand for a list of one.
        return ([value] if shape.type_name == "list" and isinstance(value, dict) else value), left
    return word, left


def main(words: list[str]) -> int:
    """Do it, print the answer, return the exit code."""
    call = read(words)
    if call is None:
        raise ValueError(f"{' '.join(words[:2])}: not done here")
    client = Session().create_client(call.service)
    answer = client._make_api_call(call.operation.name, call.given)  # type: ignore[attr-defined]  # noqa: SLF001
    answer.pop("ResponseMetadata", None)
    for name, value in answer.items():
        if hasattr(value, "read"):
            answer[name] = value.read().decode()
            if call.positional:
                Path(call.positional[0]).write_text(answer.pop(name), encoding="utf-8")
                break
    said = jmespath.search(call.query, answer) if call.query else answer
    if call.output == "text":
        said = "\t".join(map(str, said)) if isinstance(said, list) else said
        sys.stdout.write(f"{said}\n")
    else:
        sys.stdout.write(json.dumps(said, indent=2, default=str) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
