"""``python -m peerbus doctor``: what a node on this machine finds out about how it is reached."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any, Dict, List, Mapping

from . import _command, _errors, node

HELP = "start a node as configured, and report how it is reached and what is in the way"
_SETTLE_S = 5.0  # what relays, port mapping and the verdicts of peers get by default


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", help="JSON file with the keys of CreateNode, as the program in question uses them")
    parser.add_argument("--identity-dir", help="directory of the node's key (default: the config's, else a new identity)")
    parser.add_argument("--relay", help="multiaddr of a relay, ending in /p2p/<id>: use it and report on it")
    parser.add_argument("--token", default="", help="relay.token to show to the relay")
    parser.add_argument("--connect", action="append", default=[], help="multiaddr of a peer to connect to; repeatable")
    parser.add_argument("--wait", type=float, default=_SETTLE_S, help=f"seconds to find things out (default {_SETTLE_S:g})")
    _command.add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    config = _config_of(arguments)
    attempts: List[Dict[str, Any]] = []
    with node.BlockingNode(arguments.identity_dir, config=config) as patient:
        for address in arguments.connect:
            attempts.append(_attempt("connect", address, lambda address=address: patient.connect(address)["Addrs"][0]))
        if arguments.relay:
            attempts.append(_attempt("relay", arguments.relay, lambda: patient.start_static_relay(arguments.relay)))
        time.sleep(max(0.0, arguments.wait))  # nothing tells when no more is to be found out
        found = patient.diagnose()
    _command.answer(arguments, {**found, "attempts": attempts}, report(found, attempts))
    return _command.NO if found["advice"] or any(attempt["error"] for attempt in attempts) else _command.DONE


def _config_of(arguments: argparse.Namespace) -> Dict[str, Any]:
    config: Dict[str, Any] = {}
    if arguments.config:
        with open(arguments.config, encoding="utf-8") as file:
            try:
                config = json.load(file)
            except ValueError as error:
                raise _errors.InvalidConfigError(f"{arguments.config} is not JSON: {error}") from error
        if not isinstance(config, dict):
            raise _errors.InvalidConfigError(f"{arguments.config} is not a JSON object")
    if arguments.identity_dir:
        config.pop("identity_dir", None)
    if arguments.token:
        config["relay"] = {**(config.get("relay") or {}), "token": arguments.token}
    return config


def _attempt(what: str, target: str, act: Any) -> Dict[str, Any]:
    try:
        return {"what": what, "target": target, "result": str(act()), "error": None}
    except _errors.PeerbusError as error:
        return {"what": what, "target": target, "result": None, "error": f"{error.code}: {error}"}


def report(found: Mapping[str, Any], attempts: List[Dict[str, Any]]) -> str:
    """The diagnosis for a person."""
    addresses, nat, connections = found["addresses"], found["nat"], found["connections"]
    lines = [f"node {found['peer_id']}, peerbus {found['version']}", f"reachability: {found['reachability']}"]
    for what in ("listen", "announced", "reachable", "unreachable"):
        lines += _listed(f"{what} addresses", addresses[what])
    lines += _listed("seen by peers as", [f"{one['address']} ({one['observers']} peers)" for one in addresses["observed"]])
    lines.append(f"NAT: TCP {nat['tcp']}, UDP {nat['udp']}; port mapping {nat['port_mapping']}")
    lines += _listed("mapped ports", [f"{one['listen']} -> {one['external']}" for one in nat["mappings"]])
    lines.append("connections: {direct} direct, {relayed} relayed ({limited} limited)".format(**connections))
    lines += _listed("relayed beside a direct one", [_lingering(one) for one in connections["lingering"]])
    lines += _listed("relays", [_relay(one) for one in found["relays"]])
    lines += _listed("hole punches", [_punch(one) for one in found["hole_punches"]])
    lines += _listed("attempts", [f"{one['what']} {one['target']}: {one['error'] or one['result']}" for one in attempts])
    lines += _webrtc(found["webrtc"]) + _discovery(found["discovery"])
    if not found["advice"]:
        return "\n".join([*lines, "", "nothing is in the way"])
    lines += ["", "what is in the way:"]
    for advice in found["advice"]:
        lines += [f"  {advice['code']}: {advice['text']}", f"    change: {advice['change']}"]
    return "\n".join(lines)


def _listed(title: str, entries: List[str]) -> List[str]:
    return [f"{title}:", *(f"  {entry}" for entry in entries)] if entries else []


def _relay(one: Mapping[str, Any]) -> str:
    if one["reserved"]:
        trip = f", round trip {one['round_trip_ms']:.1f} ms" if one["round_trip_ms"] >= 0 else ""
        limited = one["limit_ms"] or one["limit_bytes"]
        limits = f"{one['limit_bytes']} bytes and {one['limit_ms'] // 1000} s" if limited else "none"
        return f"{one['relay']}: reserved until {one['expires']}{trip}, limits of a connection: {limits}"
    return f"{one['relay']}: no reservation; {one['failure'] or 'not asked yet'}"


def _webrtc(part: Mapping[str, Any]) -> List[str]:
    if not part["enabled"]:
        return ["WebRTC: off"]
    servers = ", ".join([*part["stun_servers"], *part["turn_servers"]]) or "none"
    counts = "WebRTC: {open} open, {opened} so far, {failed} failed".format(**part["counts"])
    lines = [f"{counts}; ICE servers: {servers}"]
    lines += _listed("WebRTC connections", [_webrtc_connection(one) for one in part["connections"]])
    failure = part["last_failure"]
    return lines + ([f"last WebRTC failure: {failure['peer']}: {failure['reason']}"] if failure else [])


def _webrtc_connection(one: Mapping[str, Any]) -> str:
    ends = [f"{one['path'][end]['type']} {one['path'][end]['address']}" for end in ("local", "remote")] if one["path"] else []
    return f"{one['peer_id']}: {one['kind']}, {one['state']}{', ' if ends else ''}{' - '.join(ends)}"


def _discovery(part: Mapping[str, Any]) -> List[str]:
    dht, mdns = part["dht"], part["mdns"]
    sources = f"discovery: DHT {dht['state']} ({dht['peers']} peers), mDNS {mdns['state']}"
    return [f"{sources}; {part['found']} peers found by {part['searches']} searches"]


def _lingering(one: Mapping[str, Any]) -> str:
    return f"{one['peer']} at {one['address']}: held open by {', '.join(one['protocols']) or 'nothing'}"


def _punch(one: Mapping[str, Any]) -> str:
    return f"{one['peer']} by {one['way']}: {'direct' if one['direct'] else one['reason']} ({one['took_ms']} ms)"
