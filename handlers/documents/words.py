"""Words and their keys: the small lexical knowledge behind claims, comparison and summaries.

A key is a folded stem, so that `customers`, `customer` and `clients` meet. The tables are short
and general (reports of any trade); embeddings carry what they leave out. English only.
"""

import re
from functools import cache, lru_cache

STEMMED_CHARACTERS_MIN = 5
STEM_CHARACTERS_MIN = 3
KEYS_KEPT_MAX = 50_000

WORD = re.compile(r"[^\W\d_][^\W_]*(?:['’-][^\W_]+)*|\d[\d.,:]*\d|\d")

STOP_WORDS = frozenset(
    (
        "a about above after again all also although altogether am an and any are as at be "
        "because been before being below both but by can could did do does doing done during each "
        "either else even ever few for from further had has have having he her here hers him his "
        "how however i if in into is it its itself just many may me might more most much must my "
        "near no nor not now of off on once one only onto or other our ours out over own per "
        "quite rather really same shall she should since so some soon still such than that the "
        "their them then there therefore these they this those though through throughout thus "
        "till to today together too total toward under until up upon us very via was we were what "
        "when where whether which while who whom whose why will with within without would yet you "
        "your approximately approx around roughly nearly almost some least altogether according "
        "said told count counted estimate estimated say says put never"
    ).split()
)
_IRREGULAR = {
    "break": "broken",
    "bring": "brought",
    "buy": "bought",
    "catch": "caught",
    "choose": "chose chosen",
    "come": "came",
    "drive": "drove driven",
    "fall": "fell fallen",
    "freeze": "froze frozen",
    "give": "gave given",
    "grow": "grew grown",
    "lead": "led",
    "meet": "met",
    "rise": "rose risen",
    "run": "ran",
    "see": "saw seen",
    "shoot": "shot",
    "sink": "sank sunk",
    "speak": "spoke spoken",
    "spend": "spent",
    "stick": "stuck",
    "strike": "struck",
    "throw": "threw thrown",
    "write": "wrote written",
}
_SYNONYMS = {
    "client": "customer",
    "outage": "incident",
    "disruption": "incident",
    "downtime": "incident",
    "postmortem": "incident",
    "staff": "employee",
    "worker": "employee",
    "colleague": "employee",
    "everyone": "person",
    "people": "person",
    "persons": "person",
    "anyone": "person",
    "nobody": "person",
    "somebody": "person",
    "firefighter": "fire",
    "departed": "leave",
    "left": "leave",
    "found": "find",
    "felt": "feel",
    "told": "tell",
    "sent": "send",
    "began": "start",
    "begin": "start",
    "commence": "start",
    "launched": "start",
    "broke": "start",
    "lost": "lose",
    "loss": "lose",
    "held": "hold",
    "contain": "hold",
    "left-behind": "leave",
    "stolen": "steal",
    "paid": "pay",
    "built": "build",
    "went": "go",
    "goes": "go",
    "made": "make",
    "took": "take",
    "taken": "take",
    "kept": "keep",
    "m2": "metre",
    "m²": "metre",
    "sqm": "metre",
    "meter": "metre",
    "km": "kilometre",
    "email": "e-mail",
    "evacuation": "evacuate",
    "notification": "notify",
    "inspection": "inspect",
    "explosion": "explode",
    "injury": "injure",
    "wounded": "injure",
    "hurt": "injure",
    "remained": "remain",
    "cost": "cost",
    "expense": "cost",
    "worth": "value",
    "truck": "lorry",
    "fatality": "die",
    "died": "die",
    "death": "die",
    "dead": "die",
    "killed": "die",
    "illness": "ill",
    "sick": "ill",
    "sickness": "ill",
    "used": "use",
    "succeed": "work",
    "success": "work",
    "successful": "work",
    "successfully": "work",
    "functional": "work",
} | {past: verb for verb, pasts in _IRREGULAR.items() for past in pasts.split()}
_EVENTS = {
    "start": "start begin outbreak onset",
    "detect": "detect notice alert alarm discover spot page warn observe identify aware learn",
    "end": "resolve restore recover end fix finish complete extinguish normal clear resume "
    "reopen repair",
    "contain": "contain control isolate",
    "stop": "stop halt pause suspend disable block",
    "undo": "rollback revert roll failover switch replace",
    "report": "notify report inform call disclose escalate announce publish email e-mail",
    "arrive": "arrive reach scene",
    "depart": "leave depart set-off",
    "deploy": "deploy release ship rollout install launch",
    "open": "open",
    "close": "close",
    "evacuate": "evacuate evacuation",
    "inspect": "inspect audit check examine review visit",
    "transfer": "transfer change move tow",
    "meet": "meet meeting convene",
    "due": "due deadline plan schedule",
    "send": "send write submit post update",
}
_CONTRASTS = tuple(
    frozenset(words.split())
    for words in (
        "north south east west northern southern eastern western",
        "left right",
        "upper lower top bottom",
        "front rear",
        "inner outer",
        "first second third fourth last final",
        "primary secondary backup main",
        "minimum maximum average median peak",
        "planned actual budgeted",
        "morning afternoon evening",
        "previous current next",
        "male female",
        "red blue green white black yellow",
    )
)
_CONTRASTING = frozenset[str]().union(*_CONTRASTS)
_HARMS = {
    "injury": "injure hurt harm wound burn bruise fracture concussion casualty",
    "death": "die fatality victim",
    "illness": "ill infect symptom hospitalise poison",
}
LABEL = re.compile(
    r"\b(?P<noun>[^\W\d_]{3,})[ ](?:no\.? ?|number |#)?(?P<label>\d{1,4}|[A-Z])\b"
    r"(?![.,:]?\d|[ ]?[%°€£]|-\w)"
)


def words_of(text: str) -> list[str]:
    """The words and numbers of a text, as written."""
    return WORD.findall(text)


@lru_cache(maxsize=KEYS_KEPT_MAX)
def key(word: str) -> str:
    """The folded stem of a word."""
    lowered = re.sub(r"['’]s?$", "", word.lower())
    stem = _stem(lowered)
    return _FOLDED.get(lowered) or _FOLDED.get(stem, stem)


def keys_of(text: str) -> tuple[str, ...]:
    """The keys of the content words of a text, in order, without repetition."""
    content = (w for w in words_of(text) if w.lower() not in STOP_WORDS and not w[0].isdigit())
    return tuple(dict.fromkeys(key(word) for word in content if len(word) > 1))


def events_of(keys: tuple[str, ...]) -> frozenset[str]:
    """The kinds of event (start, detection, end, arrival …) that the keys name."""
    return frozenset(_EVENT_OF[k] for k in keys if k in _EVENT_OF)


def contrasting(text: str) -> frozenset[str]:
    """The words of a text that have counterparts (east, first, planned …)."""
    return _CONTRASTING & {word.lower() for word in words_of(text)}


@cache
def contrast(a: frozenset[str], b: frozenset[str]) -> bool:
    """Whether two sets of such words name different members of a family (east and west)."""
    return any(a & family and b & family and not a & b & family for family in _CONTRASTS)


def harms_of(keys: tuple[str, ...]) -> frozenset[str]:
    """The kinds of harm to persons (injury, death, illness) that the keys name."""
    return frozenset(_HARM_OF[k] for k in keys if k in _HARM_OF)


def _stem(word: str) -> str:
    """A light English stemmer: plural, past, continuous."""
    if len(word) < STEMMED_CHARACTERS_MIN:
        return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
    if word.endswith(("ies", "ied")):
        return word[:-3] + "y"
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) - len(ending) >= STEM_CHARACTERS_MIN:
            return _undoubled(word[: -len(ending)])
    if word.endswith(("sses", "shes", "ches", "xes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return _undoubled(word[:-1])
    return _undoubled(word)


def _undoubled(stem: str) -> str:
    """`stopp` and `stop`, `release` and `releas` meet."""
    if len(stem) > STEM_CHARACTERS_MIN and stem[-1] == stem[-2] and stem[-1] not in "sl":
        return stem[:-1]
    return stem[:-1] if len(stem) >= STEMMED_CHARACTERS_MIN and stem.endswith("e") else stem


_FOLDED = {form: _stem(to) for word, to in _SYNONYMS.items() for form in (word, _stem(word))}
_EVENT_OF = {key(word): event for event, words in _EVENTS.items() for word in words.split()}
_HARM_OF = {key(word): harm for harm, words in _HARMS.items() for word in words.split()}
