"""Pages of the state of a topic."""

from bridge.backends.redis.keys import Keys
from bridge.backends.redis.states import MAX_NAMED, StatesPage, states_call
from bridge.model.position import Position

HEAD = [b"0a", b"7", b"99"]


def state(name: bytes) -> list[object]:
    return [name, [b"rank", b"1"], [], []]


def test_a_page_of_one_node_is_complete_with_its_answer() -> None:
    """It has the position of the topic, unless the backend keeps none."""
    page = StatesPage("before")
    page.requested += 1
    assert page.add([HEAD, [state(b"group"), state(b"one")], [], b"one"]) == []
    found = page.states("group", with_position=True)
    assert found is not None
    assert [known.topic for known in found.states] == ["group", "one"]
    assert (found.position, found.after, found.more) == (Position("0a", 7, 99), "before", "one")
    without = page.states("group", with_position=False)
    assert without is not None
    assert without.position is None


def test_a_page_of_several_nodes_waits_for_all_answers() -> None:
    """The first answer names the members on other nodes and has the position."""
    page = StatesPage(None)
    page.requested += 1
    assert page.add([HEAD, [state(b"group")], [b"one", b"two"], None]) == ["one", "two"]
    page.requested += 2
    assert page.add([[b"0b", b"1", b"1"], [state(b"one")], [b"not a member"], b"more"]) == []
    assert page.states("group", with_position=True) is None
    page.add([[None, None, None], [state(b"two")], [], None])
    found = page.states("group", with_position=True)
    assert found is not None
    assert [known.topic for known in found.states] == ["group", "one", "two"]
    assert (found.position, found.more) == (Position("0a", 7, 99), None)


def test_the_call_has_names_of_the_topic_only() -> None:
    """Names of members are known on the server alone; the script gets what stands around them."""
    keys = Keys("ns", logged=True, database=0)
    call = states_call(keys, "group", None, True)
    assert call.keys == [b"ns:{t:group}:meta", b"ns:{t:group}:members"]
    assert call.args[:2] == ["group", ""]
    assert call.args[3:] == [MAX_NAMED, b"ns:{t:", b"}:meta", b"}:entries", b"}:rows"]
