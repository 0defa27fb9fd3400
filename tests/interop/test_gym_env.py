"""The gymnasium environment: its interface, the five rewards, and that MCP changes nothing."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import threading
import time
import tracemalloc  # noqa: F401  pytest imports it where no file may be opened
import weakref

import gymnasium
import psutil
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import envtune
from envtune.chat import render_calls
from envtune.interop import mcp_tools
from envtune.interop.gym_env import ENV_ID, MCPGymEnv
from envtune.policy import Chat
from envtune.rewards import REWARDS, ExecutionReward, execution
from envtune.types import ToolCall

TASK = "multi_turn_base_0"
VECTOR = {"autoreset_mode": AutoresetMode.DISABLED}


@pytest.fixture
def env():
    env = MCPGymEnv()
    yield env
    env.close()


def say(name: str, **arguments) -> str:
    return render_calls([ToolCall(name, arguments)])


def written(task) -> list[str]:
    """The ground truth as messages: one call each, and an answer at the end of a turn."""
    return [text for turn in task.ground_truth for text in (*(render_calls([call]) for call in turn), "Done.")]


def test_gymnasium_accepts_it():
    env = gymnasium.make(ENV_ID, render_mode="ansi").unwrapped
    check_env(env, skip_render_check=False)
    env.close()


def test_the_five_rewards(env, by_id):
    env.reset(options={"task_id": TASK})
    seen = [
        (say("ls"), ExecutionReward.EXECUTED),
        (say("cd", folder="nowhere"), ExecutionReward.TOOL_ERROR),
        (say("launch"), ExecutionReward.STRUCTURE),
    ]
    for text, reward in seen:
        assert env.step(text)[1] == reward
    assert env.step("<tool_call>\n{nonsense}\n</tool_call>")[1] == ExecutionReward.INVALID_JSON  # ends the turn
    assert env.step("<tool_call>\n[]\n</tool_call>")[1] == ExecutionReward.STRUCTURE
    env.reset(options={"task_id": TASK})
    rewards = [env.step(text)[1] for text in written(by_id[TASK])]
    assert rewards.count(ExecutionReward.SUCCESS) == by_id[TASK].n_turns
    assert sum(rewards) == execution(env.env.episode)


def test_the_five_values_and_info(env, by_id):
    observation, info = env.reset(options={"task_id": TASK})
    assert observation == by_id[TASK].user_turns[0]
    assert (info["task_id"], info["turn"], info["success"], info["calls"]) == (TASK, 0, False, ())
    assert [tool["function"]["name"] for tool in info["tools"]] == [t["function"]["name"] for t in by_id[TASK].tools]
    for text in written(by_id[TASK]):
        observation, _, terminated, truncated, info = env.step(text)
        assert len(info["calls"]) == len(info["results"]) == len(info["messages"]) * bool(info["calls"])
    assert (terminated, truncated, info["success"], observation) == (True, False, True, "")
    with pytest.raises(RuntimeError, match="is over"):
        env.step("more")


def test_the_step_limit_truncates(by_id):
    env = MCPGymEnv([by_id[TASK]], max_steps_per_turn=1)
    env.reset()
    assert env.step(say("ls"))[2:4] == (False, False)
    assert env.step(say("ls"))[2:4] == (False, True)
    env.close()


@pytest.mark.parametrize(("last", "code"), [("", 0), ("raise SystemExit(3)", 3)])
def test_a_program_exits_without_close(last, code):
    make = (
        f"from envtune.interop.gym_env import MCPGymEnv; env = MCPGymEnv(); env.reset(options={{'task_id': {TASK!r}}})"
    )
    done = subprocess.run([sys.executable, "-c", f"{make}; {last}"], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (code, "")


def test_environments_dropped_without_close_are_freed(by_id):
    """No thread and no file each, and no reference that keeps a session."""
    MCPGymEnv([by_id[TASK]]).reset()  # the first one starts the thread that all share
    sessions, before = [], (threading.active_count(), psutil.Process().num_fds())
    for _ in range(30):
        env = gymnasium.make(ENV_ID, tasks=[by_id[TASK]])
        env.reset()
        env.step(say("ls"))
        sessions.append(weakref.ref(env.unwrapped._tools[0]._session))
    assert (threading.active_count(), psutil.Process().num_fds()) == before
    assert sessions[-1]() is not None
    del env
    end = time.monotonic() + 60
    while any(session() for session in sessions) and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)  # the loop's thread ends them
    assert not any(session() for session in sessions)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # asyncio collects half a loop
def test_no_more_files_is_an_error(by_id, monkeypatch):
    monkeypatch.setattr(mcp_tools, "loop_thread", mcp_tools.LoopThread)  # as in a program without one yet
    env = MCPGymEnv([by_id[TASK]])
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            env.reset()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def fork(work) -> int:
    """Run a function in a forked process. Its exit status, after at most a minute."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(60)
    process.kill()
    return process.exitcode


def test_a_forked_process_makes_its_own_and_is_refused_its_parents(env, by_id):
    env.reset(options={"task_id": TASK})

    def use_the_parents():
        with pytest.raises(RuntimeError, match="another process"):
            env.step(say("ls"))
        os._exit(11)

    def make_one():
        own = MCPGymEnv([by_id[TASK]])
        own.reset()
        assert own.step(say("ls"))[1] == ExecutionReward.EXECUTED
        os._exit(12)

    assert [fork(use_the_parents), fork(make_one)] == [11, 12]
    assert env.step(say("ls"))[1] == ExecutionReward.EXECUTED


@pytest.mark.filterwarnings("ignore:.*render_mode='human'")
def test_wrong_settings_are_refused_by_make():
    wrong = [
        ({"render_mode": "human"}, ValueError, "unknown render mode 'human'. Known: 'ansi'"),
        ({"reward": "sparse"}, ValueError, "unknown reward 'sparse'. Known: syntax, progress"),
        ({"hint": True}, TypeError, "there is no rule 'hint'. Known: hints, "),
        ({"max_steps_per_turn": -1}, ValueError, "max_steps_per_turn"),
        ({"rules": "nosuch"}, ValueError, "unknown protocol 'nosuch'"),
        ({"split": "nosuch"}, ValueError, "nosuch"),
        ({"tasks": []}, ValueError, "no tasks to draw from"),
    ]
    for settings, error, says in wrong:
        with pytest.raises(error, match=says):
            gymnasium.make(ENV_ID, **settings)


def test_render_shows_the_conversation(by_id):
    env = gymnasium.make(ENV_ID, tasks=[by_id[TASK]], render_mode="ansi")
    env.reset()
    assert env.render() == f"user: {by_id[TASK].user_turns[0]}"
    _, _, _, _, info = env.step(say("pwd"))
    assert env.render().splitlines()[-4:] == [
        "assistant: <tool_call>",
        '{"name": "pwd", "arguments": {}}',
        "</tool_call>",
        f"tool: {info['results'][0].text}",
    ]
    env.reset()
    assert env.render().count("user: ") == 1
    assert MCPGymEnv([by_id[TASK]]).render() is None


def test_other_rewards_come_with_the_last_step(by_id):
    solved = written(by_id[TASK])
    for name, reward in REWARDS.items():
        env = MCPGymEnv([by_id[TASK]], reward=name)
        for texts in (solved, ["I cannot do that."] * by_id[TASK].n_turns):
            env.reset()
            earned = [env.step(text)[1] for text in texts]
            assert sum(earned) == reward(env.env.episode)
            assert name == "execution" or not any(earned[:-1])
        env.close()


def test_unicode_survives(env):
    env.reset(options={"task_id": TASK})
    name = "naïve 文件 🗂\u200f.txt"
    env.step(say("touch", file_name=name))
    assert name in json.loads(env.step(say("ls"))[0])["current_directory_content"]
    assert env.env.episode.steps[0].calls[0].arguments == {"file_name": name}


def test_wrong_options_say_what_is_known(env):
    with pytest.raises(ValueError, match="unknown task 'x'"):
        env.reset(options={"task_id": "x"})
    with pytest.raises(ValueError, match="unknown option 'task'"):
        env.reset(options={"task": TASK})
    with pytest.raises(RuntimeError, match="reset"):
        env.step("hello")


@pytest.mark.parametrize(("mode", "settings"), [("sync", {}), ("async", {"shared_memory": False})])
def test_vectors(mode, settings):
    envs = gymnasium.make_vec(ENV_ID, 3, vectorization_mode=mode, vector_kwargs=VECTOR | settings)
    first, info = envs.reset(seed=[1, 2, 1])
    assert first[0] == first[2] != first[1]
    assert info["task_id"][0] == info["task_id"][2]
    texts, rewards, ended, truncated, _ = envs.step((say("nosuch"), "äöü 🙂", "<tool_call>"))
    assert rewards.tolist() == [-1.0, 0.0, -1.0]
    assert "name 'nosuch' is not defined" in texts[0]
    assert not ended.any() and not truncated.any()
    envs.close()


def act(policy, env) -> list[str]:
    """Let a policy play; what it said."""
    observation = env.reset()
    chat, texts = Chat(env.task, list(observation.messages), observation.tools), []
    while not env.done:
        texts += policy.reply([chat])
        env.step(texts[-1])
        chat.step = chat.step + 1 if env.turn == chat.turn else 0
        chat.turn = env.turn
    return texts


@pytest.mark.parametrize("settings", [{}, {"hints": True}])
def test_same_results_and_verdict_as_without_mcp(settings):
    """Every tenth train task, the ground truth and a noisy agent."""
    compare(envtune.load_tasks("bfcl", split="train")[::10], ["oracle", "noisy:0.3"], **settings)


@pytest.mark.slow
def test_same_results_and_verdict_over_the_train_split():
    compare(envtune.load_tasks("bfcl", split="train"), ["oracle", "noisy:0.2", "noisy:0.5", "silent"])


def test_same_on_procedural_tasks():
    compare(envtune.load_tasks("synth", n=24), ["oracle", "noisy:0.3"])


def compare(tasks, policies, **settings) -> None:
    """Let each policy play directly, then its messages through MCP; the records must be equal."""
    over_mcp = MCPGymEnv(tasks, **settings)
    for name in policies:
        policy = envtune.load_policy(name)
        for task in tasks:
            direct = envtune.ToolUseEnv(task, **settings)
            texts = act(policy, direct)
            over_mcp.reset(options={"task_id": task.id})
            rewards = [over_mcp.step(text)[1] for text in texts]
            assert over_mcp.env.episode == direct.episode
            assert sum(rewards) == pytest.approx(execution(direct.episode))
    over_mcp.close()
