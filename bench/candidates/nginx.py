"""nginx as a plain reverse proxy: what relaying costs at least."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence

from typing_extensions import override

from bench.candidates.base import RELAY, Bench, Candidate
from bench.machine import family
from bench.workshop import Process, Unavailable, answers, free_port

_CONFIGURATION = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
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
        server localhost:{upstream_port};
        keepalive 4096;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port}{listen_tls};
        {certificate}
        location / {{
            proxy_pass {scheme}://bench;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            {verification}
        }}
    }}
}}
"""
_VERIFICATION = """
            proxy_ssl_name localhost;
            proxy_ssl_server_name on;
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate {authority};
            proxy_ssl_protocols TLSv1.3;"""
_CERTIFICATE = """
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.3;"""


class Nginx(Candidate):
    name = "nginx"

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self._process: Process | None = None

    @override
    def start(self) -> None:
        bench = self.bench
        self.port = free_port()
        verification = _VERIFICATION.format(authority=bench.authority)
        text = _CONFIGURATION.format(
            folder=bench.folder,
            port=self.port,
            upstream_port=bench.upstream_port,
            listen_tls="",
            certificate="",
            scheme="https" if bench.upstream_tls else "http",
            verification=verification if bench.upstream_tls else "",
        )
        self._process = nginx_start(bench, text, port=self.port, cores=bench.cores.gateway)

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
        told = subprocess.run([_program(), "-v"], capture_output=True, text=True, check=True)
        return told.stderr.strip().rpartition("/")[2]


def nginx_start(bench: Bench, text: str, *, port: int, cores: frozenset[int]) -> Process:
    configuration = bench.folder / "nginx.conf"
    configuration.write_text(text)
    process = Process(
        [_program(), "-c", configuration, "-e", bench.folder / "nginx.log"],
        cores=cores,
        log=bench.folder / "nginx.out",
    )
    process.wait_for(lambda: answers(port), "nginx")
    return process


def _program() -> str:
    # Debian keeps it where only an administrator's PATH looks.
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if found is None:
        raise Unavailable("There is no nginx (Debian: apt install nginx-light).")
    return found
