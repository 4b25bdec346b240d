"""Words that count more or less: read as AUTOMATIC1111 reads them, and what that does to a text."""

from __future__ import annotations

import pytest
import torch

from storyforge.model.base import BaseModel
from storyforge.model.prompt_weights import pieces_of
from storyforge.model.tokens import ConceptTokens, encode, encode_weighted, token_ids
from storyforge.model.weighting import emphasised

# What the web UI's own documentation gives for each.
READ = {
    "normal text": [("normal text", 1.0)],
    "an (important) word": [("an ", 1.0), ("important", 1.1), (" word", 1.0)],
    "(unbalanced": [("unbalanced", 1.1)],
    r"\(literal\]": [("(literal]", 1.0)],
    "(unnecessary)(parens)": [("unnecessaryparens", 1.1)],
    "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).": [
        ("a ", 1.0),
        ("house", 1.573),
        (" ", 1.1),
        ("on", 1.0),
        (" a ", 1.1),
        ("hill", 0.55),
        (", sun, ", 1.1),
        ("sky", 1.4641),
        (".", 1.1),
    ],
    "": [],
    # What compel's own documentation gives for each.
    "a red ball++ here": [("a red ", 1.0), ("ball", 1.21), (" here", 1.0)],
    "a ball-- and <pip>+, a well-known c++11": [
        ("a ", 1.0),
        ("ball", 0.81),
        (" and ", 1.0),
        ("<pip>", 1.1),
        (", a well-known c++11", 1.0),
    ],
    "a (red ball)1.3 there": [("a ", 1.0), ("red ball", 1.3), (" there", 1.0)],
    "a (red ball)-, (big ball)++.": [
        ("a ", 1.0),
        ("red ball", 0.9),
        (", ", 1.0),
        ("big ball", 1.21),
        (".", 1.0),
    ],
    "a (red (ball)+)1.5": [("a ", 1.0), ("red ", 1.5), ("ball", 1.65)],
    "red - or blue -- or so": [("red - or blue -- or so", 1.0)],
    "(red)2 foxes (and)22b": [("red", 2.0), (" foxes ", 1.0), ("and", 1.1), ("22b", 1.0)],
    "a (red)0 fox, (ball)0.0": [("a ", 1.0), ("red", 0.0), (" fox, ", 1.0), ("ball", 0.0)],
    "at 8:30, a ] and a ) alone": [("at 8:30, a ] and a ) alone", 1.0)],
}


def test_a_line_drawn_in_signs_is_a_weight_like_any_other() -> None:
    assert all(0 < weight < 2e4 for _, weight in pieces_of("a " + 9999 * "+" + " b" + 9999 * "+"))


@pytest.mark.parametrize("prompt", list(READ))
def test_weights_are_read_as_the_web_ui_and_compel_read_them(prompt: str) -> None:
    made = pieces_of(prompt)
    assert [text for text, _ in made] == [text for text, _ in READ[prompt]]
    assert [weight for _, weight in made] == pytest.approx([w for _, w in READ[prompt]])


def test_a_prompt_without_brackets_is_the_prompt_as_it_is_written(base: BaseModel) -> None:
    prompts = ["a red fox in the snow", ""]
    assert torch.equal(
        encode_weighted(base, prompts, {}).features, encode(base, prompts, {}).features
    )


def test_a_weight_multiplies_its_tokens_and_keeps_the_mean(base: BaseModel) -> None:
    usual = encode(base, ["a red fox"], {}).features[0, 0]
    made = encode_weighted(base, ["a (red:1.5) fox"], {}).features[0, 0]
    word = base.tokenizer("red", add_special_tokens=False).input_ids[0]
    place = token_ids(base, "a red fox", []).index(word)
    wanted = usual.clone()
    wanted[place] *= 1.5
    wanted *= usual.mean() / wanted.mean()
    torch.testing.assert_close(made, wanted)


def test_a_weight_reaches_all_words_of_a_concept(base: BaseModel, pip: ConceptTokens) -> None:
    tokens = {"pip": pip}
    usual = encode(base, ["a <pip> runs"], tokens).features
    made = encode_weighted(base, ["a (<pip>:0.7) runs"], tokens).features
    ratio = made / usual
    first = token_ids(base, "a <pip> runs", ["pip"]).index(len(base.tokenizer))
    rest = ratio[:, 0, 0, 0]
    for word in range(2):
        torch.testing.assert_close(
            ratio[:, 0, first + word].median(-1).values, 0.7 * rest, rtol=1e-3, atol=1e-3
        )


def test_a_prompt_in_a_batch_is_not_changed_by_the_weights_of_another(base: BaseModel) -> None:
    alone = encode_weighted(base, ["a cat"], {}).features
    both = encode_weighted(base, ["a (dog:1.4)", "a cat"], {}).features
    torch.testing.assert_close(both[:, 1:], alone)


def test_features_without_weights_are_the_same_to_the_bit() -> None:
    features = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    assert emphasised(features, [[1.0] * 5] * 2) is features
    made = emphasised(features, [[1.0] * 5, [1.0, 2.0, 1.0, 1.0, 1.0]])
    assert torch.equal(made[0], features[0])
    assert made[1].mean() == pytest.approx(features[1].mean().item(), abs=1e-6)
