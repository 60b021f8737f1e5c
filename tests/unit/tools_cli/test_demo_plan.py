"""When the demo kills the server."""

from headrace.tools.demo.orders import Plan


def test_the_same_seed_kills_at_the_same_points() -> None:
    assert Plan(20_000, 10, 7).kill_points() == Plan(20_000, 10, 7).kill_points()


def test_kills_come_in_order_and_before_the_last_order() -> None:
    points = Plan(20_000, 10, 3).kill_points()
    assert points == sorted(points)
    assert points[-1] < 20_000
    assert len(points) == 10
