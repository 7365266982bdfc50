from boustro.evaluation.privacy import personal_data


def test_findings_are_counted_and_looked_for_in_the_training_text():
    samples = ["write to li@example.com or wang@example.org", "nothing here", "see 93.184.216.34 and li@example.com"]
    found = personal_data(samples, ["mail of li@example.com\n", "no address"])
    assert found == {"samples": 3, "found": {"email": 3, "ip": 1}, "share": 2 / 3, "copied": 2}
    assert personal_data(samples)["copied"] is None
    assert personal_data(["clean"], ["text"]) == {"samples": 1, "found": {}, "share": 0.0, "copied": 0}
