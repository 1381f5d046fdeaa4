"""Synthetic travel queries with intents and slots, generated from a grammar.

It stands in for ATIS where no network is; its sentences are invented and its scores mean little.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import TypeVar

from ttjax.data.corpus import Corpus, Sentence
from ttjax.data.travel_grammar import INTENTS, RULES
from ttjax.data.travel_words import VALUES

T = TypeVar("T")

NAME = "travel (synthetic)"
SIZES = (2000, 250, 400)  # sentences of train, dev, test

_TOKEN = re.compile(
    r"\{(?P<rule>\w+)\}|<(?P<slot>\w+)=(?P<values>\w+)>|(?P<mark>[()\[\]|])|(?P<word>[^\s()\[\]|]+)"
)


@dataclass(frozen=True)
class _Slot:
    label: str
    values: str


@dataclass(frozen=True)
class _Choice:
    options: tuple[tuple[_Node, ...], ...]


_Node = str | _Slot | _Choice


def travel_corpus(seed: int = 0) -> Corpus:
    """The synthetic corpus: the same sentences for the same seed, on every Python version.

    No sentence stands twice, so no two splits share one.
    """
    # Of the standard generator only random() is promised to give the same numbers in later Python
    # versions; choice() and shuffle() are not, nor are the streams of a numpy Generator.
    random = Random(seed)
    sentences: dict[tuple[str, ...], Sentence] = {}
    while len(sentences) < sum(SIZES):
        sentence = _generate(random)
        sentences.setdefault(sentence.words, sentence)
    drawn = tuple(sentences.values())
    n_train, n_dev, _ = SIZES
    return Corpus(
        NAME,
        synthetic=True,
        train=drawn[:n_train],
        dev=drawn[n_train : n_train + n_dev],
        test=drawn[n_train + n_dev :],
    )


def _generate(random: Random) -> Sentence:
    weighted = [name for name, (weight, _) in INTENTS.items() for _ in range(weight)]
    intent = _pick(random, weighted)
    _, template = INTENTS[intent]
    words: list[str] = []
    slots: list[str] = []
    _expand(_parse(template), random, words, slots, set())
    for i in range(len(words) - 1):
        if words[i] == "a" and _starts_with_vowel(words[i + 1]):
            words[i] = "an"
    return Sentence(tuple(words), tuple(slots), intent)


def _expand(node: _Node, random: Random, words: list[str], slots: list[str], used: set[str]) -> None:
    """Append one drawing of ``node``; ``used`` keeps a value from standing twice in a sentence."""
    if isinstance(node, str):
        words.append(node)
        slots.append("O")
    elif isinstance(node, _Slot):
        value = _pick(random, [v for v in VALUES[node.values] if v not in used])
        used.add(value)
        parts = value.split()
        words.extend(parts)
        slots.extend(f"{'I' if i else 'B'}-{node.label}" for i in range(len(parts)))
    else:
        for part in _pick(random, node.options):
            _expand(part, random, words, slots, used)


def _pick(random: Random, items: list[T] | tuple[T, ...]) -> T:
    return items[int(random.random() * len(items))]


def _starts_with_vowel(word: str) -> bool:
    # "a one way fare", "a euro": written with a vowel, spoken without.
    return word[0] in "aeiou" and not word.startswith(("one", "eu", "uni"))


@cache
def _parse(template: str) -> _Choice:
    """A template as a tree.

    In it, (a|b) is a choice, [a] is a or nothing, {r} the rule r, <s=v> a value of the list v
    labelled as slot s, and anything else a word outside all slots.
    """
    tokens = list(_TOKEN.finditer(template))
    choice, end = _parse_options(tokens, 0)
    if end != len(tokens):
        raise ValueError(f"unbalanced bracket in travel template {template!r}")
    return choice


def _parse_options(tokens: list[re.Match[str]], at: int) -> tuple[_Choice, int]:
    """Options up to a closing bracket or the end, and the index of that bracket."""
    options: list[tuple[_Node, ...]] = []
    sequence: list[_Node] = []
    while at < len(tokens):
        token = tokens[at]
        if token["rule"]:
            sequence.append(_parse(RULES[token["rule"]]))
        elif token["slot"]:
            sequence.append(_Slot(token["slot"], token["values"]))
        elif token["word"]:
            sequence.append(token["word"])
        elif token["mark"] == "|":
            options.append(tuple(sequence))
            sequence = []
        elif token["mark"] in "([":
            inner, at = _parse_options(tokens, at + 1)
            if at == len(tokens) or tokens[at]["mark"] != {"(": ")", "[": "]"}[token["mark"]]:
                raise ValueError(f"unbalanced bracket in travel template {token.string!r}")
            # Both branches weigh the same: [a|b] is absent half the time.
            sequence.append(_Choice(((inner,), ())) if token["mark"] == "[" else inner)
        else:
            break
        at += 1
    options.append(tuple(sequence))
    return _Choice(tuple(options)), at
