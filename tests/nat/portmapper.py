"""A router's port mapping service, NAT-PMP (RFC 6886) or UPnP (WANIPConnection 1), whose mappings are rules of nftables.

    python portmapper.py nat-pmp|upnp LAN_ADDRESS WAN_ADDRESS      in the router's namespace; prints {} when it serves
"""

from __future__ import annotations

import http.server
import socket
import struct
import subprocess
import sys
import threading
from typing import Dict, Tuple
from xml.etree import ElementTree

_PMP_PORT, _SSDP_PORT, _HTTP_PORT = 5351, 1900, 5000
_SSDP_GROUP = "239.255.255.250"
_DEVICE, _SERVICE = "urn:schemas-upnp-org:device:", "urn:schemas-upnp-org:service:WANIPConnection:1"
_CONNECTION = f"{_DEVICE}WANConnectionDevice:1"


def nft(text: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)


class Mappings:
    """Which outside port leads where."""

    def __init__(self) -> None:
        self._targets: Dict[Tuple[str, int], str] = {}
        self._write()

    def add(self, protocol: str, outside: int, host: str, port: int) -> None:
        self._targets[protocol, outside] = f"{host}:{port}"
        self._write()

    def remove(self, protocol: str, outside: int) -> None:
        self._targets.pop((protocol, outside), None)
        self._write()

    def _write(self) -> None:
        rules = "\n".join(
            f'iifname "wan" {protocol} dport {outside} dnat to {target}'
            for (protocol, outside), target in self._targets.items()
        )
        nft(f"""
table ip mapped {{
}}
delete table ip mapped
table ip mapped {{
    chain in {{
        type nat hook prerouting priority dstnat
        {rules}
    }}
}}
""")


def serve_pmp(mappings: Mappings, lan: str, wan: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
        service.bind((lan, _PMP_PORT))
        print("{}", flush=True)
        while True:
            request, (host, port) = service.recvfrom(64)
            if len(request) >= 2 and request[0] == 0:
                service.sendto(pmp_answer(mappings, wan, host, request), (host, port))


def pmp_answer(mappings: Mappings, wan: str, host: str, request: bytes) -> bytes:
    operation = request[1]
    head = struct.pack("!BBHI", 0, 128 + operation, 0, 1)
    if operation == 0:
        return head + socket.inet_aton(wan)
    _, _, _, inside, outside, lifetime = struct.unpack("!BBHHHI", request)
    protocol = {1: "udp", 2: "tcp"}[operation]
    if lifetime:
        mappings.add(protocol, outside, host, inside)
    else:
        mappings.remove(protocol, outside)
    return head + struct.pack("!HHI", inside, outside, lifetime)


DESCRIPTION = f"""<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>0</minor></specVersion>
<device><deviceType>{_DEVICE}InternetGatewayDevice:1</deviceType><friendlyName>router</friendlyName><UDN>uuid:r</UDN><deviceList>
<device><deviceType>{_DEVICE}WANDevice:1</deviceType><friendlyName>wan</friendlyName><UDN>uuid:w</UDN><deviceList>
<device><deviceType>{_CONNECTION}</deviceType><friendlyName>connection</friendlyName><UDN>uuid:c</UDN><serviceList>
<service><serviceType>{_SERVICE}</serviceType><serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>
<controlURL>/control</controlURL><eventSubURL>/events</eventSubURL><SCPDURL>/scpd.xml</SCPDURL></service>
</serviceList></device></deviceList></device></deviceList></device></root>"""


class Control(http.server.BaseHTTPRequestHandler):
    """The device's description, and the actions of its service."""

    mappings: Mappings
    wan: str

    def do_GET(self) -> None:
        self._reply(DESCRIPTION)

    def do_POST(self) -> None:
        body = ElementTree.fromstring(self.rfile.read(int(self.headers["Content-Length"])))
        (action,) = body[0]
        fields = {field.tag: field.text or "" for field in action}
        name = action.tag.split("}")[1]
        values = "".join(f"<{key}>{value}</{key}>" for key, value in self._obey(name, fields).items())
        self._reply(f'<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
                    f's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
                    f'<u:{name}Response xmlns:u="{_SERVICE}">{values}</u:{name}Response></s:Body></s:Envelope>')

    def _obey(self, name: str, fields: Dict[str, str]) -> Dict[str, str]:
        if name == "GetNATRSIPStatus":
            return {"NewRSIPAvailable": "0", "NewNATEnabled": "1"}
        if name == "GetExternalIPAddress":
            return {"NewExternalIPAddress": self.wan}
        place = fields["NewProtocol"].lower(), int(fields["NewExternalPort"])
        if name == "AddPortMapping":
            self.mappings.add(*place, fields["NewInternalClient"], int(fields["NewInternalPort"]))
        elif name == "DeletePortMapping":
            self.mappings.remove(*place)
        return {}

    def _reply(self, text: str) -> None:
        content = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", 'text/xml; charset="utf-8"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def serve_upnp(mappings: Mappings, lan: str, wan: str) -> None:
    Control.mappings, Control.wan = mappings, wan
    control = http.server.ThreadingHTTPServer((lan, _HTTP_PORT), Control)
    threading.Thread(target=control.serve_forever, daemon=True).start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
        service.bind((_SSDP_GROUP, _SSDP_PORT))
        service.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(_SSDP_GROUP) + socket.inet_aton(lan))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as answers:
            answers.bind((lan, 0))
            print("{}", flush=True)
            while True:
                search, asker = service.recvfrom(2048)
                if search.startswith(b"M-SEARCH") and _CONNECTION.encode() in search:
                    place = f"http://{lan}:{_HTTP_PORT}/device.xml"
                    head = f"HTTP/1.1 200 OK\r\nST: {_CONNECTION}\r\nUSN: uuid:c::{_CONNECTION}\r\nEXT:\r\n"
                    answers.sendto(f"{head}LOCATION: {place}\r\nCACHE-CONTROL: max-age=1800\r\n\r\n".encode(), asker)


def main() -> None:
    protocol, lan, wan = sys.argv[1:]
    {"nat-pmp": serve_pmp, "upnp": serve_upnp}[protocol](Mappings(), lan, wan)


if __name__ == "__main__":
    main()
