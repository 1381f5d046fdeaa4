"""Corpora of annotated sentences: reading, fetching, generating, and turning them into id arrays.

Everything public is re-exported here; each file's docstring says what it is about.
"""

from ttjax.data.corpus import Corpus, Sentence, Split, read_corpus, write_corpus
from ttjax.data.fetch import fetch_atis
from ttjax.data.locate import atis_cache, load_corpus
from ttjax.data.statistics import statistics
from ttjax.data.travel import travel_corpus
from ttjax.data.vocabulary import EncodedSplit, Vocabulary, build_vocabulary, config_for, encode

__all__ = [
    "Corpus",
    "EncodedSplit",
    "Sentence",
    "Split",
    "Vocabulary",
    "atis_cache",
    "build_vocabulary",
    "config_for",
    "encode",
    "fetch_atis",
    "load_corpus",
    "read_corpus",
    "statistics",
    "travel_corpus",
    "write_corpus",
]
