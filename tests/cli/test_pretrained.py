import json

import pytest

from quillrt.runtime.pretrained_facts import facts


@pytest.mark.usefixtures("stand_in")
def test_the_list_tells_each_models_figures_as_they_were_measured(quillrt):
    code, out, err = quillrt("models")

    assert (code, err) == (0, "")
    found = facts("small")
    (row,) = [line for line in out.splitlines() if "models:small" in line]
    kib = (f"{found.checkpoint_bytes / 1024:,.0f}", f"{found.bundle_bytes / 1024:,.0f}")
    assert row.split()[:7] == ["models:small", "cnn", "digits", "10", f"{found.parameters:,}", *kib]
    words = " ".join(out.split())
    for precision in ("fp32", "fp16", "int8"):
        worst = min(m["accuracy"] for m in found.measured if m["precision"] == precision)
        assert f"{precision} {100 * worst:.2f} %" in words
    assert "(digits validation, n = 359)" in words


@pytest.mark.usefixtures("stand_in")
def test_json_holds_every_measurement(quillrt):
    code, out, _ = quillrt("models", "--json")

    (found,) = json.loads(out)
    assert code == 0
    assert found["labels"] == list("0123456789")
    assert {m["backend"] for m in found["measured"]} >= {"onnxruntime-cpu"}
    assert all(0.5 < m["accuracy"] <= 1 and m["n"] == 359 for m in found["measured"])


@pytest.mark.parametrize("name", ["small", "models:small"])
def test_a_name_shows_its_card(quillrt, stand_in, name):
    card = (stand_in / "small.md").read_text(encoding="utf-8")

    assert quillrt("models", name) == (0, card, "")
    found = json.loads(quillrt("models", name, "--json")[1])
    assert (found["name"], found["card"]) == ("small", card)


def test_an_install_without_models_has_an_empty_list(quillrt, monkeypatch, tmp_path):
    monkeypatch.setattr("quillrt.runtime.pretrained.FOLDER", tmp_path)

    assert quillrt("models", "--json") == (0, "[]\n", "")
    assert quillrt("models")[0] == 0
