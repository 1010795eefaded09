"""The OpenAPI document: complete, and true of its own examples."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from control_api.app import create_app
from control_api.life import Life
from control_api.routes.openapi import document
from control_api.settings import load
from tests.unit.control_api.test_edges import ENVIRONMENT


@pytest.fixture(scope="module")
def shown() -> dict[str, Any]:
    return document(create_app(load(ENVIRONMENT), Life()).app.openapi_schema.to_schema())


def operations(shown: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method} {path}", operation)
        for path, item in shown["paths"].items()
        for method, operation in item.items()
    ]


def bodies(operation: dict[str, Any]) -> list[dict[str, Any]]:
    found = list(operation["responses"].values())
    return [media for answer in found for media in answer.get("content", {}).values()]


def test_every_answer_with_a_body_has_a_schema_and_an_example(shown: dict[str, Any]) -> None:
    missing = [
        name
        for name, operation in operations(shown)
        for media in bodies(operation)
        if not media.get("schema") or not (media.get("examples") or media.get("example"))
    ]
    assert not missing


def test_every_operation_says_what_is_refused(shown: dict[str, Any]) -> None:
    for name, operation in operations(shown):
        answers = operation["responses"]
        assert {"400", "401", "403", "429", "500", "503"} <= answers.keys(), name
        assert "default" not in answers, name
        if "{" in name:
            assert "404" in answers, name
        if "requestBody" in operation:
            assert {"413", "415", "422"} <= answers.keys(), name
        assert all(answer["description"] for answer in answers.values()), name


def test_every_example_is_true_of_its_schema(shown: dict[str, Any]) -> None:
    for name, operation in operations(shown):
        request = operation.get("requestBody", {}).get("content", {}).values()
        for media in [*request, *bodies(operation)]:
            examples = [found["value"] for found in media.get("examples", {}).values()]
            examples += [media["example"]] if "example" in media else []
            schema = media["schema"] | {"components": shown["components"]}
            for example in examples:
                wrong = [error.message for error in Draft202012Validator(schema).iter_errors(example)]
                assert not wrong, f"{name}: {wrong[:2]}"


def test_every_operation_has_a_name_of_its_own_a_summary_and_a_tag(shown: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(shown)]
    assert len(set(names)) == len(names)
    assert all(operation["summary"] and operation["tags"] for _, operation in operations(shown))
