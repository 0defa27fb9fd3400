"""The sampler against the same model without any cache."""

from __future__ import annotations

import random
from functools import cache

import pytest
import small

torch = pytest.importorskip("torch")

from envtune.policy.generate import Sampler  # noqa: E402

STOP = 2


@cache
def model(attention: str = "sdpa"):
    built = small.model()
    built.set_attn_implementation(attention)
    return built


def log_probs(ids: list[int], temperature: float = 1.0) -> torch.Tensor:
    with torch.no_grad():
        return (model()(torch.tensor([ids])).logits[0] / temperature).log_softmax(-1)


def greedy(ids: list[int], room: int) -> list[int]:
    ids = list(ids)
    for _ in range(room):
        ids.append(int(log_probs(ids)[-1].argmax()))
        if ids[-1] == STOP:
            break
    return ids


def some_ids(rng: random.Random, longest: int) -> list[int]:
    return [rng.randrange(3, 370) for _ in range(rng.randrange(1, longest))]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_greedy_messages_are_those_without_a_cache(attention):
    """Ragged rows, several rounds, rows that leave and rows that join."""
    rng = random.Random(1)
    sampler = Sampler(model(attention), [STOP], temperature=0)
    expected, rounds, done = {}, {}, 0

    def start(read, *args):
        row = read(*args, some_ids(rng, 60), rng.randrange(1, 20))
        row = row or args[0]
        expected[row] = greedy(row.ids, row.end - row.start)
        rounds[row] = rounds.get(row, 0) + 1

    for _ in range(7):
        start(sampler.open)
    while len(sampler):
        for row in sampler.run():
            assert row.ids == expected[row]
            done += 1
            if rounds[row] < 3:
                start(sampler.feed, row)
                continue
            sampler.close(row)
            if done < 20:
                start(sampler.open)
    assert done >= 20


def test_log_probabilities_are_the_models_own():
    sampler = Sampler(model(), [STOP], temperature=0.7)
    rng = random.Random(0)
    for seed in range(5):
        sampler.open(some_ids(rng, 40), 12, seed)
    while rows := sampler.run():
        for row in rows:
            table = log_probs(row.ids, 0.7)
            true = [table[i - 1, row.ids[i]].item() for i in range(row.start, len(row.ids))]
            assert row.logprobs == pytest.approx(true, abs=1e-4)
            assert row.cut == (row.ids[-1] != STOP)


def test_equal_prompts_are_read_once_and_seeds_decide():
    sampler = Sampler(model(), [STOP])
    prompt = some_ids(random.Random(3), 50) + [5] * 20
    rows = [sampler.open(prompt, 15, seed) for seed in (1, 2, 1)]
    while sampler.run():
        pass
    assert sampler.tokens_read == len(prompt) - 1
    assert rows[0].message == rows[2].message != rows[1].message


def test_a_rows_sample_does_not_depend_on_the_batch():
    prompt = some_ids(random.Random(4), 30)
    alone = Sampler(model(), [STOP])
    single = alone.open(prompt, 10, "x")
    alone.run()
    crowd = Sampler(model(), [STOP])
    for seed in range(4):
        crowd.open(some_ids(random.Random(seed), 90), 20, seed)
    row = crowd.open(prompt, 10, "x")
    while crowd.run():
        pass
    assert row.message == single.message


def test_sampling_follows_the_distribution():
    prompt = [7, 8, 9]
    p = log_probs(prompt, 0.3)[-1].exp()
    top = int(p.argmax())
    sampler = Sampler(model(), [], temperature=0.3)
    rows = [sampler.open(prompt, 1, seed) for seed in range(600)]
    sampler.run()
    share = sum(row.message == [top] for row in rows) / len(rows)
    assert share == pytest.approx(float(p[top]), abs=4 * (0.25 / 600) ** 0.5)


def test_what_does_not_fit_is_refused_and_changes_nothing():
    sampler = Sampler(model(), [STOP])
    with pytest.raises(ValueError, match="the model reads 1 to 2048"):
        sampler.open([5] * 2040, 9)
    with pytest.raises(ValueError, match="0 tokens"):
        sampler.open([], 1)
    assert len(sampler) == 0
    with pytest.raises(ValueError, match="temperature is -1"):
        Sampler(model(), [STOP], temperature=-1)


def test_models_that_cannot_be_used_are_refused():
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2, head_dim=4,
        num_key_value_heads=2, use_sliding_window=True, sliding_window=4, max_window_layers=1,
    )  # fmt: skip
    with pytest.raises(ValueError, match="some layers do not attend to the whole sequence"):
        Sampler(Qwen3ForCausalLM(config), [STOP])


@pytest.mark.parametrize("family", ["Qwen2", "Llama"])
def test_other_families(family):
    import transformers

    config = getattr(transformers, f"{family}Config")(
        vocab_size=370, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512,
    )  # fmt: skip
    other = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    rng = random.Random(5)
    sampler = Sampler(other, [STOP], temperature=0)
    rows = [sampler.open(some_ids(rng, 30), 8) for _ in range(4)]
    while ended := sampler.run():
        for row in ended:
            if len(row.ids) < 60:
                sampler.feed(row, some_ids(rng, 30), 8)
    for row in rows:
        with torch.no_grad():
            logits = other(torch.tensor([row.ids])).logits[0]
        assert row.message == logits[row.start - 1 : -1].argmax(-1).tolist()


def test_diverged_weights_are_named():
    broken = small.model()
    broken.get_input_embeddings().weight.data.fill_(float("nan"))
    sampler = Sampler(broken, [STOP])
    sampler.open([4, 5], 3)
    with pytest.raises(FloatingPointError, match="weights have diverged"):
        sampler.run()
