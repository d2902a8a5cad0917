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
from billing.pricing.charges import Charge, ChargeTooLarge, charge
from billing.pricing.rates import (
    DEFAULT_TIER,
    InvalidRates,
    LongContext,
    OutputCapField,
    PriceTerms,
    Rate,
    Rates,
    ServedRates,
    tiers_from_data,
)
from billing.pricing.usage import (
    BUCKETS,
    INPUT_BUCKETS,
    MAX_TOKENS,
    OUTPUT_BUCKETS,
    AbsurdUsage,
    Usage,
    unknown_usage_keys,
    usage_from_openai,
)

__all__ = [
    "BUCKETS",
    "DEFAULT_TIER",
    "INPUT_BUCKETS",
    "MAX_TOKENS",
    "OUTPUT_BUCKETS",
    "AbsurdUsage",
    "Charge",
    "ChargeTooLarge",
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
    "cost_upper_bound",
    "output_bound_tokens",
    "prompt_bound_tokens",
    "tiers_from_data",
    "unknown_usage_keys",
    "usage_from_openai",
]
