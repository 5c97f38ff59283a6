"""Hit rates from what verl's requests and vLLM's counters say."""

from types import SimpleNamespace

import pytest

from verl_care.rollout_caches import ClipCacheMeter, clip_cache_counts, prefix_cache_metrics


def test_prefix_rate_by_hand():
    # a group of four with 100 prompt tokens, 96 of them in whole blocks: 3 * 96 / 400
    assert prefix_cache_metrics([0, 96, 96, 96], [100] * 4) == {"care/prefix_cache_hit_rate": pytest.approx(0.72)}


def test_responses_whose_server_does_not_say_are_left_out():
    assert prefix_cache_metrics([None, 50], [1000, 100]) == {"care/prefix_cache_hit_rate": 0.5}
    assert prefix_cache_metrics([None], [100]) == {}
    assert prefix_cache_metrics([], []) == {}


def test_clip_rate_is_of_the_time_since_the_last_question():
    meter = ClipCacheMeter()
    assert meter.metrics([(7, 8), (0, 2)]) == {"care/clip_cache_hit_rate": 0.7}
    assert meter.metrics([(7, 8), (3, 6)]) == {"care/clip_cache_hit_rate": 0.75}  # 3 of 4
    assert meter.metrics([(7, 8), (3, 6)]) == {}  # no clip since


def test_servers_without_a_clip_cache_or_another_number_of_them():
    meter = ClipCacheMeter()
    assert meter.metrics([None]) == {}
    assert meter.metrics([(1, 2), None]) == {"care/clip_cache_hit_rate": 0.5}


def test_counts_of_a_server():
    cache = SimpleNamespace(make_stats=lambda: SimpleNamespace(hits=3, total=4))
    server = SimpleNamespace(engine=SimpleNamespace(renderer=SimpleNamespace(mm_processor_cache=cache)))
    assert clip_cache_counts(server) == (3, 4)
    server.engine.renderer.mm_processor_cache = None
    assert clip_cache_counts(server) is None
