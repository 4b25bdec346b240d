"""Concept words in prompts: one embedding per word and group."""

from __future__ import annotations

import pytest
import torch

from storyforge.errors import StoryForgeError
from storyforge.model.base import BaseModel
from storyforge.model.card import WORDS
from storyforge.model.family import text_embeddings, token_table
from storyforge.model.tokens import ConceptTokens, encode, new_tokens, token_ids


def batches(base: BaseModel, prompts: list[str], *tokens: ConceptTokens) -> list[int]:
    """How many rows each call of the text encoder had."""
    seen: list[int] = []
    handle = base.text_encoder.register_forward_pre_hook(
        lambda _, given: seen.append(len(given[0]))
    )
    encode(base, prompts, {t.name: t for t in tokens})
    handle.remove()
    return seen


def test_a_prompt_without_concepts_is_read_as_the_stock_encoder_reads_it(base: BaseModel) -> None:
    prompt = "a red fox in the snow, at night"
    ids = base.tokenizer(
        prompt, padding="max_length", truncation=True, max_length=77, return_tensors="pt"
    ).input_ids
    stock = base.text_encoder(ids).last_hidden_state
    made = encode(base, [prompt], {}).features
    assert made.shape == (base.family.groups, 1, 77, base.text_encoder.config.hidden_size)
    assert all(torch.equal(group, stock) for group in made)


def test_a_prompt_without_concepts_is_encoded_once(base: BaseModel) -> None:
    assert batches(base, ["a fox", "", "a fox", ""]) == [2]


def test_a_prompt_with_a_concept_is_encoded_once_per_group(
    base: BaseModel, pip: ConceptTokens
) -> None:
    assert batches(base, ["a fox", "a <pip>", "a <pip>"], pip) == [1 + base.family.groups]


def test_company_in_the_batch_changes_nothing(base: BaseModel, pip: ConceptTokens) -> None:
    names = {"pip": pip}
    prompts = ["", "a <pip> in the snow", "a fox", "a <pip> in the snow"]
    together = encode(base, prompts, names).features
    for index, prompt in enumerate(prompts):
        alone = encode(base, [prompt], names).features[:, 0]
        torch.testing.assert_close(together[:, index], alone, rtol=1e-4, atol=1e-5)


def test_a_concept_is_two_words_in_the_prompt(base: BaseModel) -> None:
    first = len(token_table(base.text_encoder))
    with_concept = token_ids(base, "a <pip> in the snow", ["found", "pip"])
    a, rest = (base.tokenizer(t, add_special_tokens=False).input_ids for t in ("a", " in the snow"))
    slot = first + WORDS
    assert with_concept[: 3 + len(a) + len(rest)] == [
        base.tokenizer.bos_token_id,
        *a,
        slot,
        slot + 1,
        *rest,
    ]


def test_each_group_reads_its_own_row(base: BaseModel, pip: ConceptTokens) -> None:
    other, group = pip.words.clone(), base.family.groups // 2
    other[0, group] += 1
    one = encode(base, ["a <pip>"], {"pip": pip}).features
    two = encode(base, ["a <pip>"], {"pip": ConceptTokens("pip", other)}).features
    same = [torch.equal(a, b) for a, b in zip(one, two, strict=True)]
    assert same == [k != group for k in range(base.family.groups)]


def test_words_of_the_table_given_as_a_concept_read_as_the_words(base: BaseModel) -> None:
    ids = base.tokenizer("red fox", add_special_tokens=False).input_ids
    if len(ids) != WORDS:
        pytest.skip("this base has no single token for `red` or for `fox`")
    words = token_table(base.text_encoder)[ids][:, None].repeat(1, base.family.groups, 1)
    spelled = encode(base, ["a red fox in the snow"], {}).features
    named = encode(base, ["a <pip> in the snow"], {"pip": ConceptTokens("pip", words)}).features
    torch.testing.assert_close(named, spelled, rtol=1e-4, atol=1e-5)


def test_two_concepts_do_not_take_each_others_words(base: BaseModel, pip: ConceptTokens) -> None:
    juna = ConceptTokens("juna", -pip.words)
    one = encode(base, ["a <pip>"], {"pip": pip}).features
    two = encode(base, ["a <pip>"], {"juna": juna, "pip": pip}).features
    assert torch.equal(one, two)
    assert not torch.allclose(one, encode(base, ["a <juna>"], {"juna": juna}).features, atol=1e-3)


@pytest.mark.parametrize("names", [["pip", "pipper", "pip-2"], ["pip-2", "pipper", "pip"]])
def test_a_name_may_be_the_beginning_of_another(base: BaseModel, names: list[str]) -> None:
    first = len(token_table(base.text_encoder))
    ids = token_ids(base, "a <pipper>, a <pip> and a <pip-2>", names)
    own = [i for i in ids if i >= first]
    starts = [first + WORDS * names.index(name) for name in ("pipper", "pip", "pip-2")]
    assert own == [start + word for start in starts for word in range(WORDS)]


def test_a_class_phrase_of_several_tokens_is_their_mean(base: BaseModel) -> None:
    ids = base.tokenizer("tiny red chow chow", add_special_tokens=False).input_ids
    assert len(ids) >= 4
    made = new_tokens(base, "pip", "tiny red chow chow", torch.Generator().manual_seed(0))
    mean = token_table(base.text_encoder)[ids].mean(0)
    assert made.words.shape == (WORDS, base.family.groups, len(mean))
    for row in made.words[1]:
        torch.testing.assert_close(row, mean)


def test_the_random_word_is_as_wide_as_the_table(base: BaseModel) -> None:
    made = new_tokens(base, "pip", "fox", torch.Generator().manual_seed(0))
    spread = token_table(base.text_encoder).std(0).mean()
    assert 0.7 < made.words[0, 0].std() / spread < 1.4


def test_an_empty_class_is_refused(base: BaseModel) -> None:
    with pytest.raises(StoryForgeError, match="`pip` is empty"):
        new_tokens(base, "pip", " ", torch.Generator())


def test_an_unknown_concept_is_refused_by_name(base: BaseModel, pip: ConceptTokens) -> None:
    with pytest.raises(StoryForgeError, match="`<pipp>`") as caught:
        encode(base, ["a <pipp>"], {"pip": pip})
    assert caught.value.hint == "known: pip"


def test_a_prompt_over_the_limit_is_refused_and_the_longest_is_not(base: BaseModel) -> None:
    room = base.text_encoder.config.max_position_embeddings - 2
    one = len(base.tokenizer(" a", add_special_tokens=False).input_ids)
    assert one == 1
    assert len(token_ids(base, "a " * room, [])) == room + 2
    with pytest.raises(StoryForgeError, match=f"{room + 1} tokens"):
        token_ids(base, "a " * (room + 1), [])


def test_concept_words_count_towards_the_limit(base: BaseModel) -> None:
    room = base.text_encoder.config.max_position_embeddings - 2
    with pytest.raises(StoryForgeError, match=f"{room + 1} tokens"):
        token_ids(base, "a " * (room - 1) + "<pip>", ["pip"])


@pytest.mark.parametrize("text", ["a quizzical zygote", "Füchse über Größe", "狐と🦊", "x < y > z"])
def test_words_that_the_base_does_not_know_do_not_break_a_prompt(
    base: BaseModel, text: str
) -> None:
    assert encode(base, [text], {}).features.isfinite().all()


def test_the_table_is_back_after_a_refused_prompt(base: BaseModel, pip: ConceptTokens) -> None:
    table = text_embeddings(base.text_encoder).token_embedding
    handle = base.text_encoder.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        encode(base, ["a <pip>"], {"pip": pip})
    handle.remove()
    assert text_embeddings(base.text_encoder).token_embedding is table


def test_gradients_reach_every_row_of_the_words(base: BaseModel, pip: ConceptTokens) -> None:
    words = pip.words.clone().requires_grad_()
    made = encode(base, ["a <pip>"], {"pip": ConceptTokens("pip", words)}).features
    made.square().sum().backward()
    assert words.grad is not None
    assert (words.grad.abs().sum(-1) > 0).all()
