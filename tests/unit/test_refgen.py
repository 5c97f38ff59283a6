"""What the reference would have answered, read off its likeliest tokens."""

import pytest

from verl_care.ablations.refgen import reference_accuracy, reference_answer

# Qwen's cut: `<answer>A</answer>` is `<` `answer` `>A` `</` `answer` `>`
WORDS = ["<think>", "so", "</think>", "<", "answer", ">A", "</", ">", ">B", " A", "12", "3"]
ID = {word: number for number, word in enumerate(WORDS)}


def ids(*words):
    return [ID[word] for word in words]


def text_of(tokens):
    return "".join(WORDS[token] for token in tokens)


RESPONSE = ids("<think>", "so", "</think>", "<", "answer", ">A", "</", "answer", ">")
SPAN = (5, 6)


def accuracy(choice, truth="A", response=RESPONSE, span=SPAN, problem_type="multiple choice"):
    return reference_accuracy(response, choice, span, ground_truth=truth, problem_type=problem_type, text_of=text_of)


def choosing(position, word, response=RESPONSE):
    """The reference agrees everywhere but at one position."""
    return [*response[:position], ID[word], *response[position + 1 :]]


def test_it_agrees():
    assert reference_answer(RESPONSE, RESPONSE, SPAN, text_of) == "<think>so</think><answer>A</answer>"
    assert accuracy(RESPONSE) == 1
    assert accuracy(RESPONSE, truth="B") == 0  # a wrong answer that the reference shares


def test_it_answers_otherwise():
    choice = choosing(5, ">B")
    assert reference_answer(RESPONSE, choice, SPAN, text_of) == "<think>so</think><answer>B</answer>"
    assert accuracy(choice, truth="A") == 0
    assert accuracy(choice, truth="B") == 1  # paid, though the response itself is wrong


def test_only_the_answers_tokens_are_asked():
    choice = choosing(1, "12")  # it would have reasoned otherwise
    assert accuracy(choosing(6, "12", choice)) == 1  # and gone on otherwise


def test_the_first_token_that_differs_ends_it():
    response, span = ids("<", "answer", ">", " A", "</", "answer", ">"), (2, 4)
    assert accuracy(choosing(2, ">B", response), "B", response, span) == 1
    assert accuracy(choosing(3, "12", response), "A", response, span) == 0
    # what it chose behind the first difference belongs to a text that it never wrote
    assert accuracy([*choosing(2, ">B", response)[:3], ID["3"], *response[4:]], "B", response, span) == 1


def test_it_ends_its_answer_earlier():
    # `</` in place of `. grab`: its answer is A, and the closing tag is not there twice
    words = [*WORDS, ". grab"]
    response = [*ids("<", "answer", ">A"), len(WORDS), *ids("</", "answer", ">")]
    choice = [*response[:3], ID["</"], *response[4:]]

    def text(tokens):
        return "".join(words[token] for token in tokens)

    assert reference_answer(response, choice, (2, 4), text) == "<answer>A</answer>"
    # a tokenizer that writes `A</` as one: it is the answer's last token, agreed on or chosen
    joined = ["<", "answer", ">", "A</", "B</", "answer", ">"]
    for chosen, answer in ((3, "A"), (4, "B")):
        made = reference_answer(
            [0, 1, 2, 3, 5, 6], [0, 1, 2, chosen, 5, 6], (3, 4), lambda tokens: "".join(joined[i] for i in tokens)
        )
        assert made == f"<answer>{answer}</answer>"


def test_no_answer_is_not_paid():
    assert accuracy(RESPONSE, span=None) == 0


def test_other_problems_are_refused():
    with pytest.raises(ValueError, match=r"'numerical'.*multiple choice only.*care\.bonus=hard"):
        accuracy(RESPONSE, problem_type="numerical")
