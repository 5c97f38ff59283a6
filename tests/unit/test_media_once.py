"""What many ask for at the same time is computed once."""

import threading
import time

import pytest

from verl_care.data.video import (
    MediaError,
    OncePerGroup,
)


class TestOncePerGroup:
    def test_many_askers_one_computation(self):
        cache, calls, everybody_asked = OncePerGroup(capacity=4), [], threading.Event()

        def compute():
            calls.append(threading.get_ident())
            assert everybody_asked.wait(20)
            return object()

        results = []
        askers = [threading.Thread(target=lambda: results.append(cache.get("key", compute))) for _ in range(16)]
        for asker in askers:
            asker.start()
        while not calls:
            time.sleep(0.001)
        everybody_asked.set()
        for asker in askers:
            asker.join(20)
        assert len(calls) == 1
        assert len(results) == 16
        assert len(set(map(id, results))) == 1
        assert cache.get("key", compute) is results[0]

    def test_different_keys_do_not_wait_for_each_other(self):
        cache, second = OncePerGroup(capacity=4), threading.Event()
        first = threading.Thread(target=lambda: cache.get("first", lambda: second.wait(20)))
        first.start()
        assert cache.get("second", lambda: "at once") == "at once"
        assert first.is_alive()
        second.set()
        first.join(20)

    def test_an_error_reaches_all_who_asked_and_is_not_kept(self):
        cache, started, go_on = OncePerGroup(capacity=4), threading.Event(), threading.Event()
        errors = []

        def fail():
            started.set()
            assert go_on.wait(20)
            raise MediaError("clip a.mp4: broken")

        def ask():
            try:
                cache.get("key", fail)
            except MediaError as error:
                errors.append(str(error))

        first = threading.Thread(target=ask)
        first.start()
        assert started.wait(20)
        others = [threading.Thread(target=cache_get_and_collect, args=(cache, errors)) for _ in range(5)]
        for other in others:
            other.start()
        future = cache._results["key"]
        while len(future._condition._waiters) < 5:  # all of them wait for the first
            time.sleep(0.001)
        go_on.set()
        for asker in (first, *others):
            asker.join(20)
        assert errors == ["clip a.mp4: broken"] * 6
        assert cache.get("key", lambda: "mended") == "mended"

    def test_the_longest_unused_goes_first(self):
        cache, calls = OncePerGroup(capacity=2), []

        def get(key):
            return cache.get(key, lambda: calls.append(key))

        for key in ("a", "b", "a", "c", "a", "b"):
            get(key)
        # a, b computed; a found; c pushes b out; a found; b again
        assert calls == ["a", "b", "c", "b"]

    def test_an_error_of_one_pushed_out_does_not_take_its_successor_along(self):
        cache = OncePerGroup(capacity=1)

        def fail_late():
            cache.get("other", lambda: 0)  # pushes "key" out
            cache.get("key", lambda: "newer")
            raise MediaError("older")

        with pytest.raises(MediaError):
            cache.get("key", fail_late)
        assert cache.get("key", lambda: "again") == "newer"


def cache_get_and_collect(cache, errors):
    try:
        cache.get("key", lambda: "never called")
    except MediaError as error:
        errors.append(str(error))
