"""The table of procedural task kinds: one row each.

A row says how users word the request (by split), the calls that fulfil it, and where the values come from. Wordings and
calls are format strings over the domain's world (`synth_worlds`) and the row's `draws`. The part of a wording between
`<` and `>` is what a `miss_param` task leaves out. `hold` says how the user then supplies it. To add a kind, add a row.
Words of `val` and `test` wordings all occur in `train` wordings: what is new is the sentence, not the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from envtune.data.synth_values import DOORS

SUPPLY = {
    "train": ("the {label} is {value}", "use {value} as the {label}"),
    "val": ("as the {label} use {value}",),
    "test": ("{value} is the {label}",),
    "ood": ("{value} is my {label}",),
}
"""How a user gives the value that an earlier sentence left out."""

FILES, MATH, MESSAGE, TWITTER = "GorillaFileSystem", "MathAPI", "MessageAPI", "TwitterAPI"
TICKET, TRADING, TRAVEL, VEHICLE = "TicketAPI", "TradingBot", "TravelAPI", "VehicleControlAPI"


@dataclass(frozen=True, eq=False)
class Kind:
    """One kind of request."""

    name: str
    domain: str
    calls: tuple[str, ...]
    """The calls that fulfil it, goal call last. Formatted twice, so that a value may name another one."""
    train: tuple[str, ...] = ()
    val: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    ood: tuple[str, ...] = ()
    """Wordings by split. A kind with `ood` wordings has no others: training never sees it."""
    draws: dict[str, str] = field(default_factory=dict)
    """Name in the wording -> pool of values, or `@` and a list of the world."""
    naive: str = ""
    """For a chain: the goal asked for at once, with what the user said. The simulator answers with an error."""
    before: tuple[str, ...] = ()
    """Labels of the domain's state in which the row is possible. Empty: any."""
    after: str = ""
    """Label of the state that it leaves. Empty: unchanged."""
    hold: tuple[str, str] | None = None
    """The value inside `<...>` that can be left out: its label and the value."""
    long: bool = False
    """Every result stays short when the simulator loads padded."""
    half: bool = False
    """Another chain with half of its preconditions met: an easier step towards it, used in `synth.chains` only."""
    also: tuple[str, ...] = ()
    """Further domains."""

    @property
    def chain(self) -> bool:
        """Whether the goal has preconditions that the request does not mention."""
        return bool(self.naive)

    @property
    def domains(self) -> tuple[str, ...]:
        """Simulator classes."""
        return (self.domain, *self.also)

    @property
    def tools(self) -> tuple[str, ...]:
        """Names of the tools called, in order, each once."""
        return tuple(dict.fromkeys(call.split("(", 1)[0] for call in self.calls))

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits that hold the kind."""
        return tuple(split for split in ("train", "val", "test", "ood") if getattr(self, split))


# fmt: off
_FILE_KINDS = (
    Kind(
        "cd_cat", FILES, ("cd(folder={dir!r})", "cat(file_name={f.name!r})"),
        train=(
            "show me the file {f.name} in the folder {dir}",
            "what does {f.name} in {dir} say",
            "in {dir} show me {f.name}",
        ),
        val=("show me what {f.name} in the folder {dir} does say",),
        test=("what is in the file {f.name} in {dir}",),
        draws={"f": "@inner"}, naive="cat(file_name={f.name!r})", before=("root",), after="sub",
    ),
    Kind(
        "cd_sort", FILES, ("cd(folder={dir!r})", "sort(file_name={f.name!r})"),
        ood=("sort the file {f.name} in the folder {dir}", "please sort {f.name} in {dir}", "in {dir} sort {f.name}"),
        draws={"f": "@inner"}, naive="sort(file_name={f.name!r})", before=("root",), after="sub",
    ),
    Kind(
        "cd_grep", FILES, ("cd(folder={dir!r})", "grep(file_name={f.name!r}, pattern={f.lines[0]!r})"),
        ood=(
            "find a line in {f.name} in the folder {dir}<: {f.lines[0]}>",
            "search {f.name} in {dir}<: {f.lines[0]}>",
        ),
        draws={"f": "@inner"}, naive="grep(file_name={f.name!r}, pattern={f.lines[0]!r})",
        before=("root",), after="sub", hold=("line", "{f.lines[0]}"), long=True,
    ),
    Kind(
        "cd_rename", FILES, ("cd(folder={dir!r})", "mv(source={f.name!r}, destination={g!r})"),
        ood=("rename {f.name} in {dir}< to {g}>", "in the folder {dir} rename the file {f.name}< to {g}>"),
        draws={"f": "@inner", "g": "file"}, naive="mv(source={f.name!r}, destination={g!r})",
        before=("root",), after="sub", hold=("new name", "{g}"), long=True,
    ),
    Kind(
        "cd_remove", FILES, ("cd(folder={dir!r})", "rm(file_name={f.name!r})"),
        train=(
            "remove the file {f.name} in the folder {dir}",
            "please remove {f.name} in {dir}",
            "in {dir} remove {f.name}",
        ),
        val=("remove {f.name} in the folder {dir}",),
        test=("please remove the file {f.name} in {dir}",),
        draws={"f": "@inner"}, naive="rm(file_name={f.name!r})", before=("root",), after="sub", long=True,
    ),
    Kind(
        "touch_echo", FILES, ("touch(file_name={g!r})", "echo(content={t!r}, file_name={g!r})"),
        train=("write a new file {g}<: {t}>", "i want a new file {g} that does say<: {t}>"),
        val=("please write a new file {g}<: {t}>",),
        test=("i want to write a new file {g}<: {t}>",),
        draws={"g": "file", "t": "text"}, naive="echo(content={t!r}, file_name={g!r})", before=("root",),
        hold=("text", "{t}"), long=True,
    ),
    Kind(
        "back_cat", FILES, ("cd(folder='..')", "cat(file_name={f.name!r})"),
        ood=("show me the file {f.name} in the home folder", "what does {f.name} in home say"),
        draws={"f": "@file"}, naive="cat(file_name={f.name!r})", before=("sub",), after="root",
    ),
    Kind(
        "mkdir_touch", FILES, ("mkdir(dir_name={d!r})", "cd(folder={d!r})", "touch(file_name={g!r})"),
        ood=("put an empty file in a new folder {d}<: {g}>", "make a new folder {d} with an empty file in it<: {g}>"),
        draws={"d": "folder", "g": "file"}, naive="touch(file_name='{d}/{g}')", before=("root",), after="new",
        hold=("file", "{g}"),
        long=True,
    ),
    Kind(
        "deep_cat", FILES, ("cd(folder={outer!r})", "cd(folder={nested!r})", "cat(file_name={core.name!r})"),
        ood=(
            "show me {core.name} in {nested} in {outer}",
            "in {outer} go to {nested} and show me the file {core.name}",
        ),
        naive="cat(file_name={core.name!r})", before=("root",), after="deep",
    ),
    Kind(
        "cat", FILES, ("cat(file_name={f.name!r})",),
        train=("show me the file {f.name}", "what does {f.name} say", "what is in {f.name}"),
        val=("please show me {f.name}",), test=("what does the file {f.name} say",),
        draws={"f": "@file"}, before=("root",),
    ),
    Kind(
        "cat_here", FILES, ("cat(file_name={f.name!r})",),
        train=("now show me the file {f.name} here", "what does {f.name} here say"),
        val=("show me {f.name} here",), test=("what is in {f.name} here",),
        draws={"f": "@inner"}, before=("sub",),
    ),
    Kind(
        "sort", FILES, ("sort(file_name={f.name!r})",),
        train=("sort the file {f.name}", "please sort {f.name}"), val=("sort {f.name} please",),
        test=("sort {f.name} now",),
        draws={"f": "@file"}, before=("root",),
    ),
    Kind(
        "grep", FILES, ("grep(file_name={f.name!r}, pattern={f.lines[0]!r})",),
        train=("find a line in {f.name}<: {f.lines[0]}>", "search the file {f.name}<: {f.lines[0]}>"),
        val=("search {f.name}<: {f.lines[0]}>",), test=("please find a line in {f.name}<: {f.lines[0]}>",),
        draws={"f": "@file"}, before=("root",), hold=("line", "{f.lines[0]}"), long=True,
    ),
    Kind(
        "rename", FILES, ("mv(source={f.name!r}, destination={g!r})",),
        train=("rename {f.name}< to {g}>", "please rename the file {f.name}< to {g}>"),
        val=("rename the file {f.name}< to {g}>",), test=("please rename {f.name}< to {g}>",),
        draws={"f": "@file", "g": "file"}, before=("root",), hold=("new name", "{g}"), long=True,
    ),
    Kind(
        "remove", FILES, ("rm(file_name={f.name!r})",),
        train=("remove the file {f.name}", "please remove {f.name}"),
        val=("remove {f.name} please",), test=("now remove {f.name}",),
        draws={"f": "@file"}, before=("root",), long=True,
    ),
    Kind(
        "echo", FILES, ("echo(content={t!r}, file_name={f.name!r})",),
        train=("write to the file {f.name}<: {t}>", "write to {f.name} here<: {t}>"),
        val=("please write to {f.name}<: {t}>",), test=("write to {f.name}<: {t}>",),
        draws={"f": "@file", "t": "text"}, before=("root",), hold=("text", "{t}"), long=True,
    ),
    Kind(
        "touch", FILES, ("touch(file_name={g!r})",),
        train=("make the empty file {g}", "i want an empty file {g}"),
        val=("make an empty file {g}",), test=("i want the empty file {g}",),
        draws={"g": "file"}, long=True,
    ),
    Kind(
        "mkdir", FILES, ("mkdir(dir_name={d!r})",),
        train=("make the folder {d}", "i want a new folder {d}"),
        val=("make a new folder {d}",), test=("i want the new folder {d}",),
        draws={"d": "folder"}, before=("root",), long=True,
    ),
    Kind(
        "cd", FILES, ("cd(folder={dir!r})",),
        train=("go to the folder {dir}", "please go to {dir}"), val=("go to {dir} now",),
        test=("now go to the folder {dir}",),
        before=("root",), after="sub", long=True,
    ),
)

_MATH_KINDS = (
    Kind(
        "metric_imperial", MATH,
        (
            "si_unit_conversion(value={c.n}, unit_in={c.a!r}, unit_out={c.b!r})",
            "imperial_si_conversion(value={c.middle!r}, unit_in={c.b!r}, unit_out={c.c!r})",
        ),
        ood=("convert to {c.c}<: {c.n} {c.a}>", "how many {c.c} are there<: {c.n} {c.a}>"),
        draws={"c": "to_imperial"}, naive="imperial_si_conversion(value={c.n}, unit_in={c.a!r}, unit_out={c.c!r})",
        hold=("value", "{c.n} {c.a}"), long=True,
    ),
    Kind(
        "imperial_metric", MATH,
        (
            "imperial_si_conversion(value={c.n}, unit_in={c.a!r}, unit_out={c.b!r})",
            "si_unit_conversion(value={c.middle!r}, unit_in={c.b!r}, unit_out={c.c!r})",
        ),
        ood=("convert to {c.c}<: {c.n} {c.a}>", "how many {c.c} are there<: {c.n} {c.a}>"),
        draws={"c": "to_metric"}, naive="imperial_si_conversion(value={c.n}, unit_in={c.a!r}, unit_out={c.c!r})",
        hold=("value", "{c.n} {c.a}"), long=True,
    ),
    Kind(
        "si_unit", MATH, ("si_unit_conversion(value={c.n}, unit_in={c.a!r}, unit_out={c.b!r})",),
        ood=("convert {c.n} {c.a} to {c.b}", "how many {c.b} are {c.n} {c.a}"), draws={"c": "to_imperial"}, long=True,
    ),
    Kind(
        "imperial", MATH, ("imperial_si_conversion(value={c.n}, unit_in={c.a!r}, unit_out={c.b!r})",),
        ood=("convert {c.n} {c.a} to {c.b}", "how many {c.b} are {c.n} {c.a}"), draws={"c": "to_metric"}, long=True,
    ),
    Kind(
        "add", MATH, ("add(a={h}, b={n})",), ood=("what is {h}< plus {n}>", "add< {n} to> {h}"),
        draws={"h": "hundreds", "n": "number"}, hold=("other number", "{n}"), long=True,
    ),
    Kind(
        "multiply", MATH, ("multiply(a={p}, b={d})",), ood=("what is {p}< times {d}>", "multiply {p}< by {d}>"),
        draws={"p": "prime", "d": "digit"}, hold=("other number", "{d}"), long=True,
    ),
)

_MESSAGE_KINDS = (
    Kind(
        "id_message", MESSAGE, ("get_user_id(user={u.name!r})", "send_message(receiver_id={u.id!r}, message={t!r})"),
        train=(
            "send {u.name} a message<: {t}>",
            "please send a message to {u.name}<: {t}>",
            "write to {u.name}<: {t}>",
        ),
        val=("please write to {u.name}<: {t}>",), test=("send a message to {u.name}<: {t}>",),
        draws={"u": "@user", "t": "text"}, naive="send_message(receiver_id={u.name!r}, message={t!r})",
        before=("in",), hold=("message", "{t}"), long=True,
    ),
    Kind(
        "login_message", MESSAGE,
        ("message_login(user_id={me.id!r})", "send_message(receiver_id={u.id!r}, message={t!r})"),
        train=("i am {me.id} , send {u.id} a message<: {t}>", "send a message to {u.id} , i am {me.id}<: {t}>"),
        val=("i am {me.id} , please write to {u.id}<: {t}>",), test=("i am {me.id} , send a message to {u.id}<: {t}>",),
        draws={"u": "@user", "t": "text"}, naive="send_message(receiver_id={u.id!r}, message={t!r})",
        before=("out",), after="in", hold=("message", "{t}"), long=True,
    ),
    Kind(
        "contact_message", MESSAGE,
        ("add_contact(user_name={n!r})", "send_message(receiver_id={new_id!r}, message={t!r})"),
        ood=("{n} is new here , send {n} a message<: {t}>", "write to {n} who is new here<: {t}>"),
        draws={"n": "name", "t": "text"}, naive="send_message(receiver_id={n!r}, message={t!r})",
        before=("in",), hold=("message", "{t}"), long=True,
    ),
    Kind(
        "id_delete", MESSAGE, ("get_user_id(user={u.name!r})", "delete_message(receiver_id={u.id!r})"),
        ood=("delete my last message to {u.name}", "please delete the message to {u.name}"),
        draws={"u": "@mailed"}, naive="delete_message(receiver_id={u.name!r})", before=("in",), long=True,
    ),
    Kind(
        "name_login_delete", MESSAGE,
        ("get_user_id(user={me.name!r})", "message_login(user_id={me.id!r})", "delete_message(receiver_id={u.id!r})"),
        ood=(
            "i am {me.name} , delete my last message< to {u.id}>",
            "my name is {me.name} , please delete my message< to {u.id}>",
        ),
        draws={"u": "@mailed"}, naive="delete_message(receiver_id={u.id!r})", before=("out",), after="in",
        hold=("receiver", "{u.id}"), long=True,
    ),
    Kind(
        "user_id", MESSAGE, ("get_user_id(user={u.name!r})",),
        train=("what is the id of {u.name}", "show me the id of {u.name}"),
        val=("please show me the id of {u.name}",), test=("the id of {u.name} please",), draws={"u": "@user"},
        long=True,
    ),
    Kind(
        "message_login", MESSAGE, ("message_login(user_id={me.id!r})",),
        train=("log me in to my messages as {me.id}", "i am {me.id} , log me in to my messages"),
        val=("log me in to my messages , i am {me.id}",), test=("please log me in to my messages as {me.id}",),
        before=("out",), after="in", long=True,
    ),
    Kind(
        "send_message", MESSAGE, ("send_message(receiver_id={u.id!r}, message={t!r})",),
        train=("send {u.id} a message<: {t}>", "please send a message to {u.id}<: {t}>"),
        val=("write to {u.id}<: {t}>",), test=("send a message to {u.id}<: {t}>",),
        draws={"u": "@user", "t": "text"}, before=("in",), hold=("message", "{t}"), long=True,
    ),
    Kind(
        "delete_message", MESSAGE, ("delete_message(receiver_id={u.id!r})",),
        train=("delete my last message to {u.id}", "please delete the message to {u.id}"),
        val=("delete the last message to {u.id}",), test=("please delete my message to {u.id}",),
        draws={"u": "@mailed"}, before=("in",), long=True,
    ),
    Kind(
        "add_contact", MESSAGE, ("add_contact(user_name={n!r})",),
        train=("add {n} to my contacts", "{n} is a new contact , add {n}"),
        val=("please add {n} to my contacts",), test=("add the new contact {n}",), draws={"n": "name"}, long=True,
    ),
    Kind(
        "search_messages", MESSAGE, ("search_messages(keyword={t!r})",),
        train=("search my messages<: {t}>", "find the message<: {t}>"),
        val=("please search my messages<: {t}>",), test=("find my message<: {t}>",),
        draws={"t": "@mail"}, before=("in",), hold=("text", "{t}"), long=True,
    ),
)

_TWITTER_LOGIN = "authenticate_twitter(username={user!r}, password={password!r})"

_TWITTER_KINDS = (
    Kind(
        "login_post", TWITTER, (_TWITTER_LOGIN, "post_tweet(content={t!r})"),
        train=("i am {user} , password {password} , post<: {t}>", "post for {user} , password {password}<: {t}>"),
        val=("post for me , i am {user} , password {password}<: {t}>",),
        test=("my name is {user} , password {password} , please post<: {t}>",),
        draws={"t": "text"}, naive="post_tweet(content={t!r})", before=("out",), after="in", hold=("text", "{t}"),
        long=True,
    ),
    Kind(
        "login_follow", TWITTER, (_TWITTER_LOGIN, "follow_user(username_to_follow={n!r})"),
        ood=("i am {user} , password {password} , follow {n}", "follow {n} for {user} , password {password}"),
        draws={"n": "name"}, naive="follow_user(username_to_follow={n!r})", before=("out",), after="in", long=True,
    ),
    Kind(
        "login_comment", TWITTER, (_TWITTER_LOGIN, "comment(tweet_id={w.id}, comment_content={t!r})"),
        ood=(
            "i am {user} , password {password} , comment on tweet {w.id}<: {t}>",
            "comment on tweet {w.id} for {user} , password {password}<: {t}>",
        ),
        draws={"w": "@tweet", "t": "text"}, naive="comment(tweet_id={w.id}, comment_content={t!r})",
        before=("out",), after="in", hold=("comment", "{t}"), long=True,
    ),
    Kind(
        "author_comment", TWITTER,
        ("get_user_tweets(username={w.author!r})", "comment(tweet_id={w.id}, comment_content={t!r})"),
        train=("comment on the tweet of {w.author}<: {t}>", "please comment on what {w.author} did post<: {t}>"),
        val=("please comment on the tweet of {w.author}<: {t}>",), test=("comment on what {w.author} did post<: {t}>",),
        draws={"w": "@tweet", "t": "text"}, naive="comment(tweet_id={w.author!r}, comment_content={t!r})",
        before=("in",), hold=("comment", "{t}"), long=True,
    ),
    Kind(
        "author_retweet", TWITTER,
        (_TWITTER_LOGIN, "get_user_tweets(username={w.author!r})", "retweet(tweet_id={w.id})"),
        ood=(
            "i am {user} , password {password} , retweet what {w.author} did post",
            "retweet the tweet of {w.author} for {user} , password {password}",
        ),
        draws={"w": "@tweet"}, naive="retweet(tweet_id={w.author!r})", before=("out",), after="in", long=True,
    ),
    Kind(
        "login_unfollow", TWITTER, (_TWITTER_LOGIN, "unfollow_user(username_to_unfollow={n!r})"),
        ood=(
            "i am {user} , password {password} , unfollow a user<: {n}>",
            "unfollow a user for {user} , password {password}<: {n}>",
        ),
        draws={"n": "@followed"}, naive="unfollow_user(username_to_unfollow={n!r})", before=("out",), after="in",
        hold=("user", "{n}"),
        long=True,
    ),
    Kind(
        "twitter_login", TWITTER, (_TWITTER_LOGIN,),
        train=(
            "log me in to twitter , i am {user} , password {password}",
            "my name is {user} , password {password} , log me in to twitter",
            "log in {user} to twitter , password {password}",
        ),
        val=("i am {user} , password {password} , log me in to twitter",),
        test=("please log in {user} to twitter , password {password}",), before=("out",), after="in", long=True,
    ),
    Kind(
        "post", TWITTER, ("post_tweet(content={t!r})",),
        train=("post for me<: {t}>", "i want to post<: {t}>"), val=("please post for me<: {t}>",),
        test=("i want to post now<: {t}>",), draws={"t": "text"}, before=("in",), hold=("text", "{t}"), long=True,
    ),
    Kind(
        "follow", TWITTER, ("follow_user(username_to_follow={n!r})",),
        train=("follow {n} for me", "i want to follow {n}"), val=("please follow {n}",), test=("follow {n} now",),
        draws={"n": "name"}, before=("in",), long=True,
    ),
    Kind(
        "unfollow", TWITTER, ("unfollow_user(username_to_unfollow={n!r})",),
        train=("unfollow {n} for me", "i want to unfollow {n}"), val=("please unfollow {n}",),
        test=("unfollow {n} now",),
        draws={"n": "@followed"}, before=("in",), long=True,
    ),
    Kind(
        "comment", TWITTER, ("comment(tweet_id={w.id}, comment_content={t!r})",),
        train=("comment on tweet {w.id} for me<: {t}>", "i want to comment on tweet {w.id}<: {t}>"),
        val=("please comment on tweet {w.id}<: {t}>",), test=("comment on tweet {w.id} now<: {t}>",),
        draws={"w": "@tweet", "t": "text"}, before=("in",), hold=("comment", "{t}"), long=True,
    ),
    Kind(
        "retweet", TWITTER, ("retweet(tweet_id={w.id})",),
        train=("retweet tweet {w.id} for me", "i want to retweet tweet {w.id}"),
        val=("please retweet tweet {w.id}",), test=("retweet tweet {w.id} now",),
        draws={"w": "@tweet"}, before=("in",), long=True,
    ),
    Kind(
        "get_tweet", TWITTER, ("get_tweet(tweet_id={w.id})",),
        train=("show me tweet {w.id}", "what does tweet {w.id} say"),
        val=("please show me tweet {w.id}",), test=("what is in tweet {w.id}",), draws={"w": "@tweet"}, long=True,
    ),
    Kind(
        "user_tweets", TWITTER, ("get_user_tweets(username={w.author!r})",),
        train=("show me the tweets of {w.author}", "what did {w.author} post"),
        val=("please show me what {w.author} did post",), test=("the tweets of {w.author} please",),
        draws={"w": "@tweet"}, long=True,
    ),
)

_TICKET_LOGIN = "ticket_login(username={user!r}, password={password!r})"

_TICKET_KINDS = (
    Kind(
        "login_ticket", TICKET, (_TICKET_LOGIN, "create_ticket(title={t!r})"),
        ood=(
            "i am {user} , password {password} , open a ticket<: {t}>",
            "open a ticket for {user} , password {password}<: {t}>",
        ),
        draws={"t": "text"}, naive="create_ticket(title={t!r})", before=("out",), after="in", hold=("title", "{t}"),
        long=True,
    ),
    Kind(
        "login_tickets", TICKET, (_TICKET_LOGIN, "get_user_tickets()"),
        ood=(
            "i am {user} , password {password} , show me my tickets",
            "list the tickets of {user} , password {password}",
        ),
        naive="get_user_tickets()", before=("out",), after="in", long=True,
    ),
    Kind(
        "find_close", TICKET, ("get_user_tickets()", "close_ticket(ticket_id={k.id})"),
        ood=("close my ticket<: {k.title}>", "please close the ticket<: {k.title}>"),
        draws={"k": "@ticket"}, naive="close_ticket(ticket_id={k.title!r})", before=("in",),
        hold=("title", "{k.title}"),
        long=True,
    ),
    Kind(
        "ticket_login", TICKET, (_TICKET_LOGIN,),
        ood=("log me in to my tickets , i am {user} , password {password}",), before=("out",), after="in", long=True,
    ),
    Kind(
        "create_ticket", TICKET, ("create_ticket(title={t!r})",),
        ood=("open a ticket<: {t}>", "i want to open a ticket<: {t}>"),
        draws={"t": "text"}, before=("in",), hold=("title", "{t}"), long=True,
    ),
    Kind(
        "close_ticket", TICKET, ("close_ticket(ticket_id={k.id})",),
        ood=("close ticket {k.id}", "please close ticket {k.id}"),
        draws={"k": "@ticket"}, long=True,
    ),
    Kind(
        "resolve_ticket", TICKET, ("resolve_ticket(ticket_id={k.id}, resolution={t!r})",),
        ood=("resolve ticket {k.id}<: {t}>", "ticket {k.id} is solved<: {t}>"),
        draws={"k": "@ticket", "t": "text"}, hold=("resolution", "{t}"), long=True,
    ),
    Kind(
        "get_ticket", TICKET, ("get_ticket(ticket_id={k.id})",),
        ood=("show me ticket {k.id}", "what is in ticket {k.id}"),
        draws={"k": "@ticket"}, long=True,
    ),
)

_TRADING_LOGIN = "trading_login(username={user!r}, password={password!r})"
_ORDER = "place_order(order_type={s.order_type!r}, symbol={c.symbol!r}, price={p}, amount={n})"
_BUY = "place_order(order_type='Buy', symbol={c.symbol!r}, price={{price[{c.symbol}]}}, amount={n})"

_TRADING_KINDS = (
    Kind(
        "login_order", TRADING, (_TRADING_LOGIN, _ORDER),
        ood=(
            "i am {user} , password {password} , {s.word} {n} {c.symbol}< at {p}>",
            "{s.word} {n} {c.symbol} for {user} , password {password}< at {p}>",
        ),
        draws={"s": "side", "c": "company", "n": "number", "p": "number"}, naive=_ORDER,
        before=("out",), after="in", hold=("price", "{p}"), long=True,
    ),
    Kind(
        "login_fund", TRADING, (_TRADING_LOGIN, "fund_account(amount={n})"),
        train=(
            "i am {user} , password {password} , add money to my account<: {n} dollars>",
            "add money to the account of {user} , password {password}<: {n} dollars>",
        ),
        val=("add money to my account , i am {user} , password {password}<: {n} dollars>",),
        test=("my name is {user} , password {password} , please add money to my account<: {n} dollars>",),
        draws={"n": "number"}, naive="fund_account(amount={n})",
        before=("out",), after="in", hold=("amount", "{n} dollars"), long=True,
    ),
    Kind(
        "symbol_info", TRADING, ("get_symbol_by_name(name={c.name!r})", "get_stock_info(symbol={c.symbol!r})"),
        train=("show me the stock of {c.name}", "how is the stock of {c.name}", "what is the stock price of {c.name}"),
        val=("please show me how the stock of {c.name} is",), test=("what is the price of the stock of {c.name}",),
        draws={"c": "company"}, naive="get_stock_info(symbol={c.name!r})",
    ),
    Kind(
        "company_order", TRADING, ("get_symbol_by_name(name={c.name!r})", _ORDER),
        ood=("{s.word} {n} stocks of {c.name}< at {p}>", "please {s.word} {n} of {c.name}< at {p}>"),
        draws={"s": "side", "c": "company", "n": "number", "p": "number"},
        naive="place_order(order_type={s.order_type!r}, symbol={c.name!r}, price={p}, amount={n})",
        before=("in",), hold=("price", "{p}"), long=True,
    ),
    Kind(
        "price_order", TRADING, ("get_stock_info(symbol={c.symbol!r})", _BUY),
        ood=(
            "buy {c.symbol} at the price of now<: {n} stocks>",
            "i want to buy {c.symbol} at the price of now<: {n} stocks>",
        ),
        draws={"c": "company", "n": "number"},
        naive="place_order(order_type='Buy', symbol={c.symbol!r}, price=0, amount={n})",
        before=("in",), hold=("amount", "{n} stocks"),
    ),
    Kind(
        "company_price_order", TRADING,
        ("get_symbol_by_name(name={c.name!r})", "get_stock_info(symbol={c.symbol!r})", _BUY),
        ood=("buy {c.name} at the price of now<: {n} stocks>", "at the price of now buy {c.name}<: {n} stocks>"),
        draws={"c": "company", "n": "number"},
        naive="place_order(order_type='Buy', symbol={c.name!r}, price=0, amount={n})", before=("in",),
        hold=("amount", "{n} stocks"),
    ),
    Kind(
        "login_unwatch", TRADING, (_TRADING_LOGIN, "remove_stock_from_watchlist(symbol={c.symbol!r})"),
        ood=(
            "i am {user} , password {password} , do not watch {c.symbol}",
            "remove {c.symbol} from the stocks that {user} does watch , password {password}",
        ),
        draws={"c": "@watched"}, naive="remove_stock_from_watchlist(symbol={c.symbol!r})",
        before=("out",), after="in", long=True,
    ),
    Kind(
        "trading_login", TRADING, (_TRADING_LOGIN,),
        train=(
            "log me in to trading , i am {user} , password {password}",
            "log in {user} to trading , password {password}",
        ),
        val=("i am {user} , password {password} , log me in to trading",),
        test=("please log in {user} to trading , password {password}",), before=("out",), after="in", long=True,
    ),
    Kind(
        "symbol", TRADING, ("get_symbol_by_name(name={c.name!r})",),
        train=("what is the symbol of {c.name}", "show me the symbol of {c.name}"),
        val=("please show me the symbol of {c.name}",), test=("the symbol of {c.name} please",),
        draws={"c": "company"}, long=True,
    ),
    Kind(
        "stock_info", TRADING, ("get_stock_info(symbol={c.symbol!r})",),
        train=("show me the stock {c.symbol}", "how is the stock {c.symbol}", "what is the price of {c.symbol}"),
        val=("please show me how the stock {c.symbol} is",), test=("what is the price of the stock {c.symbol}",),
        draws={"c": "company"},
    ),
    Kind(
        "order", TRADING, (_ORDER,),
        train=("{s.word} {n} stocks of {c.symbol}< at {p}>", "please {s.word} {n} {c.symbol}< at {p}>"),
        val=("please {s.word} {n} stocks of {c.symbol}< at {p}>",),
        test=("i want to {s.word} {n} {c.symbol}< at {p}>",),
        draws={"s": "side", "c": "company", "n": "number", "p": "number"}, before=("in",), hold=("price", "{p}"),
        long=True,
    ),
    Kind(
        "fund", TRADING, ("fund_account(amount={n})",),
        train=("add money to my account<: {n} dollars>", "please add money to the account<: {n} dollars>"),
        val=("please add money to my account<: {n} dollars>",),
        test=("i want to add money to my account<: {n} dollars>",),
        draws={"n": "number"}, before=("in",), hold=("amount", "{n} dollars"), long=True,
    ),
    Kind(
        "withdraw", TRADING, ("withdraw_funds(amount={n})",),
        train=("take money out of my account<: {n} dollars>", "please take money out of the account<: {n} dollars>"),
        val=("please take money out of my account<: {n} dollars>",),
        test=("i want to take money out of my account<: {n} dollars>",),
        draws={"n": "number"}, before=("in",), hold=("amount", "{n} dollars"), long=True,
    ),
    Kind(
        "cancel_order", TRADING, ("cancel_order(order_id={o})",),
        train=("cancel order {o}", "please cancel my order {o}"), val=("cancel my order {o}",),
        test=("please cancel order {o}",),
        draws={"o": "@order"}, long=True,
    ),
    Kind(
        "order_details", TRADING, ("get_order_details(order_id={o})",),
        train=("show me order {o}", "what is in my order {o}"), val=("please show me my order {o}",),
        test=("what is in order {o}",), draws={"o": "@order"},
    ),
    Kind(
        "watch", TRADING, ("add_to_watchlist(stock={c.symbol!r})",),
        train=("watch the stock {c.symbol}", "please watch {c.symbol} for me"),
        val=("please watch the stock {c.symbol}",), test=("watch {c.symbol} for me",), draws={"c": "company"},
        long=True,
    ),
    Kind(
        "unwatch", TRADING, ("remove_stock_from_watchlist(symbol={c.symbol!r})",),
        train=("do not watch {c.symbol}", "please do not watch the stock {c.symbol}"),
        val=("please do not watch {c.symbol}",), test=("do not watch the stock {c.symbol}",),
        draws={"c": "@watched"}, before=("in",), long=True,
    ),
)

_AIRPORTS = (
    "get_nearest_airport_by_city(location={f.start.name!r})",
    "get_nearest_airport_by_city(location={f.end.name!r})",
)
_FLY = "travel_from={f.start.%s!r}, travel_to={f.end.%s!r}, travel_date={date!r}, travel_class={k!r})"
_COST = "get_flight_cost(" + _FLY
_BOOK = "book_flight(access_token={token!r}, card_id={card!r}, " + _FLY
_TRAVEL_LOGIN = (
    "authenticate_travel(client_id={client!r}, client_secret={secret!r}, refresh_token={refresh!r}, "
    "grant_type='read_write', user_first_name={first!r}, user_last_name={last!r})"
)
_TRAVELLER = "{first} {last} , client {client} , secret {secret} , refresh {refresh}"
_FLIGHT_DRAWS = {"f": "flight", "date": "date", "k": "cabin"}
_CODE, _NAME = ("airport", "airport"), ("name", "name")

_PAID = " on {date} with card {card}< and token {token}>"
_CITIES_DAY = "{f.start.name} to {f.end.name}" + _PAID
_CODES_DAY = "{f.start.airport} to {f.end.airport}" + _PAID

_TRAVEL_KINDS = (
    Kind(
        "flight_cost", TRAVEL, (*_AIRPORTS, _COST % _CODE),
        train=(
            "what is the cost to fly {k} from {f.start.name} to {f.end.name}< on {date}>",
            "how much is a {k} flight from {f.start.name} to {f.end.name}< on {date}>",
        ),
        val=("how much is it to fly {k} from {f.start.name} to {f.end.name}< on {date}>",),
        test=("what is the cost of a {k} flight from {f.start.name} to {f.end.name}< on {date}>",),
        draws=_FLIGHT_DRAWS, naive=_COST % _NAME, hold=("date", "{date}"),
    ),
    Kind(
        "flight_cost_half", TRAVEL, (_AIRPORTS[1], _COST % _CODE),
        train=(
            "what is the cost to fly {k} from {f.start.airport} to {f.end.name}< on {date}>",
            "how much is a {k} flight from {f.start.airport} to {f.end.name}< on {date}>",
        ),
        val=("how much is it to fly {k} from {f.start.airport} to {f.end.name}< on {date}>",),
        test=("what is the cost of a {k} flight from {f.start.airport} to {f.end.name}< on {date}>",),
        draws=_FLIGHT_DRAWS, naive=_COST % ("airport", "name"), hold=("date", "{date}"), half=True,
    ),
    Kind(
        "flight_cost_other_half", TRAVEL, (_AIRPORTS[0], _COST % _CODE),
        train=(
            "what is the cost to fly {k} from {f.start.name} to {f.end.airport}< on {date}>",
            "how much is a {k} flight from {f.start.name} to {f.end.airport}< on {date}>",
        ),
        val=("how much is it to fly {k} from {f.start.name} to {f.end.airport}< on {date}>",),
        test=("what is the cost of a {k} flight from {f.start.name} to {f.end.airport}< on {date}>",),
        draws=_FLIGHT_DRAWS, naive=_COST % ("name", "airport"), hold=("date", "{date}"), half=True,
    ),
    Kind(
        "city_booking", TRAVEL, (*_AIRPORTS, _BOOK % _CODE),
        ood=(
            "book a {k} flight from " + _CITIES_DAY,
            "i want to fly {k} from " + _CITIES_DAY,
        ),
        draws=_FLIGHT_DRAWS, naive=_BOOK % _NAME, before=("in",), hold=("token", "{token}"),
    ),
    Kind(
        "cancel_trip", TRAVEL,
        (
            "get_booking_history(access_token={token!r})",
            "cancel_booking(access_token={token!r}, booking_id={booking!r})",
        ),
        ood=(
            "cancel my flight to {trip.end.name}< with token {token}>",
            "please cancel the flight to {trip.end.name}< with token {token}>",
        ),
        naive="cancel_booking(access_token={token!r}, booking_id={trip.end.name!r})",
        before=("in",), after="gone", hold=("token", "{token}"),
    ),
    Kind(
        "login_budget", TRAVEL, (_TRAVEL_LOGIN, "set_budget_limit(access_token={new_token!r}, budget_limit={n})"),
        ood=(
            "i am " + _TRAVELLER + " , set my travel budget<: {n} dollars>",
            "set the travel budget of " + _TRAVELLER + "<: {n} dollars>",
        ),
        draws={"n": "number"}, naive="set_budget_limit(access_token={client!r}, budget_limit={n})",
        before=("out",), after="new", hold=("amount", "{n} dollars"), long=True,
    ),
    Kind(
        "trip_invoice", TRAVEL,
        (
            "get_booking_history(access_token={token!r})",
            "retrieve_invoice(access_token={token!r}, booking_id={booking!r})",
        ),
        ood=(
            "show me the invoice of my flight to {trip.end.name}< with token {token}>",
            "get the invoice of the flight to {trip.end.name}< with token {token}>",
        ),
        naive="retrieve_invoice(access_token={token!r}, booking_id={trip.end.name!r})", before=("in",),
        hold=("token", "{token}"),
    ),
    Kind(
        "login_card", TRAVEL, (_TRAVEL_LOGIN, "get_credit_card_balance(access_token={new_token!r}, card_id={card!r})"),
        ood=(
            "i am " + _TRAVELLER + " , how much money is on my card<: {card}>",
            "how much is on the card of " + _TRAVELLER + "<: {card}>",
        ),
        naive="get_credit_card_balance(access_token={client!r}, card_id={card!r})", before=("out",), after="new",
        hold=("card", "{card}"),
        long=True,
    ),
    Kind(
        "airport", TRAVEL, ("get_nearest_airport_by_city(location={c.name!r})",),
        train=("what is the nearest airport of {c.name}", "show me the airport of {c.name}"),
        val=("please show me the nearest airport of {c.name}",), test=("the airport of {c.name} please",),
        draws={"c": "air_city"}, long=True,
    ),
    Kind(
        "code_cost", TRAVEL, (_COST % _CODE,),
        train=(
            "what is the cost to fly {k} from {f.start.airport} to {f.end.airport}< on {date}>",
            "how much is a {k} flight from {f.start.airport} to {f.end.airport}< on {date}>",
        ),
        val=("how much is it to fly {k} from {f.start.airport} to {f.end.airport}< on {date}>",),
        test=("what is the cost of a {k} flight from {f.start.airport} to {f.end.airport}< on {date}>",),
        draws=_FLIGHT_DRAWS, hold=("date", "{date}"),
    ),
    Kind(
        "code_booking", TRAVEL, (_BOOK % _CODE,),
        train=(
            "book a {k} flight from " + _CODES_DAY,
            "i want to fly {k} from " + _CODES_DAY,
        ),
        val=("please book a {k} flight from " + _CODES_DAY,),
        test=("please book to fly {k} from " + _CODES_DAY,),
        draws=_FLIGHT_DRAWS, before=("in",), hold=("token", "{token}"),
    ),
    Kind(
        "travel_login", TRAVEL, (_TRAVEL_LOGIN,),
        train=("log me in to travel , i am " + _TRAVELLER, "i am " + _TRAVELLER + " , log me in to travel"),
        val=("log me in to travel as " + _TRAVELLER,), test=("please log me in to travel , i am " + _TRAVELLER,),
        before=("out",), after="new", long=True,
    ),
    Kind(
        "budget", TRAVEL, ("set_budget_limit(access_token={token!r}, budget_limit={n})",),
        train=(
            "set my travel budget with token {token}<: {n} dollars>",
            "with token {token} set the travel budget<: {n} dollars>",
        ),
        val=("please set my travel budget with token {token}<: {n} dollars>",),
        test=("set the travel budget with token {token}<: {n} dollars>",),
        draws={"n": "number"}, before=("in",), hold=("amount", "{n} dollars"), long=True,
    ),
    Kind(
        "card_balance", TRAVEL, ("get_credit_card_balance(access_token={token!r}, card_id={card!r})",),
        train=(
            "how much money is on card {card}< with token {token}>",
            "show me the money on card {card}< with token {token}>",
        ),
        val=("what money is on card {card}< with token {token}>",),
        test=("how much is on my card {card}< with token {token}>",),
        before=("in",), hold=("token", "{token}"), long=True,
    ),
    Kind(
        "booking_cancel", TRAVEL, ("cancel_booking(access_token={token!r}, booking_id={booking!r})",),
        train=(
            "cancel booking {booking}< with token {token}>",
            "please cancel my booking {booking}< with token {token}>",
        ),
        val=("cancel my booking {booking}< with token {token}>",),
        test=("please cancel booking {booking}< with token {token}>",),
        before=("in",), after="gone", hold=("token", "{token}"), long=True,
    ),
    Kind(
        "booking_history", TRAVEL, ("get_booking_history(access_token={token!r})",),
        train=("show me my flights< with token {token}>", "what did i book< with token {token}>"),
        val=("please show me my flights< with token {token}>",), test=("show me what i did book< with token {token}>",),
        before=("in",), hold=("token", "{token}"),
    ),
    Kind(
        "exchange", TRAVEL, ("compute_exchange_rate(base_currency='USD', target_currency={k!r}, value={n})",),
        train=("how much is {n} USD in {k}", "what is {n} USD in {k}"), val=("show me how much {n} USD is in {k}",),
        test=("please show me {n} USD in {k}",), draws={"n": "number", "k": "currency"}, long=True,
    ),
)

_ZIPCODES = "get_zipcode_based_on_city(city={r.a.name!r})", "get_zipcode_based_on_city(city={r.b.name!r})"
_DISTANCE = "estimate_distance(cityA={r.a.%s!r}, cityB={r.b.%s!r})"
_PRESS, _START = "pressBrakePedal(pedalPosition=1.0)", "startEngine(ignitionMode='START')"
_LOCK = "lockDoors(unlock=False, door=[{pair[0]!r}, {pair[1]!r}])"
_LOCK_ALL = f"lockDoors(unlock=False, door={list(DOORS)!r})"
_CRUISE = "setCruiseControl(speed={s}, activate=True, distanceToNextVehicle={n})"

_VEHICLE_KINDS = (
    Kind(
        "engine_start", VEHICLE, (_LOCK_ALL, _PRESS, _START),
        train=("start the engine", "please start the engine of my car", "i want to start my car"),
        val=("please start my car",), test=("i want to start the engine now",),
        naive=_START, before=("parked", "open"), after="running", long=True,
    ),
    Kind(
        "engine_start_half", VEHICLE, (_PRESS, _START),
        train=("start my car", "please start the engine", "i want to start the engine of my car"),
        val=("please start the engine of my car now",), test=("i want to start my car now",),
        naive=_START, before=("locked",), after="running", long=True, half=True,
    ),
    Kind(
        "engine_start_other_half", VEHICLE, (_LOCK_ALL, _START),
        train=("start the engine of my car", "i want to start the engine"),
        val=("start my car now",), test=("please start the engine now",),
        naive=_START, before=("pressed",), after="running", long=True, half=True,
    ),
    Kind(
        "fuel_start", VEHICLE, ("fillFuelTank(fuelAmount={g})", _PRESS, _START),
        ood=("fill in fuel<, {g} gallons,> and start the engine", "start my car and fill in fuel<, {g} gallons>"),
        draws={"g": "gallons"}, naive=_START, before=("locked",), after="running", hold=("amount", "{g} gallons"),
        long=True,
    ),
    Kind(
        "liters", VEHICLE, ("liter_to_gallon(liter={a.n})", "fillFuelTank(fuelAmount={a.gallons!r})"),
        ood=("fill in fuel<, {a.n} liters>", "i want fuel in my car<, {a.n} liters>"),
        draws={"a": "liters"}, naive="fillFuelTank(fuelAmount={a.n})", hold=("amount", "{a.n} liters"), long=True,
    ),
    Kind(
        "city_distance", VEHICLE, (*_ZIPCODES, _DISTANCE % ("zipcode", "zipcode")),
        train=("how far is it from {r.a.name}< to {r.b.name}>", "what is the distance from {r.a.name}< to {r.b.name}>"),
        val=("show me how far it is from {r.a.name}< to {r.b.name}>",),
        test=("show me the distance from {r.a.name}< to {r.b.name}>",),
        draws={"r": "route"}, naive=_DISTANCE % _NAME, hold=("other city", "{r.b.name}"),
    ),
    Kind(
        "city_distance_half", VEHICLE, (_ZIPCODES[1], _DISTANCE % ("zipcode", "zipcode")),
        train=(
            "how far is it from {r.a.zipcode}< to {r.b.name}>",
            "what is the distance from {r.a.zipcode}< to {r.b.name}>",
        ),
        val=("show me how far it is from {r.a.zipcode}< to {r.b.name}>",),
        test=("show me the distance from {r.a.zipcode}< to {r.b.name}>",),
        draws={"r": "route"}, naive=_DISTANCE % ("zipcode", "name"), hold=("other city", "{r.b.name}"), half=True,
    ),
    Kind(
        "city_distance_other_half", VEHICLE, (_ZIPCODES[0], _DISTANCE % ("zipcode", "zipcode")),
        train=(
            "how far is it< from {r.a.name}> to {r.b.zipcode}",
            "what is the distance< from {r.a.name}> to {r.b.zipcode}",
        ),
        val=("show me how far it is< from {r.a.name}> to {r.b.zipcode}",),
        test=("show me the distance< from {r.a.name}> to {r.b.zipcode}",),
        draws={"r": "route"}, naive=_DISTANCE % ("name", "zipcode"), hold=("other city", "{r.a.name}"), half=True,
    ),
    Kind(
        "cruise_start", VEHICLE, (_PRESS, _START, _CRUISE),
        ood=("cruise at {s} and keep away<, {n} meters>", "set the cruise to {s} and keep away<, {n} meters>"),
        draws={"s": "speed", "n": "number"}, naive=_CRUISE, before=("locked",), after="running",
        hold=("distance", "{n} meters"), long=True,
    ),
    Kind(
        "distance_miles", VEHICLE,
        (
            *_ZIPCODES,
            _DISTANCE % ("zipcode", "zipcode"),
            "imperial_si_conversion(value={r.km!r}, unit_in='km', unit_out='miles')",
        ),
        ood=(
            "how many miles is it from {r.a.name} to {r.b.name}",
            "what is the distance in miles from {r.a.name} to {r.b.name}",
        ),
        draws={"r": "route"}, naive=_DISTANCE % _NAME, also=(MATH,),
    ),
    Kind(
        "gallons", VEHICLE, ("fillFuelTank(fuelAmount={g})",),
        train=("fill in fuel<, {g} gallons>", "i want fuel in my car<, {g} gallons>"),
        val=("fill fuel in my car<, {g} gallons>",), test=("i want to fill in fuel<, {g} gallons>",),
        draws={"g": "gallons"}, hold=("amount", "{g} gallons"), long=True,
    ),
    Kind(
        "lock", VEHICLE, (_LOCK,),
        train=("lock the {pair[0]} and {pair[1]} doors", "please lock {pair[0]} and {pair[1]}"),
        val=("lock {pair[0]} and {pair[1]} please",), test=("now lock the doors {pair[0]} and {pair[1]}",),
        before=("parked",), after="locked", long=True,
    ),
    Kind(
        "lock_all", VEHICLE, (_LOCK_ALL,),
        train=("lock all doors", "please lock all doors of my car"), val=("lock all doors please",),
        test=("now lock all doors of my car",), before=("open",), after="locked", long=True,
    ),
    Kind(
        "press_brake", VEHICLE, (_PRESS,),
        train=("press the brake pedal all the way", "please press the brake all the way"),
        val=("all the way press the brake pedal",), test=("please press the brake pedal all the way now",),
        before=("locked",), after="ready", long=True,
    ),
    Kind(
        "start", VEHICLE, (_START,),
        train=("start the engine , the brake is pressed", "the brake is pressed , please start my car"),
        val=("start my car , the brake is pressed",), test=("the brake is pressed , start the engine now",),
        before=("ready",), after="running", long=True,
    ),
    Kind(
        "cruise", VEHICLE, (_CRUISE,),
        train=("set the speed to {s} and keep {n} meters away", "drive at {s} and keep {n} meters away"),
        val=("keep {n} meters away and drive at {s}",), test=("keep {n} meters away and set the speed to {s}",),
        draws={"s": "speed", "n": "number"}, before=("running",), long=True,
    ),
    Kind(
        "navigate", VEHICLE, ("set_navigation(destination={st!r})",),
        train=("take me to {st}", "i want to go to {st}"), val=("please take me to {st}",), test=("now go to {st}",),
        draws={"st": "street"}, long=True,
    ),
    Kind(
        "climate", VEHICLE, ("adjustClimateControl(temperature={t})",),
        train=("set the climate of my car<, {t} degrees>", "i want it warm in my car<, {t} degrees>"),
        val=("please set the climate<, {t} degrees>",), test=("now set the climate<, {t} degrees>",),
        draws={"t": "degrees"}, hold=("climate", "{t} degrees"), long=True,
    ),
    Kind(
        "status", VEHICLE, ("displayCarStatus(option={o!r})",),
        train=("show me the {o} of my car", "how is the {o} of my car"), val=("please show me how the {o} is",),
        test=("please show me the {o} of my car",), draws={"o": "option"},
    ),
    Kind(
        "zipcode", VEHICLE, ("get_zipcode_based_on_city(city={c.name!r})",),
        train=("what is the zipcode of {c.name}", "show me the zipcode of {c.name}"),
        val=("please show me the zipcode of {c.name}",), test=("the zipcode of {c.name} please",),
        draws={"c": "zip_city"}, long=True,
    ),
    Kind(
        "distance", VEHICLE, (_DISTANCE % ("zipcode", "zipcode"),),
        train=(
            "how far is it from {r.a.zipcode}< to {r.b.zipcode}>",
            "what is the distance from {r.a.zipcode}< to {r.b.zipcode}>",
        ),
        val=("show me how far it is from {r.a.zipcode}< to {r.b.zipcode}>",),
        test=("show me the distance from {r.a.zipcode}< to {r.b.zipcode}>",),
        draws={"r": "route"}, hold=("other zipcode", "{r.b.zipcode}"),
    ),
    Kind(
        "to_gallons", VEHICLE, ("liter_to_gallon(liter={a.n})",),
        train=("how many gallons are {a.n} liters", "what are {a.n} liters in gallons"),
        val=("how many gallons is {a.n} liters",), test=("show me {a.n} liters in gallons",), draws={"a": "liters"},
        long=True,
    ),
    Kind(
        "lights", VEHICLE, ("setHeadlights(mode='on')",),
        train=("put the lights of my car on", "please put my lights on"), val=("please put the lights on",),
        test=("put my lights on now",), long=True,
    ),
)

# fmt: on

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        *_FILE_KINDS,
        *_MATH_KINDS,
        *_MESSAGE_KINDS,
        *_TWITTER_KINDS,
        *_TICKET_KINDS,
        *_TRADING_KINDS,
        *_TRAVEL_KINDS,
        *_VEHICLE_KINDS,
    )
}
