"""The memory budget of a process."""

import pytest

from bridge.support.memory import SMALLEST_STEP, MemoryBudget


class Holder:
    """Holds bytes, and gives back what is asked of it."""

    def __init__(self, kind: str, share: float, held: int) -> None:
        self.kind = kind
        self.share = share
        self.held = held

    def shed(self, most: int) -> None:
        self.held = min(self.held, most)


@pytest.fixture
def budget() -> MemoryBudget:
    return MemoryBudget()


def test_over_the_budget_each_kind_goes_back_to_its_share(budget: MemoryBudget) -> None:
    """Who keeps less than its share loses nothing."""
    tails, slow, quick = Holder("tails", 0, 300), Holder("backlogs", 0.5, 700), Holder("queues", 0.25, 100)
    for holder in (tails, slow, quick):
        budget.add(holder, 1200)
    budget.check()
    assert (tails.held, slow.held, quick.held) == (300, 700, 100)
    quick.held = 201
    budget.check()
    assert (tails.held, slow.held, quick.held) == (0, 600, 201)


def test_holders_of_one_kind_divide_its_share(budget: MemoryBudget) -> None:
    """Two loops in a process have no more than one has; who keeps more gives back more."""
    holders = [Holder("backlogs", 0.5, held) for held in (900, 300, 0)]
    for holder in holders:
        budget.add(holder, 1000)
    budget.check()
    assert [holder.held for holder in holders] == [375, 125, 0]


def test_the_smallest_limit_holds_as_long_as_its_holder(budget: MemoryBudget) -> None:
    """Without one it is a quarter of what the process may use."""
    default = budget.limit
    assert default > 1_000_000
    small, other = Holder("queues", 0.25, 0), Holder("queues", 0.25, 0)
    budget.add(small, 1000)
    budget.add(other, 2000)
    assert (budget.limit, budget.step) == (1000, SMALLEST_STEP)
    budget.remove(small)
    assert budget.limit == 2000
    del other
    assert budget.limit == default


def test_the_figures_name_every_kind(budget: MemoryBudget) -> None:
    """Also those of which nothing waits."""
    holder = Holder("tails", 0, 7)
    budget.add(holder, 10)
    assert budget.stats() == {
        "memory_limit": 10,
        "memory_backlogs": 0,
        "memory_tails": 7,
        "memory_queues": 0,
        "memory_unpublished": 0,
    }
