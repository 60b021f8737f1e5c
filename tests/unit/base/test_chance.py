"""The one generator: specified, seeded, even."""

from headrace.core.base.chance import Chance


def test_the_sequence_of_a_seed_is_fixed() -> None:
    """The values pin the algorithm; the compiled engine has to give the same."""
    chance = Chance(42)
    assert [chance.bits64() for _ in range(3)] == [
        1546998764402558742,
        6990951692964543102,
        12544586762248559009,
    ]


def test_seeds_differ() -> None:
    assert Chance(1).bits64() != Chance(2).bits64()


def test_below_stays_in_its_bounds_and_reaches_all() -> None:
    chance = Chance(7)
    assert {chance.below(5) for _ in range(200)} == {0, 1, 2, 3, 4}


def test_below_is_even_within_a_tenth() -> None:
    chance = Chance(7)
    counts = [0] * 4
    for _ in range(40_000):
        counts[chance.below(4)] += 1
    assert all(9_000 < count < 11_000 for count in counts)


def test_a_nuid_has_22_characters_of_base62() -> None:
    nuid = Chance(1).nuid()
    assert len(nuid) == 22
    assert nuid.isalnum()
    assert nuid.isascii()
