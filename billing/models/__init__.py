from billing.models.alert import Alert, AlertRule
from billing.models.audit import AuditRun
from billing.models.call_hour import CallHour
from billing.models.code import CodeBatch, RedemptionCode
from billing.models.identity import FreeQuotaClaim
from billing.models.lease import Lease, LeaseSlice, Worker
from billing.models.ledger import LedgerEntry
from billing.models.limit import SpendLimit, SpendLimitPeriod
from billing.models.payment import Payment, PaymentEvent
from billing.models.plan import Plan, PlanSubscription
from billing.models.price import Discount, Price
from billing.models.price_import import PriceImport
from billing.models.rate_limit import MAX_RATE_LIMIT, RateLimit
from billing.models.refund import Refund
from billing.models.rerating import ReratedCall, Rerating, ReratingLine
from billing.models.usage import SetAsideRecord, UsageRecord
from billing.models.wallet import Grant, Wallet

__all__ = [
    "MAX_RATE_LIMIT",
    "Alert",
    "AlertRule",
    "AuditRun",
    "CallHour",
    "CodeBatch",
    "Discount",
    "FreeQuotaClaim",
    "Grant",
    "Lease",
    "LeaseSlice",
    "LedgerEntry",
    "Payment",
    "PaymentEvent",
    "Plan",
    "PlanSubscription",
    "Price",
    "PriceImport",
    "RateLimit",
    "RedemptionCode",
    "Refund",
    "ReratedCall",
    "Rerating",
    "ReratingLine",
    "SetAsideRecord",
    "SpendLimit",
    "SpendLimitPeriod",
    "UsageRecord",
    "Wallet",
    "Worker",
]
