"""What a call costs: pure arithmetic on whole numbers, without Django.

`usage` reads what upstream reports, `rates` knows what a unit costs, `charges` multiplies the two
and rounds once, `bounds` says before a call what it can cost at most.
"""

from billing.pricing.bounds import (
    affordable_output_tokens,
    cost_upper_bound,
    output_bound_tokens,
    prompt_bound_tokens,
)
from billing.pricing.charges import NO_UNIT_RATES, Charge, ChargeTooLarge, charge
from billing.pricing.counts import MAX_UNITS, NO_COUNTS, UNKNOWN_PREFIX, AbsurdUsage, Counts
from billing.pricing.rates import (
    DEFAULT_TIER,
    NO_TOKEN_RATES,
    InvalidRates,
    LongContext,
    OutputCapField,
    PriceTerms,
    Rate,
    Rates,
    ServedRates,
    tiers_from_data,
)
from billing.pricing.readers import (
    milliseconds,
    usage_from_embeddings,
    usage_from_images,
    usage_from_openai,
    usage_from_responses,
    usage_from_speech,
    usage_from_transcription,
)
from billing.pricing.units import (
    CHARACTERS,
    CODE_INTERPRETER_SESSIONS,
    DENOMINATIONS,
    FILE_SEARCH_CALLS,
    IMAGE_GENERATION_CALLS,
    INPUT_AUDIO,
    OUTPUT_AUDIO,
    WEB_SEARCH_CALLS,
    Denomination,
    code_interpreter_unit,
    denomination,
    image_unit,
    unit_rates_from_data,
)
from billing.pricing.unknown_usage import unknown_usage_counts, unknown_usage_keys
from billing.pricing.usage import (
    BUCKETS,
    INPUT_BUCKETS,
    MAX_TOKENS,
    OUTPUT_BUCKETS,
    Usage,
    with_counts,
)

__all__ = [
    "BUCKETS",
    "CHARACTERS",
    "CODE_INTERPRETER_SESSIONS",
    "DEFAULT_TIER",
    "DENOMINATIONS",
    "FILE_SEARCH_CALLS",
    "IMAGE_GENERATION_CALLS",
    "INPUT_AUDIO",
    "INPUT_BUCKETS",
    "MAX_TOKENS",
    "MAX_UNITS",
    "NO_COUNTS",
    "NO_TOKEN_RATES",
    "NO_UNIT_RATES",
    "OUTPUT_AUDIO",
    "OUTPUT_BUCKETS",
    "UNKNOWN_PREFIX",
    "WEB_SEARCH_CALLS",
    "AbsurdUsage",
    "Charge",
    "ChargeTooLarge",
    "Counts",
    "Denomination",
    "InvalidRates",
    "LongContext",
    "OutputCapField",
    "PriceTerms",
    "Rate",
    "Rates",
    "ServedRates",
    "Usage",
    "affordable_output_tokens",
    "charge",
    "code_interpreter_unit",
    "cost_upper_bound",
    "denomination",
    "image_unit",
    "milliseconds",
    "output_bound_tokens",
    "prompt_bound_tokens",
    "tiers_from_data",
    "unit_rates_from_data",
    "unknown_usage_counts",
    "unknown_usage_keys",
    "usage_from_embeddings",
    "usage_from_images",
    "usage_from_openai",
    "usage_from_responses",
    "usage_from_speech",
    "usage_from_transcription",
    "with_counts",
]
