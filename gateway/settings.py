"""The one settings file. Everything comes from the environment through typed helpers (gateway.env).

`gateway.launch` fills in what a development run may leave out (database, secrets) from DATA_DIR
before Django reads this; a production run has to say everything itself, and is refused otherwise.
"""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string
from psycopg.conninfo import conninfo_to_dict

from gateway.env import env_bool, env_choice, env_int, env_list, env_seconds, env_str

BASE_DIR = Path(__file__).resolve().parent.parent
ENVIRONMENT = env_choice("ENVIRONMENT", "development", choices=("development", "production"))
PRODUCTION = ENVIRONMENT == "production"
DEBUG = env_bool("DEBUG", default=False)
DATA_DIR = Path(env_str("DATA_DIR", "var")).absolute()
PORT = env_int("PORT", 8000, least=1, most=65535)
HOST = env_str("HOST", "127.0.0.1")
WORKERS = env_int("WORKERS", 1, least=1, most=256)
BRAND = env_str("BRAND", "Tollgate")

# --- Secrets -------------------------------------------------------------------------------------
PLACEHOLDER_SECRET = "placeholder-for-tools-that-never-serve"  # noqa: S105  It is no secret: production refuses it.
SECRET_KEY = env_str("SECRET_KEY", PLACEHOLDER_SECRET)
# Mixed into the digest of every API key: who steals the database alone cannot test keys against it.
KEY_PEPPER = env_str("KEY_PEPPER", "" if PRODUCTION else PLACEHOLDER_SECRET)
# Fernet keys that encrypt upstream credentials, newest first; older ones still decrypt.
CREDENTIAL_KEYS = env_list("CREDENTIAL_KEYS")
API_KEY_BRAND_PREFIX = env_str("API_KEY_BRAND_PREFIX", "sk-")

# --- Database ------------------------------------------------------------------------------------
DATABASE_URL = env_str("DATABASE_URL")
# Django's threads share a bounded pool of so many connections in each process; 0: one a thread.
DATABASE_POOL_SIZE = env_int("DATABASE_POOL_SIZE", 2, least=0, most=64)


def _database(url: str) -> dict[str, Any]:
    """Django's form of a PostgreSQL URL; query parameters become libpq options."""
    if url and urlsplit(url).scheme not in {"postgres", "postgresql"}:
        raise ImproperlyConfigured("DATABASE_URL must be a postgresql:// URL.")
    pool = {"min_size": 0, "max_size": DATABASE_POOL_SIZE, "timeout": 10}
    parts: dict[str, Any] = dict(conninfo_to_dict(url)) if url else {"dbname": "tollgate"}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.pop("dbname", "tollgate"),
        "USER": parts.pop("user", ""),
        "PASSWORD": parts.pop("password", ""),
        "HOST": parts.pop("host", ""),
        "PORT": parts.pop("port", ""),
        "OPTIONS": {
            **parts,
            "connect_timeout": 5,
            "application_name": "tollgate",
            **({"pool": pool} if DATABASE_POOL_SIZE else {}),
        },
        "CONN_HEALTH_CHECKS": True,
    }


DATABASES = {"default": _database(DATABASE_URL)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
REDIS_URL = env_str("REDIS_URL")

# --- Applications --------------------------------------------------------------------------------
INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "accounts",
    "billing",
    "relay",
    "console",
    "gateway",
]
MIDDLEWARE = [
    # First: the API paths take none of the others.
    "console.middleware.ApiGate",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "gateway.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        # Before the applications', so that a template of the theme can be replaced.
        "DIRS": [BASE_DIR / "console" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 10},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
WHITENOISE_USE_FINDERS = True
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

# --- HTTP ----------------------------------------------------------------------------------------
ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
PUBLIC_URL = env_str("PUBLIC_URL", f"http://127.0.0.1:{PORT}").rstrip("/")
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
TRUSTED_PROXIES = env_list("TRUSTED_PROXIES")
_HTTPS = PUBLIC_URL.startswith("https://")
SESSION_COOKIE_SECURE = _HTTPS
CSRF_COOKIE_SECURE = _HTTPS
SESSION_COOKIE_AGE = env_int("SESSION_SECONDS", 12 * 3600, least=60, most=30 * 86400)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXIES else None
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
REQUEST_BODY_LIMIT_BYTES = env_int(
    "REQUEST_BODY_LIMIT_BYTES", 32 * 1024 * 1024, least=1024, most=1024 * 1024 * 1024
)
DRAIN_SECONDS = env_seconds("DRAIN_SECONDS", 15, least=0, most=3600)
# A client that takes nothing of its answer for so long is cut, and counts as one that left.
WRITE_SECONDS = env_seconds("WRITE_SECONDS", 60, least=1, most=3600)
# After so long a silence of upstream, a stream's client is sent a comment; 0: never.
KEEP_ALIVE_SECONDS = env_seconds("KEEP_ALIVE_SECONDS", 15, least=0, most=300)

# --- Upstream ------------------------------------------------------------------------------------
CONNECT_SECONDS = env_seconds("CONNECT_SECONDS", 5, least=0.1, most=60)
FIRST_BYTE_SECONDS = env_seconds("FIRST_BYTE_SECONDS", 600, least=1, most=3600)
IDLE_SECONDS = env_seconds("IDLE_SECONDS", 300, least=1, most=3600)
MAX_CALL_SECONDS = env_seconds("MAX_CALL_SECONDS", 1800, least=1, most=86400)
UPSTREAM_CONNECTIONS = env_int("UPSTREAM_CONNECTIONS", 4096, least=1, most=65536)
# So long, at least, upstream keeps responses; whose the ids of older things are is forgotten.
UPSTREAM_IDS_DAYS = env_int("UPSTREAM_IDS_DAYS", 30, least=0, most=36500)  # 0: never forgotten
# A stream whose client left is read on for its true usage (drain), or cancelled and estimated.
CLIENT_LEFT_POLICY = env_choice("CLIENT_LEFT_POLICY", "drain", choices=("drain", "cancel"))
# The limits of reading on, beyond which it is cancelled too: time and bytes since the client left,
CLIENT_LEFT_DRAIN_SECONDS = env_seconds("CLIENT_LEFT_DRAIN_SECONDS", 60, least=0, most=1800)
CLIENT_LEFT_DRAIN_BYTES = env_int(
    "CLIENT_LEFT_DRAIN_BYTES", 16 * 1024 * 1024, least=0, most=1024 * 1024 * 1024
)
# and how many such streams each worker reads on at once.
CLIENT_LEFT_DRAINS = env_int("CLIENT_LEFT_DRAINS", 256, least=0, most=65536)

# --- Money ---------------------------------------------------------------------------------------
FREE_QUOTA_USD = env_str("FREE_QUOTA_USD", "1")
FREE_QUOTA_DAYS = env_int("FREE_QUOTA_DAYS", 90, least=0, most=36500)  # 0: never expires
FREE_TIER_MODELS = env_list("FREE_TIER_MODELS")  # Empty: every priced model.
# Calls at once of an organization on its free quota, per worker process; 0: no limit.
FREE_TIER_CONCURRENCY = env_int("FREE_TIER_CONCURRENCY", 0, least=0, most=100_000)
DEFAULT_DISCOUNT = env_str("DEFAULT_DISCOUNT", "0.5")
# On standard holds: for how much output a call reserves at first, and in steps as it streams on.
STANDARD_HOLD_OUTPUT_TOKENS = env_int("STANDARD_HOLD_OUTPUT_TOKENS", 1024, least=1, most=1_000_000)
# On strict holds: the output cap of a model whose maximum the price book does not know.
UNKNOWN_MAX_OUTPUT_TOKENS = env_int("UNKNOWN_MAX_OUTPUT_TOKENS", 16_384, least=256, most=10_000_000)
# Whether a reply waits until its record is on the disk (always), or a power cut may take the last
# tenth of a second (interval).
JOURNAL_SYNC = env_choice("JOURNAL_SYNC", "interval", choices=("interval", "always"))
# Whether a reply waits until its record is in the database: for nodes that lose their disks.
SETTLE = env_choice("SETTLE", "journal", choices=("journal", "database"))
LEASE_TTL_SECONDS = env_seconds("LEASE_TTL_SECONDS", 60, least=3, most=3600)
LEASE_HEARTBEAT_SECONDS = env_seconds("LEASE_HEARTBEAT_SECONDS", 5, least=0.2, most=600)
# An organization that does not call gives its lease back after so long. Sooner it is recalled, by
# the first that is short of it; so a long time costs nothing, and a short one a lease per call.
LEASE_IDLE_SECONDS = env_seconds("LEASE_IDLE_SECONDS", 60, least=0.2, most=3600)

# How far upstream's own books may be from ours before that is an alarm, as a fraction.
RECONCILE_DRIFT = env_str("RECONCILE_DRIFT", "0.005")

# --- Payments ------------------------------------------------------------------------------------
# Both or neither: without the second, nothing that was paid could be credited.
STRIPE_SECRET_KEY = env_str("STRIPE_SECRET_KEY")
STRIPE_WEBHOOK_SECRET = env_str("STRIPE_WEBHOOK_SECRET")
STRIPE_URL = env_str("STRIPE_URL", "https://api.stripe.com")
PAYMENT_LEAST_USD = env_str("PAYMENT_LEAST_USD", "5")
PAYMENT_MOST_USD = env_str("PAYMENT_MOST_USD", "10000")

# --- Alerts --------------------------------------------------------------------------------------
# Without a host, nobody can ask for e-mails.
EMAIL_HOST = env_str("EMAIL_HOST")
EMAIL_PORT = env_int("EMAIL_PORT", 587, least=1, most=65535)
EMAIL_HOST_USER = env_str("EMAIL_HOST_USER")
EMAIL_HOST_PASSWORD = env_str("EMAIL_HOST_PASSWORD")
EMAIL_USE_TLS = env_bool("EMAIL_USE_TLS", default=True)
EMAIL_TIMEOUT = 20
DEFAULT_FROM_EMAIL = env_str("EMAIL_FROM", "tollgate@localhost")
# Webhooks may go to private addresses and over plain http: only where every customer is trusted.
WEBHOOK_PRIVATE_HOSTS = env_bool("WEBHOOK_PRIVATE_HOSTS", default=False)

# --- What anybody may see ------------------------------------------------------------------------
STATUS_PAGE = env_bool("STATUS_PAGE", default=True)

# --- Jobs ----------------------------------------------------------------------------------------
CELERY_BROKER_URL = REDIS_URL or "filesystem://localhost/"
CELERY_DATA_FOLDER = DATA_DIR / "celery"

# --- Logs: one JSON object a line; relayed calls log themselves, without bodies or keys. ---------
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "gateway.logs.JsonFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["stderr"], "level": env_str("LOG_LEVEL", "INFO")},
    "loggers": {"django.server": {"handlers": ["stderr"], "propagate": False}},
}

REST_FRAMEWORK = {
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_AUTHENTICATION_CLASSES": ["console.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "EXCEPTION_HANDLER": "console.errors.exception_handler",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Tollgate usage API",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
}
# By its name, like every other part of the console: wiring imports none of it.
UNFOLD = import_string("console.unfold.UNFOLD")
