"""What many ask for at the same time is made once, in time, and kept within a bound."""

import threading
import time
from concurrent.futures import Future

import pytest

from verl_care.data.decoders import MediaError
from verl_care.data.memory import MemoryCache
from verl_care.data.pool import DecodePool


def done(value):
    future = Future()
    future.set_result(value)
    return future


class TestMemoryCache:
    def test_many_askers_one_computation(self):
        cache, pool, started, go_on = MemoryCache(100, len), DecodePool(4), [], threading.Event()

        def compute():
            assert go_on.wait(20)
            return "ten bytes."

        def start():
            started.append(1)
            return pool.submit("it", 20, compute)

        futures = [cache.get("key", start) for _ in range(16)]
        go_on.set()
        results = [future.result(20) for future in futures]
        assert len(started) == 1
        assert len(set(map(id, results))) == 1
        assert cache.get("key", start).result(20) is results[0]  # and is kept
        assert len(started) == 1

    def test_different_keys_do_not_wait_for_each_other(self):
        cache, pool, go_on = MemoryCache(100, len), DecodePool(2), threading.Event()
        first = cache.get("first", lambda: pool.submit("it", 20, lambda: go_on.wait(20) and "late"))
        assert cache.get("second", lambda: pool.submit("it", 20, lambda: "at once")).result(20) == "at once"
        assert not first.done()
        go_on.set()
        assert first.result(20) == "late"

    def test_an_error_reaches_all_who_asked_and_is_not_kept(self):
        cache, shared = MemoryCache(100, len), Future()
        futures = [cache.get("key", lambda: shared) for _ in range(6)]
        shared.set_exception(MediaError("clip a.mp4: broken"))
        assert {str(future.exception()) for future in futures} == {"clip a.mp4: broken"}
        assert cache.get("key", lambda: done("mended")).result() == "mended"

    def test_the_longest_unused_goes_first(self):
        cache, made = MemoryCache(20, len), []

        def get(key):
            cache.get(key, lambda: made.append(key) or done("ten bytes."))

        for key in ("a", "b", "a", "c", "a", "b"):
            get(key)
        # a, b made; a found; c pushes b out; a found; b again
        assert made == ["a", "b", "c", "b"]
        assert cache.bytes == 20

    def test_one_that_is_larger_than_the_bound_is_not_kept(self):
        cache = MemoryCache(5, len)
        assert cache.get("key", lambda: done("ten bytes.")).result() == "ten bytes."
        assert cache.bytes == 0

    def test_never_above_the_bound(self):
        cache = MemoryCache(1000, len)
        for prompt in range(500):
            size = prompt * 37 % 400
            for _response in range(8):
                assert len(cache.get(prompt, lambda size=size: done("x" * size)).result()) == size
            assert cache.bytes <= 1000
            assert cache.bytes == sum(len(future.result()) for future in cache._kept.values())


class TestDecodePool:
    def test_not_more_at_a_time_than_threads(self):
        pool, lock, now, most = DecodePool(3), threading.Lock(), [0], [0]

        def job():
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            time.sleep(0.005)
            with lock:
                now[0] -= 1

        for future in [pool.submit("job", 20, job) for _ in range(30)]:
            future.result(20)
        assert 1 <= most[0] <= 3

    def test_one_that_hangs_costs_itself_alone(self):
        pool, forever = DecodePool(1), threading.Event()
        hanging = pool.submit("clip a.mp4", 0.05, forever.wait)
        after = pool.submit("clip b.mp4", 20, lambda: "fine")
        with pytest.raises(MediaError, match=r"clip a\.mp4: not decoded in 0\.05 s \(data\.video\.timeout_s\)"):
            hanging.result(20)
        assert after.result(20) == "fine"  # the only thread hangs still; another has taken its place
        forever.set()

    def test_the_wait_for_a_thread_is_no_part_of_the_limit(self):
        pool, go_on = DecodePool(1), threading.Event()
        first, second = pool.submit("a", 20, lambda: go_on.wait(20)), pool.submit("b", 0.05, lambda: "fine")
        time.sleep(0.1)
        assert not second.done()
        go_on.set()
        assert first.result(20)
        assert second.result(20) == "fine"

    def test_an_error_is_the_askers(self):
        def fail():
            raise MediaError("clip a.mp4: broken")

        pool = DecodePool(1)
        with pytest.raises(MediaError, match="broken"):
            pool.submit("clip a.mp4", 20, fail).result(20)
        assert pool.submit("clip b.mp4", 20, lambda: "fine").result(20) == "fine"

    def test_an_asker_that_gives_up_does_not_take_the_others_along(self):
        pool, go_on = DecodePool(1), threading.Event()
        future = pool.submit("it", 20, lambda: go_on.wait(20) and "made")
        assert not future.cancel()
        go_on.set()
        assert future.result(20) == "made"
