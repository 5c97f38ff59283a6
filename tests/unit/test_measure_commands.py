"""The judge-free commands of `python -m verl_care.evaluation` on a folder of answers."""

import json
import sys
from types import SimpleNamespace

import pytest

from verl_care.evaluation import __main__ as evaluation
from verl_care.evaluation.measures import agreement
from verl_care.evaluation.rows import Key, Measured, Row, append_measures, append_rows, read_measures, slug
from verl_care.platforms.cpu.vllm import ENVIRONMENT

OPTIONS = ("A. heat", "B. bake")


def answer(id, response, options=OPTIONS):
    return Row(
        dataset="m/L1", id=id, sample=0, problem_type="multiple choice", ground_truth="A", question="What next?",
        options=options, response=response, finish=None if response is None else "stop", response_tokens=5,
        failure="media: broken" if response is None else None,
    )  # fmt: skip


ROWS = [
    answer("1", "<think>so heat</think><answer>A</answer>"),
    answer("2", "<think>so heat</think><answer>B</answer>"),
    answer("3", "<think>so heat</think>"),
    answer("4", None),
]


@pytest.fixture
def run(tmp_path):
    append_rows(tmp_path, ROWS)
    return tmp_path


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["evaluation", *map(str, arguments)])
    return evaluation.main()


def values(run, name):
    return {key.id: (found.value, found.why) for key, found in read_measures(run)[name].items()}


def test_contradiction(run, monkeypatch, capsys):
    assert command(monkeypatch, "contradiction", run) == 0
    unknown = (None, "no single conclusion")
    assert values(run, "contradiction") == {"1": (1, None), "2": (0, None), "3": unknown, "4": (None, "no response")}
    assert "4 answers measured, 2 of them unknown" in capsys.readouterr().out
    append_rows(run, [answer("5", "<think>Hm.</think><answer>A</answer>", options=())])
    command(monkeypatch, "contradiction", run)  # what is measured is not measured again
    assert "1 answers measured, 1 of them unknown" in capsys.readouterr().out
    assert values(run, "contradiction")["5"] == (None, "no options")


def test_what_is_answered_after_all_is_measured(run, monkeypatch, capsys):
    command(monkeypatch, "contradiction", run)
    append_rows(run, [answer("4", "<think>so heat</think><answer>B</answer>")])  # evaluation.retry_failed=true
    capsys.readouterr()
    assert command(monkeypatch, "contradiction", run) == 0
    assert "1 answers measured, 0 of them unknown" in capsys.readouterr().out
    assert values(run, "contradiction")["4"] == (0, None)
    command(monkeypatch, "contradiction", run)
    assert "0 answers measured" in capsys.readouterr().out
    assert command(monkeypatch, "score", run, "--format", "json", "--out", run / "scores.json") == 0
    (scored,) = json.loads((run / "scores.json").read_text())["runs"]
    found = scored["groups"][0]["consistency"]["contradiction"]
    assert (found["known"], found["unknown"], found["not_measured"]) == (3, 1, 0)  # by the last line of each


def test_a_failure_that_is_still_one_is_not_measured_again(run, monkeypatch, capsys):
    command(monkeypatch, "contradiction", run)
    append_rows(run, [answer("4", None)])
    capsys.readouterr()
    command(monkeypatch, "contradiction", run)
    assert "0 answers measured" in capsys.readouterr().out


class Llm:
    """vLLM with a model that answers what the reasoning says."""

    asked: list = []  # noqa: RUF012

    def __init__(self, path, **options):
        pass

    def get_tokenizer(self):
        def tokenizer(text, add_special_tokens, split_special_tokens=False):
            return {"input_ids": [text, split_special_tokens]}

        tokenizer.apply_chat_template = lambda chat, **_: chat[0]["content"]
        return tokenizer

    def generate(self, prompts, sampling, use_tqdm):
        self.asked.extend(prompt["prompt_token_ids"] for prompt in prompts)
        return [SimpleNamespace(outputs=[SimpleNamespace(text=">A</answer>")]) for _ in prompts]


@pytest.fixture
def vllm(monkeypatch):
    module = SimpleNamespace(LLM=Llm, SamplingParams=lambda **options: options)
    inputs = SimpleNamespace(TokensPrompt=lambda prompt_token_ids: {"prompt_token_ids": prompt_token_ids})
    for name, fake in (("vllm", module), ("vllm.inputs", inputs)):
        monkeypatch.setitem(sys.modules, name, fake)
    for variable in ENVIRONMENT | agreement.IN_THIS_PROCESS:
        monkeypatch.setenv(variable, "set")  # what the command sets goes again
    Llm.asked = []


def test_agreement(run, monkeypatch, vllm, capsys):
    arguments = ("agreement", run, "--model", "models/tiny", "--prompt", "plain", "--batch", 1)
    assert command(monkeypatch, *arguments) == 0
    expected = {"1": (1, None), "2": (0, None), "3": (None, "no answer"), "4": (None, "no response")}
    assert values(run, "agreement-models-tiny") == expected
    question = "What next?Options:\nA. heat\nB. bake\n"
    # the response is letters to the tokenizer, whatever marks it spells
    assert Llm.asked == [[question, False, "<think>so heat</think><answer", True]] * 2
    command(monkeypatch, *arguments)
    assert len(Llm.asked) == 2
    assert "0 answers measured" in capsys.readouterr().out


def test_an_agreement_on_what_is_answered_after_all(run, monkeypatch, vllm):
    command(monkeypatch, "agreement", run, "--model", "m")
    append_rows(run, [answer("4", "<think>so heat</think><answer>A</answer>")])
    command(monkeypatch, "agreement", run, "--model", "m")
    assert len(Llm.asked) == 3
    assert values(run, "agreement-m")["4"] == (1, None)


def test_an_agreement_that_a_kill_cut_off_goes_on(run, monkeypatch, vllm):
    append_measures(run, "agreement-m", [Measured(ROWS[0].key, 1.0)], prompt="released_evaluation")
    with (run / "measures" / "agreement-m.jsonl").open("a") as file:
        file.write('{"dataset": "m/L1", "id": "2"')
    command(monkeypatch, "agreement", run, "--model", "m")
    assert len(Llm.asked) == 1
    assert values(run, "agreement-m")["2"] == (0, None)


def test_an_agreement_with_another_wording_is_not_mixed_in(run, monkeypatch, vllm, capsys):
    append_measures(run, "agreement-m", [Measured(ROWS[0].key, 1.0)], prompt="plain")
    assert command(monkeypatch, "agreement", run, "--model", "m", "--prompt", "released_evaluation") == 2
    told = capsys.readouterr().err
    assert "agreement-m.jsonl was made with prompt plain, and this call says prompt released_evaluation" in told
    assert Llm.asked == []


def test_a_prompt_that_is_too_long(run, monkeypatch, vllm):
    command(monkeypatch, "agreement", run, "--model", "m", "--max-model-len", 11)  # 4 tokens and 8 of the answer
    assert Llm.asked == []
    assert values(run, "agreement-m")["1"] == (None, "prompt too long")


def test_calibrate(run, monkeypatch, capsys):
    keys = [Key("m/L1", str(number), 0) for number in range(6)]
    append_measures(run, "likelihood-m", map(Measured, keys, [0.1, 0.2, 0.3, 0.4, 0.9, None]))
    verdicts = [0.0, 1.0, 0.0, 1.0, None, 1.0]
    append_measures(run, "judge-x", [Measured(key, verdict) for key, verdict in zip(keys, verdicts, strict=True)])
    assert command(monkeypatch, "calibrate", run, "--likelihood", "likelihood-m", "--labels", "judge-x") == 0
    found = read_measures(run)["likelihood-m-calibrated"]
    # the middle pair is pooled to 1/2; 0.9 lies above the last knot, whose probability is 1
    assert [found[key].value for key in keys] == [0.0, 0.5, 0.5, 1.0, 1.0, None]
    saved = json.loads((run / "calibration-likelihood-m.json").read_text())
    assert (saved["labelled"], "judge-x" in saved["source"]) == (4, True)
    assert "AUC 0.750" in capsys.readouterr().out  # consistent 0.2, 0.4 against 0.1, 0.3: 3 of 4 pairs
    assert command(monkeypatch, "calibrate", run, "--likelihood", "likelihood-m", "--labels", "judge-x") == 2
    assert "is there already" in capsys.readouterr().err


def test_calibrate_by_another_runs_calibration(run, monkeypatch, tmp_path_factory):
    from verl_care.consistency_measures.calibration import Calibration

    file = tmp_path_factory.mktemp("c") / "c.json"
    Calibration((0.0, 1.0), (0.25, 0.75), "judge-y elsewhere", 9).save(file)
    append_measures(run, "likelihood-m", [Measured(ROWS[0].key, 0.5)])
    assert command(monkeypatch, "calibrate", run, "--likelihood", "likelihood-m", "--calibration", file) == 0
    assert read_measures(run)["likelihood-m-calibrated"][ROWS[0].key].value == 0.5
    line = json.loads((run / "measures" / "likelihood-m-calibrated.jsonl").read_text())
    assert line["source"] == "judge-y elsewhere"


def test_calibrate_names_what_is_missing(run, monkeypatch, capsys):
    assert command(monkeypatch, "calibrate", run, "--likelihood", "likelihood-m", "--labels", "judge-x") == 2
    assert "has no measure likelihood-m" in capsys.readouterr().err


def test_names_of_models():
    assert slug("Qwen/Qwen2.5-VL-7B-Instruct") == "Qwen-Qwen2.5-VL-7B-Instruct"
    assert slug("../../etc") == "etc"
    assert slug("/") == "model"
