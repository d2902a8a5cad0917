"""nginx as a plain reverse proxy: what relaying costs at least."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from typing_extensions import override

from bench.candidates.base import RELAY, Bench, Candidate
from bench.machine import family
from bench.workshop import Process, Unavailable, answers, free_port

_FRAME = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
worker_rlimit_nofile 65536;
events {{ worker_connections 20000; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_body_buffer_size 128k;
    keepalive_requests 100000000;
    upstream bench {{
        server 127.0.0.1:{upstream_port};
        keepalive 4096;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port}{listen};
        location / {{
            proxy_pass {upstream};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""
_VERIFIED = """https://bench;
            proxy_ssl_name localhost;
            proxy_ssl_server_name on;
            proxy_ssl_verify on;
            proxy_ssl_protocols TLSv1.3;
            proxy_ssl_trusted_certificate {authority}"""


class Nginx(Candidate):
    name = "nginx"

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self._process: Process | None = None

    @override
    def start(self) -> None:
        bench = self.bench
        self.port = free_port()
        verified = _VERIFIED.format(authority=bench.authority)
        text = configuration(
            bench.folder,
            port=self.port,
            upstream=verified if bench.upstream_tls else "http://bench",
            upstream_port=bench.upstream_port,
        )
        self._process = nginx_start(bench.folder, text, port=self.port, cores=bench.cores.gateway)

    @override
    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    @override
    def processes(self) -> Mapping[str, Sequence[int]]:
        assert self._process is not None, "it was not started"
        return {RELAY: family(self._process.pid)}

    @property
    @override
    def version(self) -> str:
        told = subprocess.run([nginx_program(), "-v"], capture_output=True, text=True, check=True)
        return told.stderr.strip().rpartition("/")[2]


def configuration(
    folder: Path, *, port: int, upstream: str, upstream_port: int, listen: str = ""
) -> str:
    """A proxy that keeps connections on both sides and passes on at once what it gets."""
    return _FRAME.format(
        folder=folder, port=port, upstream=upstream, upstream_port=upstream_port, listen=listen
    )


def nginx_start(folder: Path, text: str, *, port: int, cores: frozenset[int]) -> Process:
    """An nginx with that configuration. Raises Unavailable."""
    configuration = folder / "nginx.conf"
    configuration.write_text(text)
    process = Process(
        [nginx_program(), "-c", configuration, "-e", folder / "nginx.log"],
        cores=cores,
        log=folder / "nginx.out",
    )
    process.wait_for(lambda: answers(port), "nginx")
    return process


def nginx_program() -> str:
    # Debian keeps it where only an administrator's PATH looks.
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if found is None:
        raise Unavailable("There is no nginx (Debian: apt install nginx-light).")
    return found
