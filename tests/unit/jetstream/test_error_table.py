"""The error table is what the generator makes of the protocol's list."""

import json
from pathlib import Path

import pytest

from headrace.jetstream import error_table
from headrace.jetstream.errors import ApiError, ErrorKind
from headrace.tools import generate_errors


def kinds() -> list[ErrorKind]:
    return [value for value in vars(error_table).values() if isinstance(value, ErrorKind)]


def test_every_code_stands_for_one_error() -> None:
    codes = [kind.err_code for kind in kinds()]
    assert len(codes) == len(set(codes)) == 226
    assert min(codes) >= 10002
    assert max(codes) == 10227


def test_placeholders_are_filled_in() -> None:
    error = ApiError(error_table.STREAM_WRONG_LAST_SEQUENCE, seq=7)
    assert error.body() == {"code": 400, "err_code": 10071, "description": "wrong last sequence: 7"}


def test_what_a_peer_sent_is_not_taken_for_a_placeholder() -> None:
    assert ApiError(error_table.INVALID_JSON, err="{err} {0}").description == "invalid JSON: {err} {0}"


@pytest.mark.parametrize(
    ("name", "constant"),
    [
        ("JSStreamNotFoundErr", "STREAM_NOT_FOUND"),
        ("JSStreamInvalidConfigF", "STREAM_INVALID_CONFIG"),
        ("JSInvalidJSONErr", "INVALID_JSON"),
        ("JSStreamWrongLastMsgIDErrF", "STREAM_WRONG_LAST_MSG_ID"),
        ("JSConsumerWQRequiresExplicitAckErr", "CONSUMER_WQ_REQUIRES_EXPLICIT_ACK"),
    ],
)
def test_a_constant_is_called_as_its_error_is(name: str, constant: str) -> None:
    assert generate_errors.constant_name(name) == constant


def test_the_generator_writes_a_table(tmp_path: Path) -> None:
    listed = [{"name": "JSBadRequestErr", "code": 400, "err_code": 10003, "description": "bad request"}]
    (tmp_path / "list.json").write_text(json.dumps(listed))
    arguments = [str(tmp_path / "list.json"), str(tmp_path / "table.py")]
    assert generate_errors.main(arguments) == 0
    assert 'BAD_REQUEST: Final = ErrorKind(400, 10003, "bad request")' in (tmp_path / "table.py").read_text()
    assert generate_errors.main([]) == 2


def test_an_error_listed_twice_is_refused(tmp_path: Path) -> None:
    row = {"name": "JSBadRequestErr", "code": 400, "err_code": 10003, "description": "bad request"}
    (tmp_path / "list.json").write_text(json.dumps([row, row]))
    with pytest.raises(ValueError, match="listed twice"):
        generate_errors.main([str(tmp_path / "list.json"), str(tmp_path / "table.py")])
