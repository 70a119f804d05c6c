"""Who is asked: judges that answer prompts, and the prompts with their parsers."""

from steelyard.rewards.judges.endpoint import EndpointJudge
from steelyard.rewards.judges.rule import RuleJudge
from steelyard.rewards.judges.similarity import judged_similarity
from steelyard.rewards.judges.templates import (
    QUALITIES,
    Quality,
    parse_quality,
    parse_score,
    quality_prompt,
    released_parse_score,
    similarity_prompt,
)

__all__ = [
    "QUALITIES",
    "EndpointJudge",
    "Quality",
    "RuleJudge",
    "judged_similarity",
    "parse_quality",
    "parse_score",
    "quality_prompt",
    "released_parse_score",
    "similarity_prompt",
]
