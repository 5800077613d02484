"""A small DNS server on 127.0.0.1, over UDP and TCP, that knows a zone by heart.

    with DnsServer({"10.2.0.192.bl.test A": ["127.0.0.2"]}, silent=["slow.test"]) as server: …  # at server.port

Invariants
- A name in the zone without the type asked for is NOERROR and empty, any other is NXDOMAIN; with the SOA record of the
  nearest zone above, if the zone has one.
- A UDP reply over 512 bytes is cut and marked so.
"""

import socket
import socketserver
import struct
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

HOST = "127.0.0.1"
TTL = 60
_UDP_BYTES = 512
_TCP_SECONDS = 5.0


class DnsServer:
    """Serves until its `with` block is left.

    `zone` maps `NAME TYPE` (the name in lower case) to values: addresses, texts, host names (an MX one gets preference
    10), or for other types the record's text. It is read at every query, so it may be changed. A query for a name with
    one of the endings in `silent` gets no reply.
    """

    def __init__(self, zone: Mapping[str, Sequence[str]], silent: Sequence[str] = (), ttl: int = TTL) -> None:
        self.zone = zone
        self.silent = silent
        self.ttl = ttl
        self.queries: list[tuple[str, str, str]] = []
        """Name, type and `udp` or `tcp` of each query that came, in order."""
        self._tcp, self._udp = self._bound()
        self.port: int = self._udp.server_address[1]
        self.address = f"{HOST}:{self.port}"
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.02,), name="dns") for server in (self._tcp, self._udp)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        for server, thread in zip((self._tcp, self._udp), self._threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()

    def _bound(self) -> tuple["_Tcp", "_Udp"]:
        """Both servers at one port, which the kernel draws for TCP; UDP may have it in use."""
        for _ in range(20):
            tcp = _Tcp((HOST, 0), _TcpHandler)
            tcp.owner = self
            try:
                udp = _Udp(tcp.server_address[:2], _UdpHandler)
            except OSError:
                tcp.server_close()
                continue
            udp.owner = self
            return tcp, udp
        raise OSError("no port is free for both TCP and UDP")

    def reply(self, wire: bytes, transport: str) -> bytes | None:
        """The reply to a query; None if it gets none."""
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return None
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.queries.append((name, kind, transport))
        if name.endswith(tuple(self.silent)):
            return None
        response = dns.message.make_response(query, recursion_available=True)
        values = self._values(name, kind)
        if values:
            response.answer.append(self._rrset(question.name, kind, values))
        elif f"{name} CNAME" in self.zone:
            self._follow(response, name, kind)
        else:
            self._deny(response, name)
        return response.to_wire(max_size=_UDP_BYTES if transport == "udp" else 65535, prefer_truncation=True)

    def _values(self, name: str, kind: str) -> Sequence[str]:
        return self.zone.get(f"{name} {kind}", ())

    def _follow(self, response: dns.message.Message, name: str, kind: str) -> None:
        """Answer with an alias and what it stands for."""
        (target,) = self._values(name, "CNAME")
        response.answer.append(self._rrset(dns.name.from_text(name), "CNAME", [target]))
        if values := self._values(target, kind):
            response.answer.append(self._rrset(dns.name.from_text(target), kind, values))

    def _deny(self, response: dns.message.Message, name: str) -> None:
        if not any(entry.rpartition(" ")[0] == name for entry in self.zone):
            response.set_rcode(dns.rcode.NXDOMAIN)
        above = name
        while above:
            if values := self._values(above, "SOA"):
                response.authority.append(self._rrset(dns.name.from_text(above), "SOA", values))
                return
            above = above.partition(".")[2]

    def _rrset(self, name: dns.name.Name, kind: str, values: Sequence[str]) -> dns.rrset.RRset:
        records = [_record_text(kind, value) for value in values]
        return dns.rrset.from_text_list(name, self.ttl, dns.rdataclass.IN, kind, records)


def _record_text(kind: str, value: str) -> str:
    """A value of the zone as a record's text in a zone file."""
    match kind:
        case "TXT":
            data = value.encode()
            strings = [data[start : start + 255] for start in range(0, max(len(data), 1), 255)]
            return " ".join('"' + "".join(f"\\{byte:03}" for byte in string) + '"' for string in strings)
        case "MX":
            return f"{value}." if " " in value else f"10 {value}."
        case "NS" | "CNAME":
            return f"{value}."
    return value


class _Udp(socketserver.UDPServer):
    owner: DnsServer


class _Tcp(socketserver.TCPServer):
    owner: DnsServer
    request_queue_size = 100


class _UdpHandler(socketserver.BaseRequestHandler):
    server: _Udp
    request: Any

    def handle(self) -> None:
        wire, sock = self.request
        reply = self.server.owner.reply(wire, "udp")
        if reply is not None:
            sock.sendto(reply, self.client_address)


class _TcpHandler(socketserver.StreamRequestHandler):
    server: _Tcp
    timeout = _TCP_SECONDS

    def handle(self) -> None:
        (length,) = struct.unpack("!H", self.rfile.read(2))
        reply = self.server.owner.reply(self.rfile.read(length), "tcp")
        if reply is not None:
            self.wfile.write(struct.pack("!H", len(reply)) + reply)
            self.request.shutdown(socket.SHUT_WR)
