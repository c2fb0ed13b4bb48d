"""Looking into models: `summary`."""

from glassgrad.inspect.summary import LayerFacts, Summary, summary

__all__ = ["LayerFacts", "Summary", "summary"]
