"""Whether people's words say whom they mean: by a proper name, as several, or as some one of a kind.

Decides on a sentence (folded) or a name by itself; what follows from it is for `enforce.parties`. English words: of a
sentence in another language no word is known, so that it calls everybody by name or nobody.

INVARIANT: a word that only stands at the head of a sentence is nobody's name; the name of a file is nobody's either.
"""

from __future__ import annotations

import re
from typing import Final

from citywatch.core.flow.acts import asks_for_anything

_SEVERAL: Final = re.compile(
    r"(?<![\w./@\\-])(?:all|any|each|every|everyone|everybody|anyone|both|others?|rest|members|users|people|participants|recipients"
    r"|attendees|guests|colleagues|team|group)(?![\w/@\\]|[-.]\w)"
)
"""Words by which people speak of several without naming each. Not as a piece of a name: `team-minutes.docx`."""
NO_NOUNS: Final = frozenset("to cc bcc from by for with whom who at on in of".split())
"""What arguments are called, and what people say of anybody."""
_SOMEONE: Final = re.compile(r"\b(?:someone|somebody|whoever|person|user|member|colleague|participant|recipient)\b")
_NO_PROPER: Final = re.compile(
    r"[./\\]|\A(?:an?|the|i|we|you|he|she|it|they|my|our|your|his|her|its|their|this|that|these|those|there|here|please"
    r"|kindly|can|could|would|will|should|may|might|must|do|does|did|is|are|was|were|have|has|had|if|when|where|who|what"
    r"|which|why|how|then|also|now|just|first|next|finally|after|before|once|as|for|from|to|in|on|at|of|by|with|and|or"
    r"|but|so|not|no|yes|ok|okay|hi|hello|hey|dear|thanks|thank you|mondays?|tuesdays?|wednesdays?|thursdays?|fridays?"
    r"|saturdays?|sundays?|january|february|march|april|may|june|july|august|september|october|november|december)\Z"
)
"""What looks like a name and is none: a file, a word at the head of a sentence, a day, a month."""


def leaves_open(sentence: str) -> bool:
    """Whether several are meant, or some one, whoever that is: "all users", "a user who wrote most"."""
    return speaks_of_several(sentence) or _SOMEONE.search(sentence) is not None


def speaks_of_several(sentence: str) -> bool:
    """Whether several are meant without a name for each: "all users", "the others"."""
    return _SEVERAL.search(sentence) is not None


def proper_part(name: str) -> str:
    """What of a run of capitalised words (folded) is a name: `Apple` of "Pay Apple"; nothing of a file or a day."""
    words = name.split(" ")
    while words and (_NO_PROPER.search(words[0]) or asks_for_anything(words[0])):
        del words[0]
    return " ".join(words)
