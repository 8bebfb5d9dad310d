"""How texts become words: the one place that tokenises, for catalogue, queries, features and spelling."""

from retrieval.text.analysis.analyzer import Analyzer as Analyzer
from retrieval.text.analysis.analyzer import Span as Span
from retrieval.text.analysis.language import KNOWN as KNOWN
from retrieval.text.analysis.language import NONE as NONE
from retrieval.text.analysis.language import Language as Language
from retrieval.text.analysis.language import language_of as language_of
