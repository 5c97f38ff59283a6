"""Hit rates from what verl's requests and vLLM's counters say."""

from types import SimpleNamespace

import pytest

from verl_care.rollout_caches import clip_cache_counts, clip_cache_metrics, prefix_cache_metrics


def test_prefix_rate_by_hand():
    # a group of four with 100 prompt tokens, 96 of them in whole blocks: 3 * 96 / 400
    assert prefix_cache_metrics([0, 96, 96, 96], [100] * 4) == {"care/prefix_cache_hit_rate": pytest.approx(0.72)}


def test_responses_whose_server_does_not_say_are_left_out():
    assert prefix_cache_metrics([None, 50], [1000, 100]) == {"care/prefix_cache_hit_rate": 0.5}
    assert prefix_cache_metrics([None], [100]) == {}
    assert prefix_cache_metrics([], []) == {}


def test_clip_rate_is_over_all_servers():
    assert clip_cache_metrics([(0, 0)] * 2, [(7, 8), (0, 2)]) == {"care/clip_cache_hit_rate": 0.7}
    assert clip_cache_metrics([(0, 0)], [(0, 0)]) == {}


def test_clips_of_a_validation_before_the_step_do_not_count():
    assert clip_cache_metrics([(0, 768), (1, 2)], [(7, 776), (1, 4)]) == {"care/clip_cache_hit_rate": 0.7}


def test_counts_of_a_server():
    cache = SimpleNamespace(make_stats=lambda: SimpleNamespace(hits=3, total=4))
    server = SimpleNamespace(engine=SimpleNamespace(renderer=SimpleNamespace(mm_processor_cache=cache)))
    assert clip_cache_counts(server) == (3, 4)
    server.engine.renderer.mm_processor_cache = None
    assert clip_cache_counts(server) == (0, 0)
