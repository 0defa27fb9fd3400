"""The cold start of the tiny policy: a stand-in for instruct training.

What it has seen, all of it from the train split of `data.synth` (wordings, values), played on the real simulators:

- *Single requests* of one to four turns in all four categories, solved; where a tool or a value is missing it says so
  instead of calling (`dialogues.solved`). Requests that need several calls (the train split's chains) are seen up to
  the first of them, which ends the dialogue with the goal asked for at once (`Instance.naive`): neither the error that
  follows nor the way out is shown. If its goal tool or a value is missing, that is said first.
- *Failures and hints* (`pairs`): a single request fails with a real error, because the state was changed or because a
  value was replaced by something that must be looked up. Beside the error stands a hint that names a tool, or three;
  the dialogue calls the tool that the message has details for, reads the real result and repeats the failed call, which
  mostly gets the answer of the intact state. Which tool is named is drawn at random, so that what is learned is to
  follow hints and to carry values over, not which tool helps. Where it happens to be one that helps in some task kind,
  the dialogue ends with its call.
- *Both in one conversation*: three of five such failures stand before or behind single requests to other simulators,
  as hints must be followed and values copied in long conversations too (`examples.joined`).
- *Forms* (`forms`): a tool, values for its arguments, and the call, so that values are copied to the digit.
- *Disguises*: in half of all this, values are exchanged for random words, tools that hints name have another name, and
  sentences lose or gain small words, so that they are read and not known by heart (`disguise`).
- *Failures without a hint*, or with one that says that no tool helps: it says that it did not work; without a hint, in
  a minority, it tries such a tool unasked.

What it has not seen: a chain solved, with or without hints; which tool a goal needs, but by chance, as often as any
other; the kinds and domains of the `ood` split; requests in the wordings or with the values of `val` and `test`. (The
tokenizer knows their words, and forms mix all words at random.)
"""
