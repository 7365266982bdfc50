"""Personal data and secrets in a text: where they are, and the text with placeholders in their place.

    find("write to li@example.com")  # [Finding(kind="email", start=9, end=23)]
    redact("write to li@example.com")  # "write to <EMAIL>"

What has a checksum (identity and bank cards) or a numbering plan (telephones) counts only where it is right, which
keeps ordinary numbers in the text. Names and street addresses are not looked for.
"""

import datetime
import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import phonenumbers
from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
from detect_secrets.plugins.discord import DiscordBotTokenDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
from detect_secrets.plugins.jwt import JwtTokenDetector
from detect_secrets.plugins.mailchimp import MailchimpDetector
from detect_secrets.plugins.openai import OpenAIDetector
from detect_secrets.plugins.pypi_token import PypiTokenDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
from detect_secrets.plugins.stripe import StripeDetector
from detect_secrets.plugins.telegram_token import TelegramBotTokenDetector
from detect_secrets.plugins.twilio import TwilioKeyDetector

# Where two findings overlap, the one whose kind stands first here is kept.
KINDS = ("url_credentials", "secret", "email", "id_card", "bank_card", "ip", "phone")

_MAILBOX = (
    r"A-Za-z0-9_%+\-\u00c0-\u024f\u0370-\u03ff\u0400-\u04ff"  # of the letters Latin, Greek and Cyrillic ones, not Han
)
_EMAIL = re.compile(
    rf"(?<![{_MAILBOX}.])(?!git@[\w.-]+:)[{_MAILBOX}]+(?:\.[{_MAILBOX}]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+(?!(?:png|jpe?g|gif|svg|webp|css|js)\b)[A-Za-z]{2,24}"
    r"(?![A-Za-z0-9])"
)
# The last @ before the host ends a password, if what stands between two of them is ASCII without a comma or the like.
_URL_CREDENTIALS = re.compile(r"(?<=://)[^\s/:@?#<>\"']*:[^\s/@?#<>\"']+(?:@[A-Za-z0-9_.~!$&*+=%:-]+)*(?=@)")
_DIGITS_APART = r"(?<![\d.])(?<!\d[-/ ])"
_ID_CARD = re.compile(r"(?<![0-9A-Za-z])[1-9]\d{5}(?:18|19|20)\d{9}[\dXx](?![0-9A-Za-z])", re.ASCII)
_CARD = re.compile(rf"{_DIGITS_APART}[2-6](?:\d{{12,18}}|\d{{3}}([ -])\d{{4}}\1\d{{4}}\1\d{{3,7}})(?![\d])", re.ASCII)
_CARD_OF_19 = re.compile(
    r"[2-6](?<![\d.].)(?<!\d[-/ ].)\d{3}([ -])\d{4}\1\d{4}\1\d{4}\1\d{3}(?!\d)", re.ASCII
)  # as _DIGITS_APART, but looked for by its first digit
_CARD_AMEX = re.compile(rf"{_DIGITS_APART}3[47]\d{{2}}([ -])\d{{6}}\1\d{{5}}(?!\d)", re.ASCII)
# ISO/IEC 7812 numbers of Visa, Mastercard, American Express, Diners Club, JCB, Discover and UnionPay
_CARD_ISSUER = re.compile(r"4|5[1-5]|2[2-7]|3[47]|3[068]|35|60|64|65|62")
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)", re.ASCII)
# Words after which four numbers are those of a version, an object identifier or a section.
_VERSION = re.compile(
    r"(?:(?<![A-Za-z])(?:versions?|v\.?|releases?|firmware|build|oracle|oid|chapters?|sections?|clause)|§|版本|版|第)\W{0,3}$",
    re.IGNORECASE,
)
_SEE = re.compile(r"(?<![A-Za-z])see\W{0,3}$", re.IGNORECASE)  # the same after this word, if each has one digit
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{1,4}(?::{1,2}[0-9A-Fa-f]{1,4}){2,7}(?:::)?(?![\w:])", re.ASCII)
# Of national numbers without a country code: Chinese mobiles, Chinese area codes, North American (3-3-4) numbers.
_PHONE = re.compile(
    r"""
    (?<![\w.+/=-]) (?:
        (?P<international> (?:\+[ ]?|00[ ]?(?=[1-9]\d{0,2}[ -]))[1-9]\d{0,2} (?:[ .()-]{0,2}\d){6,13} )
      | (?P<mobile> (?:86[ -]?)? 1[3-9]\d ([ -]?) \d{4} \3 \d{4} (?: [ ]?/[ ]? 1[3-9]\d[ -]?\d{4}[ -]?\d{4} )* )
      | (?P<landline> \(?0(?:10|2\d|[3-9]\d{2})(?:\)[ ]?|[ -])[2-9]\d{2,3}[ -]?\d{4} )
      | (?P<american> (?:1[ .-])?(?:\([2-9]\d{2}\)[ ]?|[2-9]\d{2}[.-])[2-9]\d{2}[ .-]\d{4} )
    ) (?![\d]|[./-]\d)
    """,
    re.VERBOSE | re.ASCII,
)
_SLASHED = re.compile(r"[^ /](?:[^/]*[^ /])?")  # of the mobiles between slashes, each
_WIDE_DIGITS = "０１２３４５６７８９"
_NARROW = str.maketrans(f"{_WIDE_DIGITS}＋－Ｘｘ", "0123456789+-Xx")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN (?P<name>[A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?)-----"
    r"(?:.{0,20000}?-----END (?P=name)-----|(?:\s*[\w-]+: [^\n]*\n)*[A-Za-z0-9+/=\s]{0,20000})",
    re.DOTALL,
)
# Keys of services that detect-secrets 1.5 does not know, by the prefixes that their makers document.
_MORE_KEYS = re.compile(
    r"(?<![A-Za-z0-9])(?:AIza[\w-]{35}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}|hf_[A-Za-z0-9]{34}|sk-(?:[a-z]+-)*[\w-]{32,}|npm_[A-Za-z0-9]{36}"
    r"|github_pat_\w{50,}|ya29\.[\w-]{40,}|(?:LTAI|AKID)[A-Za-z0-9]{16,32})(?![A-Za-z0-9])",
    re.ASCII,
)
_AWS_SECRET = re.compile(
    r"[Aa][Ww][Ss](?i:[_ ]?secret[_ ]?(?:access[_ ]?)?key)[ \t]*[=:][ \t]*([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])"
)
_MIXED_RUN = re.compile(r"(?=[a-z]*\d)(?=\d*[a-z])[a-z0-9]{16}", re.IGNORECASE | re.ASCII)
_SHORTEST_KEY = 18
_LONG_WORD = re.compile(rf"[A-Za-z0-9_/+=.:-]{{{_SHORTEST_KEY},}}", re.ASCII)  # every key has one
_MANY_DIGITS = re.compile(r"\d(?:\D{0,3}\d){6}", re.ASCII)  # every number that is looked for has them
_DETECTORS = (
    AWSKeyDetector,
    AzureStorageKeyDetector,
    DiscordBotTokenDetector,
    GitHubTokenDetector,
    GitLabTokenDetector,
    JwtTokenDetector,
    MailchimpDetector,
    OpenAIDetector,
    PypiTokenDetector,
    SendGridDetector,
    SlackDetector,
    SquareOAuthDetector,
    StripeDetector,
    TelegramBotTokenDetector,
    TwilioKeyDetector,
)
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)  # GB 11643-1999
_ID_CHECK = "10X98765432"


@dataclass(frozen=True)
class Finding:
    """A stretch of text that should not be published: `text[start:end]`, and which of `KINDS` it is."""

    kind: str
    start: int
    end: int


def find(text: str) -> list[Finding]:
    """Returns what personal data and secrets the text holds, in its order and without overlaps.

    Kinds: "email"; "phone", international, Chinese and North American; "id_card", Chinese, with its checksum;
    "bank_card", by issuer and checksum (Luhn); "ip", public addresses alone; "url_credentials", the user:password of
    a URL; "secret", keys and tokens of common services (detect-secrets and a few more) and private keys. Full-width
    digits count as digits.
    """
    if not text.isascii() and any(digit in text for digit in _WIDE_DIGITS):
        text = text.translate(_NARROW)
    found = []
    for kind in KINDS:
        for start, end in _FINDERS[kind](text):
            if start < end and not any(one.start < end and start < one.end for one in found):
                found.append(Finding(kind, start, end))
    return sorted(found, key=lambda finding: finding.start)


def redact(text: str, findings: list[Finding] | None = None) -> str:
    """Returns the text with a placeholder such as <EMAIL> or <ID_CARD> for every finding (default: of `find`)."""
    parts, done = [], 0
    for finding in find(text) if findings is None else findings:
        parts += [text[done : finding.start], f"<{finding.kind.upper()}>"]
        done = finding.end
    return "".join([*parts, text[done:]])


def redact_batch(batch: dict, action: str = "replace") -> dict:
    """For `datasets.map(batched=True)`: "text" with placeholders, and "redactions", the kinds found, a list a row.

    With the action "drop" the text stays as it is: a filter drops the rows that have findings.
    """
    findings = [find(text) for text in batch["text"]]
    texts = batch["text"]
    if action == "replace":
        texts = [redact(text, found) if found else text for text, found in zip(texts, findings, strict=True)]
    return {"text": list(texts), "redactions": [[finding.kind for finding in found] for found in findings]}


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    values = [int(digit) for digit in reversed(digits)]
    return sum(values[::2] + [sum(divmod(2 * value, 10)) for value in values[1::2]]) % 10 == 0


def is_chinese_id(number: str) -> bool:
    """Whether 18 characters are a resident identity number: a date of birth and a check character that fit."""
    try:
        datetime.date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    total = sum(weight * int(digit) for weight, digit in zip(_ID_WEIGHTS, number, strict=False))
    return _ID_CHECK[total % 11] == number[17].upper()


def _emails(text: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in _EMAIL.finditer(text)) if "@" in text else iter(())


def _url_credentials(text: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in _URL_CREDENTIALS.finditer(text)) if "://" in text else iter(())


def _id_cards(text: str) -> Iterator[tuple[int, int]]:
    if _MANY_DIGITS.search(text):
        yield from (match.span() for match in _ID_CARD.finditer(text) if is_chinese_id(match.group()))


def _bank_cards(text: str) -> Iterator[tuple[int, int]]:
    for pattern in (_CARD_OF_19, _CARD, _CARD_AMEX) if _MANY_DIGITS.search(text) else ():
        for match in pattern.finditer(text):
            digits = re.sub(r"\D", "", match.group())
            if _CARD_ISSUER.match(digits) and luhn(digits):
                yield match.span()


def _addresses(text: str) -> Iterator[tuple[int, int]]:
    patterns = [pattern for pattern, mark in ((_IPV4, "."), (_IPV6, ":")) if text.count(mark) >= 2]
    for pattern in patterns:
        for match in pattern.finditer(text):
            before = text[max(0, match.start() - 12) : match.start()]
            is_section = _VERSION.search(before) or (len(match.group()) == 7 and _SEE.search(before))
            if _is_public(match.group()) and not is_section:
                yield match.span()


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


def _phones(text: str) -> Iterator[tuple[int, int]]:
    for match in _PHONE.finditer(text) if _MANY_DIGITS.search(text) else ():
        number = match.group()
        if match["international"]:
            number = "+" + number[2:] if number.startswith("00") else number
            valid = _in_numbering_plan(number, None)
        elif match["landline"]:
            valid = _in_numbering_plan(number, "CN")
        else:
            valid = True
        if valid:
            yield from (part.span() for part in _SLASHED.finditer(text, *match.span()))


def _in_numbering_plan(number: str, region: str | None) -> bool:
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False


def _secrets(text: str) -> Iterator[tuple[int, int]]:
    if "-----BEGIN" in text:
        yield from (match.span() for match in _PRIVATE_KEY.finditer(text))
    if not _LONG_WORD.search(text):
        return
    for pattern in (_MORE_KEYS, _AWS_SECRET, *_key_patterns()):
        for match in pattern.finditer(text):
            if match[0].startswith("sk-") and not _MIXED_RUN.search(match[0]):
                continue  # words with hyphens, in which no run of letters and digits is as long as in a key
            # a long group is the key itself within a line that names it, a short one is only a prefix
            yield match.span(1) if pattern.groups and len(match[1] or "") >= _SHORTEST_KEY else match.span()


@cache
def _key_patterns() -> tuple[re.Pattern, ...]:
    return tuple(pattern for detector in _DETECTORS for pattern in detector.denylist)


_FINDERS: dict[str, Callable[[str], Iterator[tuple[int, int]]]] = {
    "url_credentials": _url_credentials,
    "secret": _secrets,
    "email": _emails,
    "id_card": _id_cards,
    "bank_card": _bank_cards,
    "ip": _addresses,
    "phone": _phones,
}
