"""A strategy of reranking: the shallow model over four times the places that the full model then reads."""

from ranking.strategies import FULL, SHALLOW, PlannedStep, Strategy, register_strategy

register_strategy(
    Strategy(
        name="wide_cascade",
        about="the shallow model over a wide head, then the full model over its best places",
        plan=lambda depths: (
            PlannedStep(SHALLOW, min(4 * depths.first, depths.shortlist)),
            PlannedStep(FULL, depths.first),
        ),
    )
)
