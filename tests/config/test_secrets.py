import os
import resource
from pathlib import Path

import pytest

from sidekey.config.file_stamps import StampCache, stamp
from sidekey.config.secrets import MAX_FILE_SIZE, NotingReader, SecretReader, Transient, named
from sidekey.credentials import fields
from sidekey.credentials.fields import Reference


@pytest.fixture
def read(tmp_path: Path) -> SecretReader:
    return SecretReader(
        tmp_path, {"CRM": "hunter2", "EMPTY": "", "BREAK": "hunter2\n\n", "BYTES": os.fsdecode(b"\xe9")}
    )


@pytest.mark.parametrize("content", ["hunter2", "hunter2\n", "hunter2\r\n"])
def test_a_file_is_read_from_the_configs_folder(read: SecretReader, tmp_path: Path, content: str) -> None:
    """A relative path starts there, and one trailing newline is dropped."""
    (tmp_path / "crm").write_bytes(content.encode())
    assert read(Reference("file", "crm")) == "hunter2"


PEM = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"


def test_pem_is_read_with_its_lines(tmp_path: Path) -> None:
    """From a file and from a variable; a secret of one line stays one."""
    read = SecretReader(tmp_path, {"KEY": PEM})
    (tmp_path / "key").write_text(PEM)
    for source, value in (("file", "key"), ("env", "KEY")):
        assert read(Reference(source, value, pem=True)) == PEM
        with pytest.raises(ValueError, match="must not contain a control character"):
            read(Reference(source, value))


def test_an_absolute_path_is_taken_as_it_is(read: SecretReader, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The config's folder does not matter then."""
    path = tmp_path_factory.mktemp("secrets") / "crm"
    path.write_text("hunter2")
    assert read(Reference("file", str(path))) == "hunter2"


def test_a_link_that_is_swapped_is_followed_again(read: SecretReader, tmp_path: Path) -> None:
    """Kubernetes renews a mounted secret by swapping the link its folder lies behind."""
    for version in ("old", "new"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "crm").write_text(version)
    link = tmp_path / "..data"
    link.symlink_to("old")
    before = read(Reference("file", "..data/crm"))
    link.unlink()
    link.symlink_to("new")
    assert (before, read(Reference("file", "..data/crm"))) == ("old", "new")


@pytest.mark.parametrize("source", ["text", "insecure_value"])
def test_what_is_written_in_the_config_is_the_value(read: SecretReader, source: str) -> None:
    """Nothing is expanded in it."""
    assert read(Reference(source, "${CRM}")) == "${CRM}"  # type: ignore[arg-type]


def test_a_variable_is_read_from_the_environment(read: SecretReader) -> None:
    """The environment is the one the config was loaded with."""
    assert read(Reference("env", "CRM")) == "hunter2"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("NONE", "environment variable NONE is not set"),
        ("EMPTY", "environment variable EMPTY must not be empty"),
        ("BREAK", "environment variable BREAK must not contain a control character"),
        ("BYTES", "environment variable BYTES must be UTF-8"),
    ],
)
def test_a_variable_that_is_unusable_says_why(read: SecretReader, name: str, reason: str) -> None:
    """The reason names the variable, and never its content."""
    with pytest.raises(ValueError, match=f"^{reason}$"):
        read(Reference("env", name))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file must not be empty"),
        (b"\n", "the file must not be empty"),
        (b"hunter2\nX-Admin: 1\n", "the file must not contain a control character"),
        (b"hunter2\xff", "the file must be UTF-8"),
        (b"a" * (MAX_FILE_SIZE + 1), "the file must be at most 64 KiB"),
    ],
)
def test_a_file_that_is_unusable_says_why(read: SecretReader, tmp_path: Path, content: bytes, reason: str) -> None:
    """The reason holds nothing of the file."""
    (tmp_path / "crm").write_bytes(content)
    with pytest.raises(ValueError, match=f"^{reason}$"):
        read(Reference("file", "crm"))


def test_the_largest_file_is_read_whole(read: SecretReader, tmp_path: Path) -> None:
    """64 KiB are a secret, one byte more is a mistake."""
    (tmp_path / "crm").write_bytes(b"a" * MAX_FILE_SIZE)
    assert len(read(Reference("file", "crm"))) == MAX_FILE_SIZE


def test_a_file_that_is_missing_says_where_paths_start(read: SecretReader) -> None:
    """The usual slip is a path that was meant from somewhere else."""
    with pytest.raises(ValueError, match="does not exist; a relative path starts at the config file's folder"):
        read(Reference("file", "crm"))


def test_a_folder_is_no_secret(read: SecretReader, tmp_path: Path) -> None:
    """Only regular files are read."""
    (tmp_path / "crm").mkdir()
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        read(Reference("file", "crm"))


def test_a_pipe_does_not_hang(read: SecretReader, tmp_path: Path) -> None:
    """A named pipe without a writer would hold an ordinary open for ever."""
    os.mkfifo(tmp_path / "crm")
    with pytest.raises(ValueError, match="must be a regular file"):
        read(Reference("file", "crm"))


def test_a_loop_of_links_is_a_reason(read: SecretReader, tmp_path: Path) -> None:
    """The system's words say what is wrong."""
    (tmp_path / "crm").symlink_to("crm")
    with pytest.raises(ValueError, match="cannot be read: Too many levels of symbolic links"):
        read(Reference("file", "crm"))


def test_an_absolute_path_that_leads_nowhere_needs_no_hint(read: SecretReader, tmp_path: Path) -> None:
    """It starts nowhere else."""
    with pytest.raises(ValueError, match=r"/none does not exist$"):
        read(Reference("file", str(tmp_path / "none")))


def test_bytes_are_read_as_they_are(tmp_path: Path) -> None:
    """What they must be is for whoever asked for them to say."""
    read = SecretReader(tmp_path, {"BYTES": os.fsdecode(b"\xe9\n")})
    (tmp_path / "der").write_bytes(b"0\x82\x00\n")
    assert read.raw(Reference("file", "der"), 4) == b"0\x82\x00\n"
    assert read.raw(Reference("env", "BYTES"), 4) == b"\xe9\n"
    assert read.raw(Reference("inline", "\u00e9"), 4) == b"\xc3\xa9"
    with pytest.raises(ValueError, match="the file must be at most"):
        read.raw(Reference("file", "der"), 3)
    with pytest.raises(ValueError, match="environment variable NONE is not set"):
        read.raw(Reference("env", "NONE"), 4)


def test_a_reader_notes_the_files_that_it_read(tmp_path: Path) -> None:
    """Those that are not there, too; each reading's for itself."""
    (tmp_path / "crm").write_text("hunter2")
    read = NotingReader(tmp_path, {"CRM": "hunter2"}, StampCache())
    read(Reference("file", "crm"))
    read(Reference("env", "CRM"))
    with pytest.raises(ValueError, match="does not exist"):
        read.raw(Reference("file", "none"), MAX_FILE_SIZE)
    assert read.take_noted() == ((tmp_path / "crm", stamp(tmp_path / "crm")), (tmp_path / "none", None))
    read.note("ca.pem")
    assert read.take_noted() == ((tmp_path / "ca.pem", None),)
    assert read.take_noted() == ()


def test_a_noted_stamp_is_of_before_the_reading(tmp_path: Path) -> None:
    """What changes while it is read differs at the next look."""
    (tmp_path / "crm").write_text("older")
    looks = StampCache()
    before = looks(tmp_path / "crm")
    (tmp_path / "crm").write_text("newer one")
    read = NotingReader(tmp_path, {}, looks)
    assert read(Reference("file", "crm")) == "newer one"
    assert read.take_noted() == ((tmp_path / "crm", before),)
    assert stamp(tmp_path / "crm") != before


def test_a_name_that_is_too_long_is_a_reason(read: SecretReader) -> None:
    with pytest.raises(ValueError, match="the file cannot be read: File name too long"):
        read(Reference("file", "a" * 300))


def test_what_cannot_be_read_for_want_of_descriptors_is_noted_as_no_file_ever_is(tmp_path: Path) -> None:
    """So what is built without it differs at the next load, though the file has not changed."""
    path = tmp_path / "pw"
    path.write_text("x")
    looks = StampCache()
    noting = NotingReader(tmp_path, {}, looks)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(Transient, match="Too many open files"):
            noting.content("pw", 10)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert noting.transient
    assert [(noted, state != looks(noted)) for noted, state in noting.take_noted()] == [(path, True)]
    assert noting.content("pw", 10) == b"x"
    assert noting.take_noted() == ((path, looks(path)),)


@pytest.mark.parametrize(
    ("source", "name", "shown"),
    [
        ("env", "CRM_PASSWORD", "environment variable CRM_PASSWORD"),
        ("env", "hunter2", "the environment variable"),
        ("file", "/run/secrets/crm", "/run/secrets/crm"),
        ("file", "crm.txt", "crm.txt"),
        ("file", "hunter2", "the file"),
    ],
)
def test_a_name_that_may_be_a_pasted_secret_is_not_shown(source: fields.Source, name: str, shown: str) -> None:
    """A secret in place of a path or a variable's name would end up in logs and responses."""
    assert named(source, name) == shown


@pytest.mark.parametrize(
    ("source", "name", "shown"),
    [
        ("file", "/no/such/file", True),
        ("file", "secrets/crm", True),
        ("file", "secrets/eu-1/crm_password", True),
        ("file", "tls.crt", True),
        ("file", "crm", False),
        ("file", "hunter2", False),
        ("file", "/hunter2", False),
        ("file", "sk_live_4eC39HqLyjWDarjtT1zdp7dc", False),
        ("file", "dGhpcyBpcyBhIHNlY3JldA/K3JlYWxseQ", False),
        ("file", "/9j/4AAQSkZJRgABAQ", False),
        ("env", "CRM_PASSWORD", True),
        ("env", "hunter2", False),
    ],
)
def test_a_name_is_shown_unless_it_may_be_a_secret(source: fields.Source, name: str, shown: bool) -> None:
    """Somebody may have pasted it in place of the name."""
    assert (name in named(source, name)) is shown
