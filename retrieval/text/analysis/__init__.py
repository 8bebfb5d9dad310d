"""How texts become words: the one place that tokenises, for catalogue, queries, features and spelling."""

from retrieval.text.analysis.analyzer import Analyzer as Analyzer
from retrieval.text.analysis.analyzer import Span as Span
