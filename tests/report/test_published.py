"""Published numbers stand beside runs on the same questions, and beside no others."""

from tests.report.payloads import run
from verl_care.report.published import lines_for


def validated(dataset: str, questions: int):
    return run(validation=[{"step": 0, "dataset": dataset, "questions": questions, "values": {"accuracy": 0.4}}])


def test_a_whole_benchmark_has_its_lines():
    lines = lines_for([validated("seed_bench_r1/L2", 923)])
    assert {(line["method"], line["value"]) for line in lines} >= {("CARE", 0.57), ("GRPO", 0.532), ("noKL", 0.544)}
    assert {line["dataset"] for line in lines} == {"seed_bench_r1/L2"}


def test_a_part_or_a_miniature_of_it_has_none():
    assert lines_for([validated("seed_bench_r1/L2", 256), validated("seed_bench_r1/train", 923)]) == []
