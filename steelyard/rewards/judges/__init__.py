"""Who is asked: judges that answer prompts, the prompts with their parsers, and the rewards made of them."""

from steelyard.rewards.judges.asking import Comparison, compare, compare_criteria, score_list, verify
from steelyard.rewards.judges.cache import AnswerCache
from steelyard.rewards.judges.endpoint import EndpointJudge
from steelyard.rewards.judges.guards import MASTER_KEYS, OPENERS, first_sentence, guarded, is_content_free
from steelyard.rewards.judges.limits import RateLimit
from steelyard.rewards.judges.local import LocalJudge
from steelyard.rewards.judges.parsing import (
    Quality,
    parse_first_error,
    parse_one_word,
    parse_quality,
    parse_score,
    parse_ternary,
    parse_verdict,
    parse_verdict_without_conflict,
    released_parse_score,
    released_tagged_score,
    score_reader,
)
from steelyard.rewards.judges.policy import PolicyJudge
from steelyard.rewards.judges.rule import RuleJudge
from steelyard.rewards.judges.scoring import believed, judged, preferred, preferred_in_group, verified
from steelyard.rewards.judges.similarity import judged_similarity
from steelyard.rewards.judges.templates import (
    QUALITIES,
    compare_prompt,
    critique_prompt,
    quality_prompt,
    score_prompt,
    similarity_prompt,
    step_prompt,
    verify_prompt,
)
from steelyard.rewards.judges.usage import Prices, Usage

__all__ = [
    "MASTER_KEYS",
    "OPENERS",
    "QUALITIES",
    "AnswerCache",
    "Comparison",
    "EndpointJudge",
    "LocalJudge",
    "PolicyJudge",
    "Prices",
    "Quality",
    "RateLimit",
    "RuleJudge",
    "Usage",
    "believed",
    "compare",
    "compare_criteria",
    "compare_prompt",
    "critique_prompt",
    "first_sentence",
    "guarded",
    "is_content_free",
    "judged",
    "judged_similarity",
    "parse_first_error",
    "parse_one_word",
    "parse_quality",
    "parse_score",
    "parse_ternary",
    "parse_verdict",
    "parse_verdict_without_conflict",
    "preferred",
    "preferred_in_group",
    "quality_prompt",
    "released_parse_score",
    "released_tagged_score",
    "score_list",
    "score_prompt",
    "score_reader",
    "similarity_prompt",
    "step_prompt",
    "verified",
    "verify",
    "verify_prompt",
]
