"""envtune: teach a language model to use tools over several turns by tuning the environment it explores.

    tasks = envtune.load_tasks("bfcl", split="train")
    env = envtune.ToolUseEnv(tasks[0])
    observation = env.reset()
    observation = env.step("<assistant text>")
    envtune.rewards.progress(env.episode)

The rooms are named after the notebooks: `data`, `environment`, `rewards`, `policy`, `training`, `evaluation`, `workbook`.
"""
