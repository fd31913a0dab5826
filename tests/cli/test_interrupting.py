"""What an interrupted training leaves, and what `--resume` makes of it; killed ones are in test_training.py."""


def test_resuming_with_another_option_is_refused(quillrt, tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    options = ("--per-class", 5, "--epochs", 2, "--output", path)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("quillrt.train.curves.write_history", stop)
        code, out, err = quillrt("train", *options)
    assert (code, out) == (130, "")
    assert err.startswith("interrupted; the same command with --resume")
    code, _, err = quillrt("train", *options, "--resume", "--lr", 0.1)
    assert code == 1
    assert "lr 0.002 there and 0.1 here; give the same options or leave --resume out" in err
    assert err.count("\n") == 1
    code, _, err = quillrt("train", *options, "--resume", "--json")
    assert code == 0, err
    assert err.splitlines()[0].startswith("epoch 2/2")
    assert len((tmp_path / "net.safetensors.csv").read_text().splitlines()) == 3


def test_nothing_to_resume_is_told(quillrt, tmp_path):
    path = tmp_path / "net.safetensors"
    code, _, err = quillrt("train", "--per-class", 5, "--epochs", 1, "--output", path, "--resume")
    assert code == 0
    assert err.startswith(f"nothing to resume at {path}.state: training from the start\nepoch 1/1")


def test_an_interrupt_before_the_first_epoch_leaves_nothing_to_resume(quillrt, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("quillrt.train.loop.Loop.epoch", stop)
    code, out, err = quillrt("train", "--epochs", 1, "--output", tmp_path / "net.safetensors")
    assert (code, out, err) == (130, "", "")
    assert not list(tmp_path.iterdir())


def test_the_state_of_an_older_training_is_not_offered(quillrt, tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    (tmp_path / "net.safetensors.state").write_bytes(b"of another training")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("quillrt.train.loop.Loop.epoch", stop)
    assert quillrt("train", "--epochs", 1, "--output", path) == (130, "", "")


def test_a_training_resumed_after_its_last_epoch_has_its_whole_table(quillrt, tmp_path, monkeypatch):
    """Killed between the state of the last epoch and the files of it."""
    path = tmp_path / "net.safetensors"

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("quillrt.cli.training_report.Reporter.epoch", stop)
        assert quillrt("train", "--per-class", 5, "--epochs", 1, "--output", path)[0] == 130
    assert not path.exists()
    code, _, err = quillrt("train", "--per-class", 5, "--epochs", 1, "--output", path, "--resume", "--json")
    assert (code, err) == (0, "")
    assert len((tmp_path / "net.safetensors.csv").read_text().splitlines()) == 2
    assert path.exists()
