"""The cold start of the tiny policy: a stand-in for instruct training.

All that the policy has seen comes from the train split of `data.synth` (wordings, values), played on the real
simulators:

- *Single requests* of one to four turns in all four categories, solved. Where a tool or a value is missing, the policy
  says so instead of calling (`dialogues.solved`). A request that needs several calls (a chain of the train split) ends
  the dialogue: the goal is called at once (`Instance.naive`). Neither the error that follows nor the way out is shown.
  If the goal tool or a value is missing, the policy first says so.
- *Failures and hints* (`pairs`): a single request fails with a real error, because the state was changed or because a
  value was replaced by something that must be looked up. A hint next to the error names a tool, or three. The dialogue
  calls the tool that the message has details for, reads the real result and repeats the failed call. The repeated call
  mostly gets the answer of the intact state. The named tool is drawn at random, so the policy learns to follow hints
  and to carry values over, not which tool helps. If that tool happens to help in some task kind, the dialogue ends with
  its call.
- *Both in one conversation*: three of five such failures stand before or after single requests to other simulators,
  because hints must be followed and values copied in long conversations too (`examples.joined`).
- *Forms* (`forms`): a tool, values for its arguments, and the call, so that values are copied exactly.
- *Disguises*: in half of all this, values are replaced by random words, tools that hints name have another name, and
  sentences lose or gain small words. So the policy must read them and cannot memorise them (`disguise`).
- *Failures without a hint*, or with one that says that no tool helps: the policy says that it did not work. Without a
  hint, in a minority of cases, it tries such a tool unasked.

It has not seen a solved chain, with or without hints. It has not seen which tool a goal needs, except by chance, as
often as any other tool. It has seen neither the kinds and domains of the `ood` split nor requests in the wordings or
with the values of `val` and `test`. (The tokenizer knows their words, and forms mix all words at random.)
"""
