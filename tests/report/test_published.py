"""Published numbers stand beside runs on the same questions, and beside no others."""

from tests.report.payloads import run
from verl_care.report.published import lines_for


def validated(dataset: str, questions: int):
    return run(validation=[{"step": 0, "dataset": dataset, "questions": questions, "values": {"accuracy": 0.4}}])


def test_a_whole_benchmark_has_its_lines():
    lines = lines_for([validated("seed_bench_r1/L2", 923)])
    assert {(line["method"], line["value"]) for line in lines} >= {("CARE", 0.57), ("GRPO", 0.532), ("noKL", 0.544)}
    assert {line["dataset"] for line in lines} == {"seed_bench_r1/L2"}


def test_the_lines_of_all_levels():
    questions = {"L1": 2432, "L2": 923, "L3": 1321}
    lines = lines_for([validated(f"seed_bench_r1/{level}", count) for level, count in questions.items()])
    accuracies = {
        "L1": {"Qwen2.5-VL-7B": 0.384, "SFT": 0.462, "GRPO": 0.523, "noKL": 0.554, "CARE": 0.570},
        "L2": {"Qwen2.5-VL-7B": 0.401, "SFT": 0.463, "GRPO": 0.532, "noKL": 0.544, "CARE": 0.570},
        "L3": {"Qwen2.5-VL-7B": 0.313, "SFT": 0.427, "GRPO": 0.467, "noKL": 0.513, "CARE": 0.534},
    }
    assert lines == [
        {"metric": "accuracy", "dataset": f"seed_bench_r1/{level}", "method": method, "value": value}
        for level, by_method in accuracies.items()
        for method, value in by_method.items()
    ]


def test_a_part_or_a_miniature_of_it_has_none():
    assert lines_for([validated("seed_bench_r1/L2", 256), validated("seed_bench_r1/train", 923)]) == []
