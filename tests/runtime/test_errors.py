import inspect
import re

from quillrt.runtime import errors


def test_the_tree_in_the_docstring_is_the_tree_in_the_code():
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__))
    classes = {name for name, cls in inspect.getmembers(errors, inspect.isclass) if cls.__module__ == errors.__name__}

    assert drawn == classes - {"QuillError"}
    assert all(getattr(errors, name).__bases__ == (errors.QuillError,) for name in drawn)
