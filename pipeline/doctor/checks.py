"""What DNS says of a sending domain: addresses and their names, SPF, DKIM, DMARC, MX, tracking, TLS-RPT.

No socket: answers come from the `Lookup` that is handed in. What they say is a stranger's: looked at up to a limit, and
printed as `quoted` gives it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from pipeline.dkim_keys import KeyFile, State
from pipeline.dkim_records import Finding as Published
from pipeline.dkim_records import compare
from pipeline.doctor.findings import Finding, error, ok, quoted, warning
from pipeline.doctor.spf import Evaluation, Verdict, spf_records
from sinks.smtp.answers import Addresses, Answer, Failure, MxRecords, Names, NoData, NoName, Texts
from sinks.smtp.dkim import txt_record
from sinks.smtp.dns import Lookup
from sinks.smtp.sources import Source

_NAMES: Final = 10  # of one address that are looked at
_HOSTS: Final = 20  # of an MX set
_LABELS: Final = 8  # up to which DMARC's record is looked for above
_LATER: Final = "DNS did not answer: try again, or look at `nameservers` in [delivery]"


@dataclass(frozen=True, slots=True)
class Sender:
    """A tenant as far as it sends from the domain."""

    name: str
    return_path_domain: str
    tracking_url: str


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be looked at: a sending domain, and all that its mail shows to the world."""

    domain: str
    senders: tuple[Sender, ...]
    sources: tuple[Source, ...]
    keys: tuple[KeyFile, ...]

    @property
    def addresses(self) -> list[str]:
        found = (ip for source in self.sources for ip in (source.ipv4, source.ipv6) if ip)
        return list(dict.fromkeys(found))


async def examine(subject: Subject, lookup: Lookup) -> AsyncIterator[Finding]:
    """Every finding, the good ones too, in a fixed order."""
    for source in subject.sources:
        async for finding in _source(source, lookup):
            yield finding
    for return_path in dict.fromkeys(sender.return_path_domain for sender in subject.senders):
        async for finding in _spf(return_path, subject.addresses, lookup):
            yield finding
    async for finding in _dkim(subject, lookup):
        yield finding
    async for finding in _dmarc(subject, lookup):
        yield finding
    for return_path in dict.fromkeys(sender.return_path_domain for sender in subject.senders):
        yield await _mx(return_path, "bounces come back to it", lookup)
        yield await _tls_rpt(return_path, lookup)
    yield await _mx(subject.domain, "replies, abuse@ and postmaster@ come to it", lookup)
    for sender in subject.senders:
        yield await _tracking(sender, lookup)


# Addresses and their names


async def _source(source: Source, lookup: Lookup) -> AsyncIterator[Finding]:
    asset = source.name or "the system's address"
    if not (source.ipv4 or source.ipv6):
        said = "no address is configured: what it would be cannot be looked up"
        yield warning("source", asset, said, "name it: [sources.NAME] ipv4 = …, and the source in its pool")
    name = source.ehlo_name
    if name.startswith("[") or "." not in name or name.endswith((".localdomain", ".local")):
        # RFC 5321 section 4.1.1.1: a name of the host that resolves.
        yield error("source", asset, f"it greets as {name}, which is no name of the internet", "set its ehlo_name")
        return
    for ip in filter(None, (source.ipv4, source.ipv6)):
        yield await _named(asset, ip, name, lookup)


async def _named(asset: str, ip: str, ehlo: str, lookup: Lookup) -> Finding:
    """RFC 1912 section 2.1: the address has a name, and the name the address. Large providers insist on it."""
    asset, address = f"{asset} {ip}", ip_address(ip)
    if not address.is_global:
        return warning("source", asset, "not an address of the internet", "give the one that peers see, or a proxy")
    found = await lookup(address.reverse_pointer, "PTR")
    if isinstance(found, Failure):
        return warning("source", asset, f"its name: {found.reason}", _LATER)
    names = found.values[:_NAMES] if isinstance(found, Names) else ()
    if not names:
        return error(
            "source", asset, "it has no name (PTR)", f"have its owner publish {address.reverse_pointer} PTR {ehlo}"
        )
    confirmed = [name for name in names if await _leads(name, ip, lookup)]
    if not confirmed:
        said = f"its name {quoted(names[0])} does not lead back to it"
        return error("source", asset, said, f"publish the address at that name, or a PTR to {ehlo}")
    if ehlo.lower() in confirmed:
        return ok("source", asset, f"{ehlo} and the address lead to each other")
    if await _leads(ehlo, ip, lookup):
        said = f"it greets as {ehlo}, and its name is {quoted(confirmed[0])}"
        return warning("source", asset, said, "greet by the name that the address has: some receivers compare")
    said = f"it greets as {ehlo}, which does not lead to the address"
    return error("source", asset, said, f"publish {ehlo} {'AAAA' if ':' in ip else 'A'} {ip}")


async def _leads(name: str, ip: str, lookup: Lookup) -> bool:
    found = await lookup(name, "AAAA" if ":" in ip else "A")
    return isinstance(found, Addresses) and any(ip_address(each) == ip_address(ip) for each in found.values)


# Authentication


async def _spf(domain: str, addresses: Sequence[str], lookup: Lookup) -> AsyncIterator[Finding]:
    found = await lookup(domain, "TXT")
    if isinstance(found, Failure):
        yield warning("spf", domain, found.reason, _LATER)
        return
    records = spf_records(found.values) if isinstance(found, Texts) else []
    if not records:
        allowed = " ".join(f"ip{6 if ':' in ip else 4}:{ip}" for ip in addresses[:_NAMES])
        yield error("spf", domain, "no SPF record", f'publish TXT "v=spf1 {allowed or "…"} -all"')
        return
    if any(term.lower() in ("all", "+all") for term in records[0].split()):
        yield warning("spf", domain, "its record lets everybody send", "end it with -all")
    for ip in addresses:
        evaluation = Evaluation(lookup, ip)
        verdict, why = await evaluation.of(domain)
        unread = f"; not looked at: {quoted(' '.join(evaluation.unread))}" if evaluation.unread else ""
        match verdict:
            case Verdict.PASS:
                yield ok("spf", domain, f"{ip} may send")
            case Verdict.TEMPERROR:
                yield warning("spf", domain, f"{ip}: {quoted(why)}", _LATER)
            case Verdict.PERMERROR:
                yield error(
                    "spf", domain, f"the record is broken: {quoted(why)}", "mend it: receivers take it for none"
                )
            case _ if evaluation.unread:
                yield warning("spf", domain, f"{ip}: {verdict}{unread}", f"see that it covers ip4 or ip6 {ip}")
            case _:
                term = f"ip{6 if ':' in ip else 4}:{ip}"
                yield error("spf", domain, f"{ip}: {verdict}", f"add {term} to its record")


async def _dkim(subject: Subject, lookup: Lookup) -> AsyncIterator[Finding]:
    if not any(key.state is State.SIGNING for key in subject.keys):
        todo = f"`mailriver dkim generate {subject.domain}`, publish, `mailriver dkim rotate {subject.domain}`"
        yield error("dkim", subject.domain, "no key signs: mail goes unsigned", todo)
    for key in subject.keys:
        found = await lookup(key.record_name, "TXT")
        published = compare(txt_record(key.key), _strings(found))
        todo = f"publish it as `mailriver dkim dns {subject.domain}` prints it"
        if published is Published.PUBLISHED:
            yield ok("dkim", key.record_name, f"published ({key.state})")
        elif published is Published.UNKNOWN:
            yield warning("dkim", key.record_name, "DNS did not answer", _LATER)
        elif key.state is State.SIGNING:
            yield error("dkim", key.record_name, f"it signs, and is {published} in DNS", todo)
        elif key.state is State.WAITING:
            yield warning("dkim", key.record_name, f"it waits to sign, and is {published} in DNS", todo)


def _strings(found: Answer) -> Sequence[str] | None:
    match found:
        case Texts(values):
            return [value.decode("utf-8", "replace") for value in values]
        case Failure():
            return None
    return ()


async def _dmarc(subject: Subject, lookup: Lookup) -> AsyncIterator[Finding]:
    labels = subject.domain.split(".")
    # RFC 7489 section 6.6.3: the organisation's record counts for what is below. Which that is, its record says.
    above = [".".join(labels[at:]) for at in range(len(labels) - 1)][-_LABELS:]
    for domain in dict.fromkeys((subject.domain, *above)):
        found = await lookup(f"_dmarc.{domain}", "TXT")
        if isinstance(found, Failure):
            yield warning("dmarc", f"_dmarc.{domain}", found.reason, _LATER)
            return
        texts = [text.decode("ascii", "replace") for text in found.values] if isinstance(found, Texts) else []
        records = [text for text in texts if text.replace(" ", "").startswith("v=DMARC1")]
        if records:
            async for finding in _policy(subject, domain, records):
                yield finding
            return
    todo = f'publish _dmarc.{subject.domain} TXT "v=DMARC1; p=none; rua=mailto:…"'
    yield error("dmarc", f"_dmarc.{subject.domain}", "no DMARC record", todo)


async def _policy(subject: Subject, organisation: str, records: Sequence[str]) -> AsyncIterator[Finding]:
    asset = f"_dmarc.{organisation}"
    tags = {
        name.strip().lower(): value.strip() for name, _, value in (tag.partition("=") for tag in records[0].split(";"))
    }
    policy = tags.get("p", "").lower()
    if len(records) > 1 or policy not in ("none", "quarantine", "reject"):
        said = f"{len(records)} records" if len(records) > 1 else f"no policy in {quoted(records[0])}"
        yield error(
            "dmarc", asset, said, 'one record, with p=none, quarantine or reject: "v=DMARC1; p=none; rua=mailto:…"'
        )
        return
    if "rua" not in tags:
        yield warning("dmarc", asset, f"p={policy}, and nobody is told of failures", "add rua=mailto:…")
    else:
        yield ok("dmarc", asset, f"p={policy}")
    for sender in subject.senders:
        path = sender.return_path_domain
        strict = tags.get("aspf", "r").lower() == "s"
        aligned = path == subject.domain if strict else path == organisation or path.endswith(f".{organisation}")
        # Keys are the From domain's own, so DKIM is always aligned.
        if aligned:
            yield ok("dmarc", path, f"the return path is aligned with {subject.domain}")
        else:
            todo = (
                f"a return_path_domain {'equal to' if strict else 'below'} {subject.domain if strict else organisation}"
            )
            said = f"the return path is not aligned with {subject.domain}: DMARC rests on DKIM alone"
            yield warning("dmarc", path, said, todo)


# What comes back


async def _mx(domain: str, why: str, lookup: Lookup) -> Finding:
    found = await lookup(domain, "MX")
    if isinstance(found, Failure):
        return warning("mx", domain, found.reason, _LATER)
    todo = f"publish {domain} MX 10 and the host of your inbound listener: {why}"
    if not isinstance(found, MxRecords) or not found.values:
        return error("mx", domain, "no MX record", todo)
    hosts = [host for _, host in found.values[:_HOSTS]]
    if "" in hosts:  # RFC 7505
        return error("mx", domain, "its MX says that it takes no mail", todo)
    for host in hosts:
        answers = [await lookup(host, kind) for kind in ("A", "AAAA")]
        if any(isinstance(each, Addresses) for each in answers):
            return ok("mx", domain, f"{quoted(host)}: {why}")
    return error("mx", domain, f"{quoted(hosts[0])} has no address", "publish one, or name another host")


async def _tls_rpt(domain: str, lookup: Lookup) -> Finding:
    asset = f"_smtp._tls.{domain}"
    found = await lookup(asset, "TXT")
    if isinstance(found, Failure):
        return warning("tls-rpt", asset, found.reason, _LATER)
    texts = found.values if isinstance(found, Texts) else ()
    if sum(text.startswith(b"v=TLSRPTv1;") and b"rua=" in text for text in texts) == 1:  # RFC 8460 section 3
        return ok("tls-rpt", asset, "reports are asked for")
    todo = f'publish {asset} TXT "v=TLSRPTv1; rua=mailto:…": who cannot reach it over TLS tells'
    return warning("tls-rpt", asset, "no TLS-RPT record", todo)


async def _tracking(sender: Sender, lookup: Lookup) -> Finding:
    url = sender.tracking_url
    parts = urlsplit(url)
    if parts.scheme != "https":
        # RFC 8058 section 3.1
        return error(
            "tracking", quoted(url), "not https: one-click unsubscription is not taken", "an https:// tracking_url"
        )
    answers = [await lookup(parts.hostname or "", kind) for kind in ("A", "AAAA")]
    if any(isinstance(each, Addresses) for each in answers):
        return ok("tracking", quoted(url), "https, and it has an address")
    if all(isinstance(each, NoName | NoData) for each in answers):
        said = "its host has no address: links, opens and unsubscriptions lead nowhere"
        return error("tracking", quoted(url), said, "publish one")
    return warning("tracking", quoted(url), "DNS did not answer", _LATER)
