"""A language model as a policy: cached and re-read chats give the same replies."""

from __future__ import annotations

import copy
import gc

import pytest
import small

import envtune
from envtune.chat import CUT_OFF
from envtune.policy.base import Chat
from envtune.policy.language import LanguagePolicy


def policy(**settings):
    return LanguagePolicy(small.model(), small.tokenizer(), **{"message_tokens": 12, **settings})


def chat(number: int = 0) -> Chat:
    task = small.task(number)
    return Chat(task, list(envtune.ToolUseEnv(task).reset().messages), task.tools)


def talk(agent, chats, rounds=3, fresh=False):
    replies = []
    for number in range(rounds):
        if fresh:
            chats = [Chat(c.task, list(c.messages), c.tools) for c in chats]
        texts = agent.reply(chats)
        replies.append(texts)
        for each, text in zip(chats, texts, strict=True):
            each.messages += [{"role": "assistant", "content": text}, {"role": "user", "content": f"again {number}"}]
    return replies


def test_the_cache_is_used_between_messages():
    agent = policy()
    chats = [chat(i) for i in range(3)]
    talk(agent, chats)
    read = agent._sampler.tokens_read
    again = policy()
    talk(again, [chat(i) for i in range(3)], fresh=True)
    assert again._sampler.tokens_read > 2 * read
    assert len(agent._sampler) == 3


def test_first_replies_do_not_depend_on_the_batch_and_dead_chats_leave():
    agent = policy()
    chats = [chat(i) for i in range(4)]
    together = agent.reply(chats)
    del chats
    gc.collect()
    assert [agent.reply([chat(i)])[0] for i in range(4)] == together
    assert len(agent._sampler) <= 1
    assert all(text.endswith(CUT_OFF) for text in together)


def test_recompiled_tools_are_read_anew():
    agent, one = policy(), chat()
    agent.reply([one])
    one.messages += [{"role": "assistant", "content": "anything else"}, {"role": "user", "content": "go on"}]
    one.tools = one.tools[:2]
    assert agent.reply([one]) == policy().reply([Chat(one.task, list(one.messages), one.tools)])


def test_no_room_is_an_empty_message_cut_off():
    agent, one = policy(), chat()
    one.messages[0]["content"] = "long " * 3000
    assert agent.reply([one, chat(1)])[0] == CUT_OFF


def test_a_policy_plays_and_is_evaluated():
    tasks = [small.task(i) for i in range(3)]
    result = envtune.evaluate(policy(), tasks, progress=False)
    assert result.accuracy == 0
    assert policy(seed=3).settings == {"temperature": 0.0, "message_tokens": 12}
    assert policy(seed=3, temperature=1.0).settings["seed"] == 3
    assert envtune.evaluate(policy(), tasks, progress=False).episodes == result.episodes


def test_short_messages_do_not_wait_for_long_ones():
    chats = [chat(i) for i in range(4)]
    together = envtune.load_policy("tiny").reply(chats)
    agent, got, calls = envtune.load_policy("tiny"), {}, 0
    while waiting := [i for i in range(4) if i not in got]:
        some = agent.reply_some([chats[i] for i in waiting])
        assert any(text is not None for text in some)
        got |= {i: text for i, text in zip(waiting, some, strict=True) if text is not None}
        calls += 1
    assert [got[i] for i in range(4)] == together
    assert calls == len({len(agent._readings[id(c)].row.message) for c in chats}) > 1
    assert agent.reply_some([]) == []


def test_a_chat_that_changed_while_its_message_was_written_is_read_anew():
    agent, chats = envtune.load_policy("tiny"), [chat(i) for i in range(4)]
    slow = agent.reply_some(chats).index(None)
    chats[slow].messages += [{"role": "user", "content": "Something else."}]
    assert agent.reply([chats[slow]]) == envtune.load_policy("tiny").reply([chats[slow]])
    left = len(agent._sampler)
    del chats[slow]
    gc.collect()
    agent.reply([chat(5)])
    assert len(agent._sampler) == left, "one came, one left"


def test_a_template_that_ignores_tools_is_refused_before_the_first_episode(tmp_path):
    tokenizer = copy.deepcopy(small.tokenizer())
    tokenizer.chat_template = tokenizer.chat_template.replace("tools", "no_tools")
    with pytest.raises(ValueError, match="ignores `tools`"):
        envtune.evaluate(LanguagePolicy(small.model(), tokenizer), [small.task()], tmp_path / "e.jsonl", progress=False)
    assert len((tmp_path / "e.jsonl").read_text().splitlines()) == 1, "the header alone"
