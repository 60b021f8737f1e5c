"""What the oracle masks, what it compares, and what it never hides."""

from pathlib import Path

from headrace.tools.oracle import Scenario, compare, load_scenarios, load_transcripts, save_transcripts
from headrace.tools.oracle.normalise import normalise


def test_times_are_masked_and_the_zero_time_is_not() -> None:
    answer = {"created": "2026-01-02T03:04:05.678Z", "first_ts": "0001-01-01T00:00:00Z"}
    assert normalise(answer, {}) == {"created": "<time>", "first_ts": "0001-01-01T00:00:00Z"}


def test_an_ack_subject_keeps_its_numbers_and_loses_its_time() -> None:
    subject = "$JS.ACK.ORDERS.worker.2.15.31.1795446701648646060.7"
    assert normalise(subject, {}) == "$JS.ACK.ORDERS.worker.2.15.31.<ns>.7"


def test_names_of_chance_are_masked() -> None:
    assert normalise("_INBOX.abc.DEF", {}) == "<inbox>"
    assert normalise("$JS.FC.S.C.aZ09", {}) == "$JS.FC.S.C.<token>"
    assert normalise(["xq81ZjAa"], {"xq81ZjAa": "<ephemeral>"}) == ["<ephemeral>"]


def test_a_masked_key_must_still_be_there() -> None:
    wanted = [{"step": "greeting", "saw": normalise({"server_id": "A", "port": 1}, {})}]
    found = [{"step": "greeting", "saw": normalise({"server_id": "B"}, {})}]
    assert len(compare(wanted, found)) == 1


def test_an_empty_value_of_a_masked_key_is_shown() -> None:
    assert normalise({"server_name": ""}, {}) == {"server_name": ""}


def test_order_of_keys_does_not_matter_and_order_of_lists_does() -> None:
    assert compare([{"step": "a", "saw": {"x": 1, "y": 2}}], [{"step": "a", "saw": {"y": 2, "x": 1}}]) == []
    assert len(compare([{"step": "a", "saw": [1, 2]}], [{"step": "a", "saw": [2, 1]}])) == 1


def test_every_difference_is_named_with_both_sides() -> None:
    wanted = [{"step": "one", "saw": 1}, {"step": "two", "saw": "yes"}]
    (difference,) = compare(wanted, [{"step": "one", "saw": 1}, {"step": "two", "saw": "no"}])
    assert difference.step == "2. two"
    assert '- "saw": "yes"' in difference.text
    assert '+ "saw": "no"' in difference.text


def test_a_missing_step_is_a_difference() -> None:
    assert len(compare([{"step": "one", "saw": 1}], [])) == 1
    assert len(compare([], [{"step": "one", "saw": 1}])) == 1


def test_transcripts_are_kept_by_module(tmp_path: Path) -> None:
    saved = {"a.one": [{"step": "x", "saw": 1}], "b.two": [{"step": "ü", "saw": [None]}]}
    save_transcripts(tmp_path, "1.0", saved)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]
    assert load_transcripts(tmp_path) == saved


def test_scenarios_are_found_in_a_folder_and_other_functions_are_not(tmp_path: Path) -> None:
    (tmp_path / "stories.py").write_text(
        "from headrace.tools.oracle import Lab, scenario\n"
        "async def helper(lab: Lab) -> None: ...\n"
        "@scenario(config='port: 1', shares_server=False)\n"
        "async def it_works(lab: Lab) -> None: ...\n"
    )
    (found,) = load_scenarios(tmp_path)
    assert isinstance(found, Scenario)
    assert found.title == "stories.it_works"
    assert found.config == "port: 1"
    assert not found.shares_server
