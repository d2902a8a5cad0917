"""TLS in front of the native upstream, with a certificate that is made for the run."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.candidates.nginx import configuration, nginx_start
from bench.workshop import Process, Unavailable, free_port

_LISTEN = """ ssl;
        ssl_protocols TLSv1.3;
        ssl_certificate {folder}/certificate.pem;
        ssl_certificate_key {folder}/key.pem"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFront:
    """An nginx on the cores of the load; its certificate is its own authority."""

    process: Process
    port: int
    authority: Path

    @classmethod
    def start(cls, folder: Path, *, upstream_port: int, cores: frozenset[int]) -> Self:
        """Raises Unavailable."""
        own = folder / "tls"
        own.mkdir()
        authority = _certificate(own)
        port = free_port()
        text = configuration(
            own,
            port=port,
            upstream="http://bench",
            upstream_port=upstream_port,
            listen=_LISTEN.format(folder=own),
        )
        process = nginx_start(own, text, port=port, cores=cores)
        return cls(process=process, port=port, authority=authority)


def _certificate(folder: Path) -> Path:
    certificate = folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(certificate)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        raise Unavailable("There is no openssl (Debian: apt install openssl).") from None
    return certificate
