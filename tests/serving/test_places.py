"""Where predictions compute: how many at once, and since when."""

from __future__ import annotations

import threading

from berth.serving.places import ComputePlaces


def test_places_are_held_one_a_thread_and_know_their_age() -> None:
    now = [100.0]
    places = ComputePlaces(2, lambda: now[0])
    assert places.take()
    assert not places.all_older(0.5)
    now[0] = 101.0
    thread = threading.Thread(target=places.take)
    thread.start()
    thread.join()
    assert not places.take()
    assert not places.take(0.01)
    assert sorted(places.ages()) == [0.0, 1.0]
    assert not places.all_older(0.5)  # one has just begun
    now[0] = 102.0
    assert places.all_older(0.5)
    places.give_back()
    assert not places.all_older(0.5)
    with places:
        assert places.ages() == [1.0, 0.0]
    assert places.ages() == [1.0]


def test_places_go_to_who_waits_in_order_of_arrival() -> None:
    places, order = ComputePlaces(1), list[str]()
    queued = [threading.Event() for _ in range(4)]

    def compute(at: int) -> None:
        queued[at].set()
        assert places.take(10)
        order.append(f"waiter {at}")
        places.give_back()

    def overtake() -> None:
        while len(order) < 4 and not places.take():
            pass  # as a stream of requests that come while others wait
        order.append("newcomer")

    assert places.take()
    threads = []
    for at in range(4):
        threads.append(threading.Thread(target=compute, args=(at,)))
        threads[-1].start()
        queued[at].wait()
        while places.waiting < at + 1:
            pass
    threads.append(threading.Thread(target=overtake))
    threads[-1].start()
    places.give_back()
    for thread in threads:
        thread.join()
    assert order[:4] == [f"waiter {at}" for at in range(4)]


def test_who_gives_up_waiting_gets_no_place() -> None:
    places = ComputePlaces(1)
    assert places.take()
    refused = threading.Thread(target=lambda: places.take(0.01))
    refused.start()
    refused.join()
    places.give_back()
    assert places.take()
    places.give_back()
