"""The words of the seed data: cases of a support desk, put together from parts so that no two read the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def _list(text: str) -> tuple[str, ...]:
    """Parts between bars where there are any, else words."""
    return tuple(text.split("|" if "|" in text else None))


DOMAINS = _list(
    "billing accounts security networking storage compute database messaging analytics mobile integrations onboarding"
)
AREAS = _list("access limits errors invoices migration latency backup settings reports upgrades quotas webhooks")
TOPICS = _list(
    "timeout refund rotation import export duplicate throttling rollback permission encoding retention scheduling "
    "failover"
)
_ACTIONS = _list(
    "reset restore export import rotate cancel merge upgrade downgrade reconcile archive resend validate disable "
    "enable transfer schedule throttle unlock migrate replicate rename split audit tag approve revoke clone index "
    "compress decrypt mirror"
)
_THINGS = _list(
    "invoice|password|api key|mailbox|webhook|dashboard|backup|subscription|report|certificate|login session|"
    "data export|payment method|queue|bucket|replica|access token|audit trail|tenant|workspace|notification rule|"
    "rate limit|custom field|service account|saved search|time zone|print job|contact list|shipping label|"
    "user group|search index|usage alert|retention policy|vpn tunnel|disk snapshot|card terminal"
)
_SYMPTOMS = _list(
    "it stays pending for hours|the page shows an empty list|a second copy appears|the confirmation never arrives|"
    "the total differs from yesterday|only part of the rows arrive|users see stale values|it fails after a retry|"
    "the progress bar stops halfway|the old name keeps showing|the numbers look doubled|every third attempt fails|"
    "the mail lands in quarantine|a colleague lost permission|the amount is rounded wrongly|"
    "the mobile client logs out|umlauts turn into question marks|the night run skips it|the checksum does not match|"
    "the link expires too early|the queue grows without end|the first click is ignored|sorting puts it last|"
    "the preview differs from the print"
)
_PLACES = _list(
    "seoul frankfurt toronto singapore dublin virginia sydney mumbai osaka stockholm oregon paris zurich warsaw "
    "lagos lima santiago nairobi helsinki lisbon"
)
_CLIENTS = _list(
    "chrome firefox safari android ios kubernetes terraform excel postman jenkins outlook slack teams sap jira "
    "zapier airflow grafana"
)
_TEMPLATES = (
    "How do I {action} the {thing} for {area} in {place}? With {client}, {symptom} (ticket {number}).",
    "{client} {release}: after I {action} a {thing}, {symptom}. Region {place}, {topic}, reference {number}.",
    "Customer {number} wants to {action} the {thing}, but {symptom}; {domain} {topic} in {place}, {client}.",
    "{domain}: {symptom} when we {action} our {thing} from {client} {release} ({place}, {number}).",
    "Is it safe to {action} a {thing} while a {topic} is running? On {client} in {place}, {symptom}. Case {number}.",
    "{topic} problem with the {thing} since release {release}: {symptom}. We had to {action} it, {place} {number}.",
)
_REWORDED = (
    "Hello, {text} Thank you.",
    "{text} Please can you help us with this?",
    "Hi there, we have this: {text}",
    "{text} It is not the first time.",
)
_STEPS = _list(
    "Check the status page of {domain} before anything else.|Open the settings of the {thing} and note its id.|"
    "Ask the customer for the exact time of the last attempt.|Search the audit log for entry {number}.|"
    "Have the owner {action} the {thing} once, with {client} closed.|Wait for the {topic} to finish; it takes minutes.|"
    "Compare the result with the copy in {place}.|If {symptom}, collect the request id and stop here.|"
    "Clear the cache of {client} and sign in again.|Set the limit of the {area} page back to its default.|"
    "Repeat the step with a second account to rule out permissions.|Record the outcome in the case and link {number}.|"
    "Tell the customer that {symptom} only until the next refresh.|Escalate to {domain} if it happens twice.|"
    "Run the {topic} check from the admin console of {place}.|Confirm with the customer and close the case."
)

CHOICES = 15
"""How many random numbers one case's texts need."""
Choices = NDArray[np.uint32]


def category(choices: Choices) -> list[str]:
    """The path of a case in the taxonomy: domain, area, topic."""
    domain, area, topic = (int(x) for x in choices[:3])
    return [DOMAINS[domain % len(DOMAINS)], AREAS[area % len(AREAS)], TOPICS[topic % len(TOPICS)]]


def domain_of(choices: Choices) -> NDArray[np.int64]:
    """Index of the domain, for all cases at once."""
    return choices[:, 0].astype(np.int64) % len(DOMAINS)


def _parts(choices: Choices) -> dict[str, str]:
    domain, area, topic = category(choices)
    c = [int(x) for x in choices]
    return {
        "domain": domain,
        "area": area,
        "topic": topic,
        "action": _ACTIONS[c[3] % len(_ACTIONS)],
        "thing": _THINGS[c[4] % len(_THINGS)],
        "symptom": _SYMPTOMS[c[5] % len(_SYMPTOMS)],
        "place": _PLACES[c[6] % len(_PLACES)],
        "client": _CLIENTS[c[7] % len(_CLIENTS)],
        "release": f"{1 + c[8] % 9}.{c[8] // 16 % 20}",
        "number": str(10_000 + c[9] % 900_000),
    }


def query_text(choices: Choices) -> str:
    """What the customer asked."""
    return _TEMPLATES[int(choices[10]) % len(_TEMPLATES)].format_map(_parts(choices))


def reworded(text: str, choices: Choices) -> str:
    """The same question asked again: a near-duplicate."""
    return _REWORDED[int(choices[11]) % len(_REWORDED)].format(text=text)


def response_text(choices: Choices) -> str:
    """What the desk answered: three to eight steps."""
    parts = _parts(choices)
    first, count = int(choices[12]), 3 + int(choices[13]) % 6
    stride = 2 * (int(choices[14]) % 8) + 1  # odd, and there are sixteen steps: none comes twice
    return " ".join(_STEPS[(first + i * stride) % len(_STEPS)].format_map(parts) for i in range(count))


def taxonomy() -> list[tuple[str, str, str | None, str]]:
    """The nodes of both versions as (version, path, parent, name). v1 lacks what v2 has gained since."""
    rows: list[tuple[str, str, str | None, str]] = []
    for version, areas, topics in (("v1", AREAS[:10], TOPICS[:11]), ("v2", AREAS, TOPICS)):
        for domain in DOMAINS:
            rows.append((version, domain, None, domain.capitalize()))
            for area in areas:
                rows.append((version, f"{domain}/{area}", domain, f"{domain.capitalize()} {area}"))
                rows.extend(
                    (version, f"{domain}/{area}/{topic}", f"{domain}/{area}", f"{area.capitalize()}: {topic}")
                    for topic in topics
                )
    return rows
