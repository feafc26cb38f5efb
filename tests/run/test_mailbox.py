from __future__ import annotations

import select
import threading

from planner.run.mailbox import Mailbox


def test_messages_wake_the_one_that_listens_in_their_order() -> None:
    box: Mailbox[int] = Mailbox()
    box.put(1)
    with box.bell() as bell:
        assert select.select([bell], [], [], 5)[0]
        assert box.take(bell) == [1]
        assert not select.select([bell], [], [], 0)[0]
        late = threading.Timer(0.01, lambda: [box.put(number) for number in (2, 3)])
        late.start()
        assert select.select([bell], [], [], 5)[0]
        late.join()
        assert box.take(bell) == [2, 3]
    box.put(4)


def test_a_thousand_messages_do_not_block_the_sender() -> None:
    box: Mailbox[int] = Mailbox()
    with box.bell() as bell:
        for number in range(5_000):
            box.put(number)
        assert box.take(bell) == list(range(5_000))
