from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.redaction import SET, measure, read_set
from boustro.data_scripts.redaction import KINDS, Finding, find, is_chinese_id, luhn, redact, redact_batch


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("write to li.wei+news@mail.example.com.", "write to <EMAIL>."),
        ("邮箱是zhang_san@qq.com，请来信", "邮箱是<EMAIL>，请来信"),
        ("call +44 20 7946 0958 or (212) 555-0187", "call <PHONE> or <PHONE>"),
        ("电话：138-1234-5678、010-62781234", "电话：<PHONE>、<PHONE>"),
        ("身份证11010519491231002X号", "身份证<ID_CARD>号"),
        ("card 4111 1111 1111 1111, or 378282246310005", "card <BANK_CARD>, or <BANK_CARD>"),
        ("from 8.8.8.8 and 2001:4860:4860::8888", "from <IP> and <IP>"),
        ("git clone https://bob:s3cret@host.org/x.git", "git clone https://<URL_CREDENTIALS>@host.org/x.git"),
        (
            "https://u:p@ss@host/ and https://u:p@host,li@example.com",
            "https://<URL_CREDENTIALS>@host/ and https://<URL_CREDENTIALS>@host,<EMAIL>",
        ),
        ("电话13812345678/139 1234 5678", "电话<PHONE>/<PHONE>"),
        (
            "手机＋８６　１３８００１３８０００，证１１０１０５１９４９１２３１００２Ｘ",
            "手机＋８６　<PHONE>，证<ID_CARD>",
        ),
        ("card 6222 0212 3456 7890 128, or 4111 1111 1111 1111 123", "card <BANK_CARD>, or <BANK_CARD> 123"),
        ("in Kyiv 8.8.8.8", "in Kyiv <IP>"),
        ("José.García@example.com, müller@firma.de, иван@почта.example.ru", "<EMAIL>, <EMAIL>, иван@почта.example.ru"),
        ("张三zhang@qq.com, иван@example.ru", "张三<EMAIL>, <EMAIL>"),
        ("git clone git@github.com:user/repo.git", "git clone git@github.com:user/repo.git"),
        ("redis://:secret@cache.example.com:6379/0", "redis://<URL_CREDENTIALS>@cache.example.com:6379/0"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES,0A\n\nMIIE+/a=\n. End",
            "<SECRET>. End",
        ),
        ("key AKIAIOSFODNN7EXAMPLE!", "key <SECRET>!"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n", "aws_secret_access_key = <SECRET>\n"),
        ("sk-ant-api03-" + "a1-B2c3D4e5F6g7H8i9J0_" * 3, "<SECRET>"),
        ("token=ghp_" + "a1B2" * 9, "token=<SECRET>"),
        ("x\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\ny", "x\n<SECRET>\ny"),
    ],
)
def test_placeholders(text, redacted):
    assert redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "110105194912310021",  # check character wrong
        "110105194913310026",  # there is no month 13
        "4111 1111 1111 1112",
        "from 192.168.1.1, 127.0.0.1, 999.1.1.1, version 8.8.4.4",
        "Oracle 11.2.0.4, OID: 1.3.6.1, see 4.3.2.1, section 5.4.3.2, v 2.3.4.5",
        "/sk-nohavice-panske-teplakove-cierne-zimne",
        "https://example.com/13812345678/13912345678",
        "on 2024-10-12 at 12:30:45, 1994-1995, pages 100-200, 3.14159265358979",
        "人口12345678人，面积960万平方公里",
        "@home, a@b, user@localhost",
        "https://example.com:8080/a@b",
        "std::vector dead:beef a::b",
    ],
)
def test_ordinary_numbers_stay(text):
    assert find(text) == []


def test_findings_say_where():
    text = "a li@example.com b 13812345678"
    assert find(text) == [Finding("email", 2, 16), Finding("phone", 19, 30)]


def test_checksums():
    assert luhn("79927398713") and not luhn("79927398710")
    assert is_chinese_id("11010519491231002X") and not is_chinese_id("110105194912310021")


@given(st.lists(st.sampled_from([*"a1@.:-+ 中/\n", "https://", "8.8.8.8", "li@example.com", "13812345678", "１３８"])))
def test_findings_are_ordered_and_apart(parts):
    text = "".join(parts)
    findings = find(text)
    assert all(one.end <= other.start for one, other in pairwise(findings))
    assert all(0 <= one.start < one.end <= len(text) and one.kind in KINDS for one in findings)


def test_batches_count_by_kind():
    batch = redact_batch({"text": ["li@example.com, wu@example.com", "nothing"]})
    assert batch == {"text": ["<EMAIL>, <EMAIL>", "nothing"], "redactions": [["email", "email"], []]}
    assert redact_batch({"text": ["li@example.com"]}, action="drop")["text"] == ["li@example.com"]


@pytest.mark.parametrize(("name", "recall"), [("redaction_set.txt", 0.9), ("redaction_held_out.txt", 0.95)])
def test_precision_and_recall_on_the_labelled_sets(name, recall):
    measured = measure(read_set(SET.parent / name))["all"]
    assert measured["precision"] >= 0.97 and measured["recall"] >= recall
