"""The quillrt command."""
