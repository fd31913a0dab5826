import pytest

from quillrt.runtime.counting import counted


@pytest.mark.parametrize(("number", "said"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (12345, "12,345 rows")])
def test_one_alone_has_no_plural(number, said):
    assert counted(number, "row") == said
