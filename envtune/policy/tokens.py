"""Token bookkeeping: a conversation stays one growing list of token ids.

`prompt` renders the first messages and the tools. `continuation` gives the ids that follow an assistant message (the
results of a step, all at once, or the next user message) up to where the model writes again. A conversation is

    prompt + sampled + continuation + sampled + continuation + ... + sampled

Sampled ids are never decoded and encoded again on their way to the loss (token in, token out), because a tokenizer may
split the same text differently. The continuation is computed from the chat template by difference: a short dummy
conversation is rendered with the messages after it, and the text after the dummy's assistant message is encoded.

This is correct only for templates that keep prefixes: rendering one more message must not change the text before it.
Qwen3-Instruct-2507, Qwen2.5 and Llama 3 keep them. The thinking template of Qwen3 does not, because it drops the
reasoning of earlier turns. The check runs once, when a `ChatTokens` is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from envtune.chat import CUT_OFF
from envtune.types import JSON, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SAID = "envtune-dummy-{}"
_TOOL: JSON = {
    "type": "function",
    "function": {
        "name": "dummy",
        "description": "A dummy.",
        "parameters": {"type": "object", "properties": {"x": {"type": "string", "description": "X."}}},
    },
}
_CALL = '<tool_call>\n{"name": "dummy", "arguments": {"x": "1"}}\n</tool_call>'


class TemplateError(ValueError):
    """The chat template refuses a conversation, or does not keep prefixes, so tokens alone cannot continue it."""


class ChatTokens:
    """The token ids of conversations under one tokenizer's chat template.

    Args:
        tokenizer: with a chat template. It must mark the end of an assistant message by one special token.
        stop_ids: further ids that end a message, such as those of the model's generation config.

    Raises:
        TemplateError: the template changes the text before a new message, ends messages without a special token, or
            refuses the role of a message, such as `tool`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int] = ()) -> None:
        self.tokenizer: Any = tokenizer
        self._shows_tools = False
        if not getattr(tokenizer, "chat_template", None):
            raise TemplateError(f"the tokenizer {tokenizer.name_or_path!r} has no chat template. Set its chat_template")
        self._dummy: list[Message] = [{"role": "user", "content": "dummy"}, _assistant(0)]
        before, said, _ = self._render(self._dummy).partition(_SAID.format(0))
        if not said:
            self._fail("it does not render the text of an assistant message")
        self._head = before + said
        self.end_id = self._check_end()
        self.stop_ids = frozenset({self.end_id, tokenizer.eos_token_id, *stop_ids} - {None})
        self._check_prefixes()

    def prompt(self, messages: Sequence[Message], tools: Sequence[JSON] = ()) -> list[int]:
        """Ids of the conversation so far, up to where the assistant writes.

        Raises:
            TemplateError: the template leaves the tools out.
        """
        text = self._render(messages, tools, True)
        if tools and not self._shows_tools:
            check_tools(text, self._render(messages, (), True), tools, self.tokenizer.name_or_path)
            self._shows_tools = True
        return self._encode(text)

    def continuation(self, messages: Sequence[Message], last_id: int) -> list[int]:
        """Ids that follow a sampled message: its closing, `messages`, and the start of the next assistant message.

        Args:
            messages: all that the environment says.
            last_id: the last sampled id. If it closed the message, the closing is not repeated. A message that was cut
                off, or ended otherwise, is closed here.
        """
        ids = self._encode(self._tail(messages))
        return ids[1:] if last_id == self.end_id else ids

    def text(self, ids: Sequence[int], cut: bool = False) -> str:
        """The text of a sampled message, without its end token. It is marked if the length limit `cut` it off."""
        end = len(ids)
        while end and ids[end - 1] in self.stop_ids:
            end -= 1
        text = str(self.tokenizer.decode(ids[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False))
        return text + CUT_OFF if cut else text

    def _render(self, messages: Sequence[Message], tools: Sequence[JSON] = (), open_reply: bool = False) -> str:
        from jinja2 import TemplateError as Refusal

        try:
            text = self.tokenizer.apply_chat_template(
                list(messages), tools=list(tools) or None, add_generation_prompt=open_reply, tokenize=False
            )
        except Refusal as error:
            roles = ", ".join(dict.fromkeys(str(message["role"]) for message in messages))
            self._fail(
                f"it refuses messages of the roles {roles} ({(str(error) or type(error).__name__).splitlines()[0]})"
            )
        return str(text)

    def _encode(self, text: str) -> list[int]:
        # verbose would warn of a prompt that is too long, but the sampler and its callers check the room themselves
        return list(self.tokenizer.encode(text, add_special_tokens=False, verbose=False))

    def _tail(self, messages: Sequence[Message]) -> str:
        rendered = self._render([*self._dummy, *messages], open_reply=True)
        if not rendered.startswith(self._head):
            self._fail("another message changes what the template renders before it")
        return rendered[len(self._head) :]

    def _check_end(self) -> int:
        """The id that ends an assistant message."""
        tail = self._tail([{"role": "user", "content": "dummy"}])
        ids, said = self._encode(tail), self._encode(_SAID.format(0))
        if ids[0] not in self.tokenizer.all_special_ids or self._encode(_SAID.format(0) + tail) != said + ids:
            self._fail("its assistant messages do not end with one special token")
        return ids[0]

    def _check_prefixes(self) -> None:
        """Build a conversation from its parts and compare it with the template's own rendering."""
        user: Message = {"role": "user", "content": "user"}
        result: Message = {"role": "tool", "name": "dummy", "content": "[1]"}
        messages: list[Message] = [{"role": "system", "content": "system"}, user]
        text = self._render(messages, [_TOOL], True)
        for number, said in enumerate(([result], [result, result], [user], [result], [user, user]), start=1):
            assistant = _assistant(number, call=said[0]["role"] == "tool")
            messages += [assistant, *said]
            text += assistant["content"] + self._tail(said)
            if text != self._render(messages, [_TOOL], True):
                self._fail("a conversation built message by message differs from the conversation rendered as a whole")

    def _fail(self, why: str) -> NoReturn:
        raise TemplateError(
            f"the chat template of {self.tokenizer.name_or_path!r} cannot be continued by tokens: {why}. Use one that "
            "keeps prefixes, such as trl/chat_templates/qwen3_instruct_2507.jinja"
        )


def check_tools(text: str, without: str, tools: Sequence[JSON], name: str) -> None:
    """Refuse a template that leaves the tools out: an agent that reads no tool can only fail.

    Args:
        text: a prompt, rendered with the tools.
        without: the same prompt, rendered without them.
        tools: what should be in it.
        name: of the tokenizer.

    Raises:
        TemplateError: both are the same.
    """
    if text == without:
        raise TemplateError(
            f"the chat template of {name!r} ignores `tools`: a prompt with {len(tools)} tools has {len(text):,} "
            "characters, as without. Use a template that renders them, or the protocol `paper`, which lists them in a "
            "message"
        )


def _assistant(number: int, call: bool = False) -> Message:
    said = _SAID.format(number)
    return {"role": "assistant", "content": f"{said}\n{_CALL}" if call else said}
