"""The commands `ttjax evaluate` and `ttjax predict`: a model's scores, and what it says of a sentence.

Both take the checkpoint that `ttjax train --checkpoint` wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro
from rich import box
from rich.markup import escape
from rich.table import Table

from ttjax.checkpoint import TrainedModel, load_params, read_checkpoint
from ttjax.data import Corpus, Sentence, encode, load_corpus
from ttjax.data.chunks import OUTSIDE
from ttjax.data.vocabulary import UNK, UNK_LABEL
from ttjax.errors import UserError
from ttjax.evaluate import decode, evaluate, predict
from ttjax.output import Output, check_apart

Model = Annotated[str, tyro.conf.Positional]
# Columns of the table, and the scores they show.
SCORES = {
    "intent": "intent_accuracy",
    "slot F1": "slot_f1",
    "precision": "slot_precision",
    "recall": "slot_recall",
    "token": "token_accuracy",
    "sentence": "sentence_accuracy",
}


@dataclass(frozen=True)
class Evaluate:
    """Score a trained model on a split of a corpus.

    An intent or slot that the model's training lacked can't be predicted: it counts as wrong.

    Examples: ttjax evaluate run.safetensors
              ttjax evaluate run.safetensors --split dev --data travel --json scores.json
    """

    model: Model
    """Checkpoint of `ttjax train --checkpoint`."""
    split: Literal["train", "dev", "test"] = "test"
    """Sentences to score: train, dev or test."""
    best: bool = False
    """The parameters best on dev, in place of those after the last epoch."""
    data: str | None = None
    """Corpus: a folder, "atis" or "travel". Default: the one the model was trained on."""
    json: str | None = None
    """File for the scores as JSON, shares from 0 to 1; - for standard output."""

    def run(self) -> int:
        """Score, print, write the JSON; returns exit status 0."""
        out = Output(self.json)
        check_apart([("--json", self.json)], [("the model", self.model)])
        checkpoint = read_checkpoint(self.model)
        trained = checkpoint.trained(best=self.best)
        corpus = load_corpus(checkpoint.data.given if self.data is None else self.data, notify=out.say)
        if corpus.digest != checkpoint.data.digest:
            out.say(f"data: the model was trained on another corpus than this, {checkpoint.data.name}")
        sentences = corpus.split(self.split)
        with out.progress() as progress:
            task = progress.add_task(self.split, total=len(sentences))
            scores = evaluate(
                trained.params,
                sentences,
                trained.vocabulary,
                trained.config,
                on_chunk=lambda done: progress.update(task, completed=done),
            )
        out.console.print(_scores_table(self.split, corpus, scores))
        out.write_json(
            {
                "model": self.model,
                "best": self.best,
                "data": corpus.identity,
                "split": self.split,
                "scores": scores,
            }
        )
        return 0


@dataclass(frozen=True)
class Predict:
    """Say a sentence's intent and the slot of each of its words.

    Examples: ttjax predict run.safetensors "show me flights from boston to denver"
              ttjax predict run.safetensors "what does ewr mean" "cheapest fare to dallas" --json -
    """

    model: Model
    """Checkpoint of `ttjax train --checkpoint`."""
    sentences: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Sentences, each one argument, words parted by blanks."""
    best: bool = False
    """The parameters best on dev, in place of those after the last epoch."""
    json: str | None = None
    """File for what is found as JSON; - for standard output."""

    def run(self) -> int:
        """Predict, print, write the JSON; returns exit status 0."""
        out = Output(self.json)
        check_apart([("--json", self.json)], [("the model", self.model)])
        texts = [text.split() for text in self.sentences]
        if not texts or not all(texts):
            raise UserError("sentences: expected one or more, each with a word, found an empty one or none")
        found = said_of(load_params(self.model, best=self.best), texts)
        for each in found:
            out.console.print(_sentence_table(each))
            out.say(f"intent: {each['intent']}")
            if each["unknown"]:
                out.say(f"unknown to the model: {', '.join(each['unknown'])}")
            if each["unread"]:
                read = len(each["words"]) - each["unread"]
                out.say(f"not read: the last {each['unread']} words, the model takes {read}")
        out.write_json(found)
        return 0


def said_of(trained: TrainedModel, texts: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """What the model says of each sentence, given as its words.

    A word that is unknown as it stands is read in small letters.

    Returns:
        for each: words, intent, slots (a tag for each word), unknown (words that training lacked) and
        unread (how many words at the end are beyond the model's length, and so tagged O).
    """
    vocabulary, config = trained.vocabulary, trained.config
    read = [[w if vocabulary.word_id(w) != UNK else w.lower() for w in words] for words in texts]
    split = tuple(Sentence(tuple(words), (OUTSIDE,) * len(words), UNK_LABEL) for words in read)
    encoded = encode(split, vocabulary, config.seq_len)
    predictions = predict(trained.params, encoded.batch, config)
    intents, tags = decode(predictions, [len(words) for words in texts], vocabulary)
    return [
        {
            "words": list(words),
            "intent": intent,
            "slots": list(slots),
            "unknown": [word for word in words if vocabulary.word_id(word) == UNK],
            "unread": max(0, len(words) - (config.seq_len - 1)),
        }
        for words, intent, slots in zip(read, intents, tags, strict=True)
    ]


def _scores_table(split: str, corpus: Corpus, scores: dict[str, Any]) -> Table:
    title = f"{split} of {escape(corpus.name)}, {scores['sentences']} sentences, scores in %"
    table = Table(title=title, title_style="", box=box.SIMPLE_HEAD)
    for heading in SCORES:
        table.add_column(heading, justify="right")
    table.add_row(*(f"{100 * scores[name]:.2f}" for name in SCORES.values()))
    return table


def _sentence_table(found: dict[str, Any]) -> Table:
    table = Table("word", "slot", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for word, slot in zip(found["words"], found["slots"], strict=True):
        table.add_row(escape(word), "" if slot == OUTSIDE else escape(slot))
    return table
