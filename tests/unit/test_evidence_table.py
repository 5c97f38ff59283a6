"""Tables and figures from the results of runs, of results that are not all there as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.collections import PathCollection

from data_prep.miniature_world import LEVELS
from recipes.evidence.plan import VARIANTS
from recipes.evidence.table import __main__ as command
from recipes.evidence.table import bonus, committed, figures, levels, likelihood, link, markdown, paper, seeds
from recipes.evidence.table.goal import CLAUSES, NO_RUNS, NOT_REACHED, NOT_RESOLVED, REACHED
from recipes.evidence.table.statistics import estimate
from recipes.quickstart.probe import CONCLUSIONS
from tests.unit.evidence_results import quarter, read, result, two_pairs, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return two_pairs(tmp_path / "results")


# ------------------------------------------------------------------ results


def test_measures_of_seeds(folder: Path):
    found = committed.read(folder)
    assert found is not None
    assert found.variants == ["no_kl", "care"]
    assert found.measured("no_kl", "sampled", "consistency", "L2") == {0: 0.4, 1: 0.4, 2: 0.1}
    assert found.measured("care", "greedy", "accuracy") == pytest.approx({0: 0.9, 1: 0.8})  # over the levels
    assert found.measured("care", "sampled", "auc", "L1") == {}
    assert found.measured("grpo", "sampled", "accuracy", "L1") == {}
    assert found.measured("warm_start", "sampled", "accuracy", "L1") == {0: 0.4, 1: 0.4, 2: 0.4}
    assert found.levels("warm_start", "greedy") == {}

    assert found.trained("care", "bonus_rate") == {0: 0.4, 1: 0.4}  # the last quarter of 40 steps: the point at 40


def test_a_warm_start_that_only_one_run_validated_is_found(tmp_path: Path):
    later = result("grpo", 0, 0.6, 0.6)
    later["validation"] = later["validation"][-1:]
    assert later["validation"][0]["step"] > 0
    found = committed.read(write(tmp_path, [later, result("no_kl", 0, 0.5, 0.5)]))
    assert found is not None
    assert found.measured("warm_start", "sampled", "accuracy", "L1") == {0: 0.4}


def test_seeds_that_only_some_variants_were_given(tmp_path: Path):
    few = [result(variant, 0, 0.6, 0.5) for variant in ("no_kl", "care", "kl_ema", "ref_gen")]
    few += [result("care_frozen", 1, 0.6, 0.2), result("no_kl", 1, 0.6, 0.5), result("care", 1, 0.6, 0.5)]
    few += [result("no_kl", 5, 0.6, 0.1), result("care", 5, 0.6, 0.9)]
    found = read(tmp_path, *few)
    # of five variants seed 0 has four, seed 1 three, seed 5 two
    assert found.seeds == [0, 1, 5]
    assert found.shared.seeds == [0, 1]
    told = command.of_all_variants(lambda part: f"{part.variants} of {part.seeds}")(found)
    assert told.split("\n\n") == [
        "['no_kl', 'care'] of [0, 1, 5]",
        "Of seeds 0 and 1, all variants that have runs so far:",
        "['no_kl', 'care', 'kl_ema', 'ref_gen', 'care_frozen'] of [0, 1]",
    ]
    assert found.shared.only([0]).variants == ["no_kl", "care", "kl_ema", "ref_gen"]
    made = command.tables(found)
    assert "| CARE | 3 |" in made["headline"]
    assert "| CARE | 3 |" in made["sampled"]
    assert "| CARE | 2 |" in made["sampled"]
    assert "| noKL | sampled | L1 | 3 |" in made["care"]
    assert "| KL-EMA | sampled | L1 | 1 | +0.0 | +0.0 |" in made["methods"]
    assert "| RefGen | sampled | L1 | 1 |" in made["methods"]


def test_no_results_are_none(tmp_path: Path):
    assert committed.read(tmp_path) is None
    assert committed.read(tmp_path / "not there") is None


def test_runs_of_different_lengths_are_no_table(folder: Path):
    write(folder, [result("grpo", 0, 0.5, 0.5, steps=99)])
    with pytest.raises(ValueError, match=r"5 of 40 steps \(care_0.json\), 1 of 99 steps \(grpo_0.json\).*--results"):
        committed.read(folder)


def test_runs_of_different_settings_are_no_table(folder: Path):
    stale = result("grpo", 0, 0.5, 0.5, overrides=["care/method=grpo", "data.seed=0", "optim.lr=5e-5"])
    write(folder, [stale])
    with pytest.raises(ValueError, match=r"care_0.json and grpo_0.json .*: optim.lr=1e-4, optim.lr=5e-5\."):
        committed.read(folder)


def test_warm_starts_of_other_lessons_are_no_table(folder: Path):
    write(folder, [result("grpo", 0, 0.5, 0.5, lessons=1)])
    with pytest.raises(ValueError, match=r"grpo_0.json .*: warm starts of lessons 1, warm starts of lessons 2\."):
        committed.read(folder)


def test_how_often_a_run_was_validated_is_no_setting_of_it(folder: Path):
    oftener = result("grpo", 0, 0.5, 0.5)
    oftener["overrides"] = [*oftener["overrides"], "trainer.test_freq=200"]
    write(folder, [oftener])
    found = committed.read(folder)
    assert found is not None
    assert found.runs["grpo"][0]["overrides"][-1] == "trainer.test_freq=200"


def test_a_file_that_is_no_json_is_named(folder: Path):
    (folder / "grpo_7.json").write_text("{")
    with pytest.raises(ValueError, match=r"grpo_7\.json is no JSON"):
        committed.read(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 1}, "has schema 1"),
        ({"variant": "sft"}, "'sft', no variant"),
        ({"validation": [{"step": 0}, {"step": 20}]}, r"40 steps, validated at \[0, 20\]"),
        ({"validation": []}, r"validated at \[\]"),
    ],
)
def test_a_result_that_cannot_stand_in_a_table_is_named(folder: Path, change: dict[str, Any], words: str):
    (folder / "grpo_7.json").write_text(json.dumps(result("grpo", 7, 0.5, 0.5) | change))
    with pytest.raises(ValueError, match=rf"grpo_7\.json.*{words}.*remove it"):
        committed.read(folder)


# ------------------------------------------------------------------ tables


def test_tables_of_some_variants_and_seeds(folder: Path):
    made = command.tables(committed.read(folder))
    assert "| CARE | 2 | 75.0 ± 5.0 | 80.0 ± 10.0 |" in made["sampled"]
    assert "| warm start | 2 | 40.0 ± 0.0 |" in made["sampled"]  # seed 2 is noKL's alone
    assert "| CARE | 2 | 85.0 ± 5.0 |" in made["greedy"]
    assert "warm start" not in made["greedy"]
    # accuracy +.1 and -.1: mean 0, s = .1 sqrt(2), over sqrt(2) is .1; t(.975, 1) = 12.706. Consistency +.5 and +.3
    assert "| noKL | sampled | L1 | 2 | +0.0 [-127.1, +127.1] | +40.0 [-87.1, +167.1] |" in made["care"]
    assert "GRPO" not in made["care"]
    assert "| CARE | noKL | 2 |" in made["variants-sampled"]
    assert "| noKL | 3 | 0, 1, 2 | 30.0 |" in made["made-with"]
    assert "5 runs of 40 steps, 2.5 hours of training. Machine: 2 logical cores, x86_64." in made["made-with"]
    assert set(made) == set(command.TABLES)


def test_every_variant_has_a_name():
    assert VARIANTS.keys() <= markdown.NAMES.keys()


def test_a_run_alone_makes_every_table_and_figure(tmp_path: Path):
    found = read(tmp_path / "results", result("care", 4, 0.8, 0.9))
    made = command.tables(found)
    assert "| CARE | 1 | 80.0 | 90.0 |" in made["sampled"]
    assert made["goal"].count(NO_RUNS) == 2 * 2 * len(CLAUSES) + 2
    written = figures.write(found, tmp_path / "evidence.md")
    assert [path.name for path in written] == [f"evidence-{name}.png" for name in ("levels", "curves", "reference")]


@pytest.mark.parametrize(
    ("measure", "level", "differences", "verdict"),
    [
        ("consistency", "L1", [0.2, 0.21, 0.22], REACHED),
        ("consistency", "L1", [0.14, 0.14, 0.15], NOT_REACHED),  # above zero, and not by 15 points
        ("consistency", "L1", [0.0, 0.1, 0.8], NOT_RESOLVED),  # 30 +- 108 points
        ("consistency", "L1", [0.5], NOT_RESOLVED),
        ("consistency", "L1", [], NO_RUNS),
        ("accuracy", "L2", [-0.01, -0.012, -0.011], REACHED),  # lower, within two points
        ("accuracy", "L2", [-0.05, 0.05, 0.0], NOT_RESOLVED),
        ("accuracy", "L2", [-0.03, -0.03, -0.02], NOT_REACHED),
        ("accuracy", "L3", [0.01, 0.012, 0.011], REACHED),
        ("accuracy", "L3", [0.0, 0.0, 0.0], NOT_RESOLVED),
        ("accuracy", "L3", [-0.01, -0.01, 0.0], NOT_REACHED),  # within two points is not higher
    ],
)
def test_the_goal_clause_by_clause(measure: str, level: str, differences: list[float], verdict: str):
    (clause,) = [c for c in CLAUSES if (c.measure, c.level) == (measure, level)]
    assert clause.verdict(estimate(differences)) == verdict


def test_the_published_order(tmp_path: Path):
    assert paper.published()["care"] == {"accuracy": [0.57, 0.57, 0.534], "consistency": [0.824]}
    found = read(
        tmp_path,
        # published consistency: GRPO 57.9 < noKL 70.0 < CARE 82.4; here noKL < GRPO < CARE in both seeds
        *(result("grpo", s, 0.5, 0.5 + 0.01 * s) for s in (0, 1)),
        *(result("no_kl", s, 0.6, 0.3 + 0.01 * s) for s in (0, 1)),
        *(result("care", s, 0.7, 0.9) for s in (0, 1)),
        result("care_frozen", 0, 0.9, 0.9),  # not published
        result("ref_gen", 1, 0.9, 0.1),  # a seed alone: it may be the easy one
    )
    made = paper.order(found)
    assert made.endswith("\n\nNot compared, as they lack seeds: RefGen.")
    assert made.count("RefGen") == 1
    assert "| noKL | 2 | 55.4 / 54.4 / 51.3 | 60.0 / 60.0 / 60.0 | 2 / 2 | 70.0 | 30.5 | 2 / 3 |" in made
    assert "frozen" not in made
    # noKL - GRPO is -.2 in both seeds: resolved; CARE - noKL .6 and .59; CARE - GRPO .4 and .39: 12.7 * .005 = .064
    assert "Consistency: of 3 pairs of variants 2 stand in the published order, 2 of them with" in made
    assert "1 in the opposite one, 1 of them with" in made


def test_calibration_of_runs_together(tmp_path: Path):
    low = {"count": [4] + [0] * 9, "likelihood": [0.2] + [0] * 9, "consistent": [1] + [0] * 9}
    high = {"count": [0] * 9 + [6], "likelihood": [0] * 9 + [5.7], "consistent": [0] * 9 + [6]}
    parts = [quarter(**low, auc=None), quarter(**high, auc=0.75, auc_within=0.875, pairs_within=1200, capped=3)]
    # run 0: |.05 - .25| = .2; run 1: |.95 - 1| = .05; mean .125, s = .15 / sqrt(2), over sqrt(2) is .075
    assert [committed.calibration_error(part) for part in parts] == pytest.approx([0.2, 0.05])
    # together: 10 responses, 7 consistent, mean likelihood 5.9 / 10, 3 at the cap
    found = read(tmp_path, *(result("care", s, 0.8, 0.9, calibration=[part]) for s, part in enumerate(parts)))
    row = "| CARE | 1 to 10 | 2 | 10 | 70.0 | 59.0 | 30.0 | 12.5 ± 7.5 | 0.750 (1) | 0.875 (1) | 1,200 |"
    assert likelihood.likelihood(found).splitlines()[2:] == [row]


def test_a_reliability_curve_leaves_rare_bins_out(tmp_path: Path):
    part = quarter(count=[30] + [0] * 8 + [5], likelihood=[1.5] + [0] * 8 + [4.75], consistent=[0] * 9 + [5])
    found = read(tmp_path, result("care", 0, 0.8, 0.9, calibration=[part]))
    (axis,) = figures.calibration(found).axes
    assert [len(points.get_offsets()) for points in axis.collections] == [1]


def test_the_link_of_each_run(tmp_path: Path):
    values = ((0.9, 0.05, 0.25, 0.2, 0.3), (0.5, 0.15, 0.25, 0.2, 0.3))
    probes = [dict(zip(CONCLUSIONS, of_run, strict=True)) for of_run in values]
    runs = [result("care", seed, 0.8, 0.9, probe=probe) for seed, probe in enumerate(probes)]
    table = link.link(read(tmp_path, *runs, result("no_kl", 0, 0.7, 0.4)))  # noKL's run has none
    # own option: mean (.9 + .5) / 2 = .7, s = .2828, standard error .2828 / sqrt(2) = .2; another: .1 and .05
    assert table.splitlines()[2:] == ["| CARE | 2 | 70.0 ± 20.0 | 10.0 ± 5.0 | 25.0 ± 0.0 | 20.0 ± 0.0 | 30.0 ± 0.0 |"]


def known(found: dict[str, Any], before: float, right_letter: float) -> dict[str, Any]:
    """A result whose warm start concludes rightly so often, and whose letters are right so often after training."""
    first, last = found["validation"]
    first, last = (
        {level: found | more for level, found in entry.items() if level != "step"} | {"step": entry["step"]}
        for entry, more in ((first, {"conclusion_right": before}), (last, {"right_letter": right_letter}))
    )
    return found | {"validation": [first, last]}


@pytest.fixture
def of_two_seeds(tmp_path: Path) -> committed.Committed:
    runs = [known(result("no_kl", seed, 0.6, 0.3 + 0.1 * seed), 0.4 - 0.1 * seed, 0.7) for seed in (0, 1)]
    care = known(result("care", 1, 0.6, 0.8), 0.3, 0.7)
    for level in LEVELS:
        care["validation"][-1][level]["lamp_wrong"] = 0.25
    return read(tmp_path, *runs, care, result("care_frozen", 7, 0.6, 0.1))


def test_what_each_warm_start_knew_and_became(of_two_seeds: committed.Committed):
    assert seeds.seeds(of_two_seeds).splitlines() == [
        "| seed | 0 | 1 | 7 | above 67 |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| conclusion right, warm start | 40.0 | 30.0 | - | - |",
        "| consistency, noKL | 30.0 | 40.0 | - | 0 of 2 |",
        "| consistency, CARE | - | 80.0 | - | 1 of 1 |",
        "| consistency, CARE, reference frozen | - | - | 10.0 | 0 of 1 |",
        "| right letter where the lamp is wrong, CARE | - | 25.0 | - | - |",
    ]


def test_the_first_screen(of_two_seeds: committed.Committed):
    # noKL: consistency (.3 + .4) / 2 = .35, s = .0707, over sqrt(2) .05; both: accuracy .6 of them, .21 and .03
    assert paper.summary(of_two_seeds).splitlines()[2:] == [
        "| warm start | 3 | 40.0 ± 0.0 | - | 50.0 ± 0.0 | 20.0 ± 0.0 |",
        "| noKL | 2 | 60.0 ± 0.0 | 70.0 ± 0.0 | 35.0 ± 5.0 | 21.0 ± 3.0 |",
        "| CARE | 1 | 60.0 | 70.0 | 80.0 | 48.0 |",
    ]


def test_a_line_from_warm_start_to_warm_start(of_two_seeds: committed.Committed):
    (axis,) = figures.start(of_two_seeds).axes
    (line,) = axis.get_lines()  # CARE has one seed, and one point is no line
    assert line.get_label() == "noKL"
    assert line.get_xydata().ravel() == pytest.approx([0.3, 0.4, 0.4, 0.3])


def test_every_variant_with_its_runs(of_two_seeds: committed.Committed):
    right_letter, consistency, _ = figures.variants(of_two_seeds).axes
    assert [label.get_text() for label in right_letter.get_yticklabels()] == ["noKL", "CARE", "CARE, reference frozen"]
    rings = [
        found.get_offsets().round(9).tolist() for found in consistency.collections if isinstance(found, PathCollection)
    ]
    assert rings == [[[0.3, 0], [0.4, 0]], [[0.8, 1]], [[0.1, 2]]]
    means = [line.get_xdata()[0] for line in consistency.get_lines()]
    assert means == pytest.approx([0.35, 0.8, 0.1])
    (error,) = consistency.containers[0].lines[2]
    assert error.get_segments()[0][:, 0].tolist() == pytest.approx([0.3, 0.4])  # .35 -+ .05, the standard error


def test_what_the_bonus_told_apart(tmp_path: Path):
    def of(told_apart: int, groups: int, **tokens: int) -> dict[str, Any]:
        return {"answer_tokens": {name[1:]: count for name, count in tokens.items()}} | {
            "groups": groups,
            "told_apart": told_apart,
        }

    runs = (
        result("care", 0, 0.6, 0.8) | {"bonus": of(30, 200, _1=900)},
        result("care", 1, 0.6, 0.8) | {"bonus": of(10, 50, _1=90, _2=10)},
        result("care", 2, 0.6, 0.8),  # of before
        result("kl_ema", 0, 0.6, 0.8) | {"bonus": of(0, 200, _1=900)},  # no bonus
    )
    # 40 of 250; 15 and 20 %; 1,000 answers, ten of two tokens
    assert bonus.bonus(read(tmp_path, *runs)).splitlines()[2:] == [
        "| CARE | 2 | 250 | 16.0 | 15, 20 | 1,000 | 10 |",
    ]
    assert bonus.bonus(read(tmp_path / "b", result("care", 2, 0.6, 0.8))) == "No result says it."


def test_whether_runs_of_a_seed_began_alike(tmp_path: Path):
    def made_with(*starts: tuple[str, int, str | None]) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        runs = [result(v, seed, 0.6, 0.8) | ({"warm_start": w} if w else {}) for v, seed, w in starts]
        return levels.made_with(read(folder, *runs))

    assert "began" not in made_with(("care", 0, None), ("no_kl", 0, None))
    alike = made_with(("care", 0, "a"), ("no_kl", 0, "a"), ("care", 1, "b"), ("no_kl", 1, None))
    assert alike.endswith("3 runs say with which weights they began: those of a seed began alike.")
    differing = made_with(("care", 0, "a"), ("no_kl", 0, "c"), ("care", 1, "b"), ("no_kl", 1, "b"))
    assert differing.endswith("4 runs say with which weights they began: seeds 0 began with different ones.")
