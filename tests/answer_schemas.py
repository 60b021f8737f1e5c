"""The published JSON schemas of the API, held against every answer where a folder of them is named.

They are not part of this repository: `HEADRACE_SCHEMAS` names a folder that holds them, a file for each, whose
`title` is the type of the answers that it describes.
"""

import json
import os
from pathlib import Path
from typing import Any, Final

import jsonschema

VARIABLE: Final = "HEADRACE_SCHEMAS"
UNPINNED: Final = "io.nats.jetstream.api.v1.consumer_unpin_response"
"""Its schema wants an error within the error, which no server sends."""


class AnswerSchemas:
    """What is known of answers, by their type; knows nothing where no folder is named."""

    def __init__(self) -> None:
        folder = os.environ.get(VARIABLE, "")
        self._validators: dict[str, Any] = {}
        for path in Path(folder).rglob("*.json") if folder else ():
            schema = json.loads(path.read_text(encoding="utf-8"))
            self._validators[schema.get("title", "")] = jsonschema.Draft7Validator(schema)
        self.checked_count = 0

    def check(self, answer: dict[str, Any]) -> None:
        """Fail where an answer is not what its schema describes.

        An answer may be what it is in two ways at once: errors with the empty page that the reference adds are.
        """
        kind = answer.get("type", "")
        validator = self._validators.get(kind)
        if validator is None or (kind == UNPINNED and "error" in answer):
            return
        self.checked_count += 1
        problems = [
            f"{'.'.join(map(str, error.absolute_path))}: {error.message[:300]}"
            for error in validator.iter_errors(answer)
            if error.validator != "oneOf" or error.context
        ]
        assert not problems, f"{kind} is not as its schema says:\n" + "\n".join(problems)
