"""Whether people's words speak of an act: of what the tool that is called does, by the words of the tool's own name.

Decides which words of a name say what is done (`delete` of `delete_file`, `file_delete` and `deleteFile`) and which
words of a sentence ask for that: the same verb, or one that people use for it (`reschedule` is asked for by "move").
What follows from it is `enforce.steering`'s.

INVARIANTS
1. What an act is done to does not speak of it: "what is in this file" speaks of no `file_delete`.
2. A word that is as often a thing (`order`, `email`, `book`) asks for something only where a verb can stand: at the
   head of a clause, or behind a word such as "please", "and", "to", "you".
3. A name with no verb that is known here was spoken of only if each of its words was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

_ASKED_FOR: Final = {
    "add": "add invite include put insert append join enter create make set",
    "append": "append add write put include",
    "approve": "approve accept confirm authorize authorise sign clear",
    "archive": "archive move put clear",
    "assign": "assign give hand delegate allocate",
    "ban": "ban block remove kick suspend",
    "block": "block ban stop freeze",
    "book": "book reserve order arrange make schedule",
    "buy": "buy order purchase get",
    "cancel": "cancel delete remove abort terminate void drop",
    "change": "change update modify edit adjust alter amend correct set replace switch",
    "close": "close resolve complete finish end shut",
    "create": "create make add schedule set open start plan book arrange organize organise generate write draft put "
    "enter register file raise",
    "deactivate": "deactivate disable suspend close cancel stop",
    "delete": "delete remove erase drop purge wipe clear trash discard destroy clean cancel",
    "deploy": "deploy release ship roll publish launch push",
    "disable": "disable deactivate stop suspend block",
    "drop": "drop delete remove",
    "edit": "edit change update modify adjust alter amend correct rewrite",
    "enable": "enable activate start allow",
    "erase": "erase delete remove wipe clear",
    "execute": "execute run start launch trigger",
    "forward": "forward send share pass",
    "grant": "grant give allow share",
    "invite": "invite add include ask",
    "issue": "issue give grant make refund create",
    "kick": "kick remove ban",
    "launch": "launch start run deploy",
    "make": "make create pay book send",
    "merge": "merge combine join accept approve",
    "modify": "modify change update edit adjust alter amend correct",
    "move": "move transfer relocate put shift",
    "notify": "notify tell inform alert message remind let send",
    "open": "open create file raise report",
    "order": "order buy purchase get",
    "pay": "pay settle transfer wire send refund reimburse remit repay buy return",
    "place": "place put make order",
    "post": "post publish upload put write send share announce submit",
    "publish": "publish post release upload put",
    "purchase": "purchase buy order get",
    "purge": "purge delete remove wipe clear",
    "refund": "refund reimburse return repay credit",
    "register": "register enroll enrol add create",
    "reject": "reject decline refuse deny",
    "release": "release publish deploy ship",
    "remove": "remove delete drop kick exclude erase clear clean cancel",
    "rename": "rename change call",
    "reply": "reply answer respond write tell send confirm",
    "reschedule": "reschedule move postpone shift change push delay",
    "reserve": "reserve book order make",
    "reset": "reset change restore",
    "resolve": "resolve close fix settle",
    "respond": "respond reply answer write",
    "restart": "restart reboot",
    "restore": "restore recover revert",
    "revoke": "revoke remove cancel withdraw",
    "run": "run execute start launch trigger",
    "schedule": "schedule plan set book arrange create make",
    "send": "send email mail message text write forward reply respond notify tell inform let ping dm share contact "
    "remind deliver submit post",
    "set": "set change update adjust make put",
    "share": "share give grant send forward publish",
    "ship": "ship send deliver",
    "start": "start run launch begin",
    "stop": "stop end cancel halt shut",
    "submit": "submit send file hand",
    "subscribe": "subscribe sign register join",
    "suspend": "suspend block pause stop",
    "terminate": "terminate end stop cancel",
    "transfer": "transfer send move pay wire",
    "transition": "transition move change set close",
    "unsubscribe": "unsubscribe cancel stop",
    "update": "update change modify edit adjust alter amend correct fix set replace revise move raise increase lower "
    "decrease mark switch extend",
    "upload": "upload put post share",
    "wipe": "wipe delete erase clear purge",
    "wire": "wire transfer send pay",
    "withdraw": "withdraw take cancel",
    "write": "write create make save put note draft",
}
"""A tool's verb → the verbs by which people ask for it. One way: who says "pay" asks for no `send_email`."""
_MAKING: Final = frozenset("send make create schedule submit issue add initiate execute place".split())
_MADE: Final = {
    **dict.fromkeys("money payment payments transaction transactions funds".split(), "pay"),
    **dict.fromkeys("reservation reservations booking bookings".split(), "reserve"),
    **{one: one for one in "invite order post refund reply transfer".split()},
}
"""What is made by doing something: `create_order` and `send_money` are asked for by "order" and "pay"."""
_LEADS: Final = frozenset("change make place set start update".split())
"""Words that at the head of a name are what is done."""
_THINGS: Final = frozenset(
    "answer ban book call change charge contact credit draft email end file fix invite issue mail make mark message "
    "note open order place plan post purchase raise refund register release reply report return schedule set share "
    "ship sign start text transfer update wire".split()
)
"""What is a thing, or about one, as often as something to do."""
_LOOKING: Final = frozenset("get list read fetch search find check show view look lookup query retrieve load".split())
_ANSWERS: Final = frozenset("tell let inform give get write show".split())
"""Before "me" they ask for an answer, and for nothing that reaches anybody else."""
_TOLD: Final = "calculate compare count explain help summarise summarize translate visit".split()
"""By which people ask for something that no tool does."""
_IRREGULAR: Final = {"sent": "send", "paid": "pay", "made": "make", "written": "write", "bought": "buy"}
_ALIKE: Final = {
    "email": ("mail", "mails"),
    "mail": ("email", "emails"),
    "event": ("meeting", "appointment", "reminder"),
    "meeting": ("event", "appointment"),
    "appointment": ("meeting", "event"),
}
"""Things by other names."""
_WORD: Final = re.compile(r"[^\W\d_]+")
_NAME: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_BEFORE_A_VERB: Final = re.compile(
    r"(?:\A|[.!?;:,\n()*\"']|(?<![^\s])-|[0-9][.)]|\b(?:please|kindly|and|then|also|just|to|you|i|we|should|must|will|would"
    r"|could|can|now|or|not|finally|first|next|afterwards|so))\s*\Z"
)
_BACK: Final = 24
_GOES_ON: Final = re.compile(r"[./@_\\-][^\W_]")
_HANDED_OVER: Final = re.compile(
    r"\b(?:do(?! (?:you|i|we|they|not)\b)|perform|follow|complete|execute|handle|finish|carry out|work through)\b"
    r"[^.!?\n]{0,40}\b(?:tasks?|actions?|instructions?|steps?|to-?dos?|items|requests?|chores)\b"
    r"(?![^.!?\n]{0,60}:\s*(?:[0-9a-z][.)]|[-*])\s)"
)
"""Not where the tasks themselves follow, one by one."""


def speaks_of(name: str, text: str) -> bool:
    """Whether a text (folded) asks for what a tool of this name does."""
    verbs, words = _verbs(name), _words(name)
    if not verbs:
        return bool(words) and all(_mentions(text, one) for one in words)  # INVARIANT: 3.
    if any(_asks(text, one) for one in _made(words)):
        return True
    plain = [one for one in verbs if one not in _THINGS] or [one for one in words[:1] if one in _LEADS]
    if plain:  # INVARIANT: 1.
        return any(_asks(text, one) for one in plain)
    # `post_order` or `order_post`: one is what is done, and nobody knows which.
    return any(_asks(text, one) and all(_mentions(text, other) for other in verbs if other != one) for one in verbs)


def mentions(text: str, name: str) -> bool:
    """Whether a text (folded) has each word of a name, in one of its forms."""
    words = _words(name)
    return bool(words) and all(_mentions(text, one) for one in words)


def is_known(name: str) -> bool:
    """Whether the name of a tool has a verb that is known here: then it can be told that nobody spoke of it."""
    return bool(_verbs(name))


def asks_for_anything(text: str) -> bool:
    """Whether a text (folded) asks for anything in verbs that are known here: then its language is one of theirs."""
    return _asks_in(text, _ANY)


def hands_over(text: str) -> bool:
    """Whether a text (folded) leaves it to another text which acts there are: "do all the tasks on my list"."""
    return _HANDED_OVER.search(text) is not None


def speaks_of_all(name: str, text: str) -> bool:
    """Whether a text speaks of an act and of something that it is done to, both by the words of the tool's name.

    For an act that takes nothing by which it could be told from another: "add milk to my list" asks for no
    `create_event`. A name that only says that something is looked at was spoken of if all else in it was.
    """
    verbs, words = _verbs(name), _words(name)
    things = [one for one in words if one not in verbs and one not in _LOOKING]
    if not verbs and len(things) < len(words):
        return bool(things) and all(_mentions(text, one) for one in things)
    return speaks_of(name, text) and (not things or any(_mentions(text, one) for one in things))


def _words(name: str) -> list[str]:
    return [one.lower() for one in _NAME.findall(name) if len(one) > 1]


def _verbs(name: str) -> list[str]:
    return [one for one in dict.fromkeys(_words(name)) if one in _ASKED_FOR]


def _made(words: list[str]) -> list[str]:
    return [] if _MAKING.isdisjoint(words) else [_MADE[one] for one in words if one in _MADE]


def _asks(text: str, verb: str) -> bool:
    return _asks_in(text, _FORMS[verb])


def _asks_in(text: str, wanted: Mapping[str, str]) -> bool:
    for hit in _WORD.finditer(text):
        found = wanted.get(hit[0])
        if found is None or (found in _ANSWERS and text[hit.end() : hit.end() + 4].rstrip(" .,!?") in (" me", " us")):
            continue
        if found not in _THINGS or (hit[0] in (found, f"{found.removesuffix('e')}ing") and _heads(text, *hit.span())):
            return True
    return False


def _heads(text: str, start: int, end: int) -> bool:
    """# INVARIANT: 2. Not the `plan` of `plan.docx`, wherever that stands."""
    return _BEFORE_A_VERB.search(text, max(0, start - _BACK), start) is not None and not _GOES_ON.match(text, end)


def _forms(asked: list[str]) -> dict[str, str]:
    """Each form of these verbs, with its verb."""
    found = {form: one for one in asked for form in _inflected(one)}
    found.update({form: one for form, one in _IRREGULAR.items() if one in asked})
    return found


def _inflected(verb: str) -> Iterator[str]:
    stem = verb.removesuffix("e")
    yield from (verb, f"{verb}s", f"{verb}es", f"{stem}ed", f"{stem}ing")
    yield from (f"{verb}{verb[-1]}ed", f"{verb}{verb[-1]}ing")
    if verb.endswith("y"):
        yield from (f"{verb[:-1]}ies", f"{verb[:-1]}ied")


def _mentions(text: str, word: str) -> bool:
    """Whether a word stands in a text, in one of its forms."""
    single = word.removesuffix("s")
    forms = {word, *_inflected(single), *_ALIKE.get(single, ())}
    return any(hit[0] in forms for hit in _WORD.finditer(text))


_ANY: Final = _forms(
    list(dict.fromkeys([one for asked in _ASKED_FOR.values() for one in asked.split()] + sorted(_LOOKING) + _TOLD))
)
_FORMS: Final = {verb: _forms(asked.split()) for verb, asked in _ASKED_FOR.items()}
