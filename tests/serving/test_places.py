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
