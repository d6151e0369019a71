import os
import resource
from pathlib import Path

import pytest

from sidekey.config.file_stamps import StampCache, stamp
from sidekey.config.secrets import MAX_FILE_SIZE, RecordingReader, SecretReader, Transient, describe_source
from sidekey.credentials import fields
from sidekey.credentials.fields import Reference


@pytest.fixture
def read(tmp_path: Path) -> SecretReader:
    return SecretReader(
        tmp_path, {"CRM": "hunter2", "EMPTY": "", "BREAK": "hunter2\n\n", "BYTES": os.fsdecode(b"\xe9")}
    )


@pytest.mark.parametrize("content", ["hunter2", "hunter2\n", "hunter2\r\n"])
def test_relative_path_starts_at_the_config_folder(read: SecretReader, tmp_path: Path, content: str) -> None:
    """One newline at the end is removed."""
    (tmp_path / "crm").write_bytes(content.encode())
    assert read(Reference("file", "crm")) == "hunter2"


PEM = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"


def test_pem_keeps_its_lines(tmp_path: Path) -> None:
    read = SecretReader(tmp_path, {"KEY": PEM})
    (tmp_path / "key").write_text(PEM)
    for source, value in (("file", "key"), ("env", "KEY")):
        assert read(Reference(source, value, pem=True)) == PEM
        with pytest.raises(ValueError, match="must not contain a control character"):
            read(Reference(source, value))


def test_absolute_path_ignores_the_config_folder(read: SecretReader, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("secrets") / "crm"
    path.write_text("hunter2")
    assert read(Reference("file", str(path))) == "hunter2"


@pytest.mark.parametrize("source", ["text", "insecure_value"])
def test_inline_value_is_not_expanded(read: SecretReader, source: str) -> None:
    assert read(Reference(source, "${CRM}")) == "${CRM}"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("NONE", "environment variable NONE is not set"),
        ("EMPTY", "environment variable EMPTY must not be empty"),
        ("BREAK", "environment variable BREAK must not end with more than one newline"),
        ("BYTES", "environment variable BYTES must be UTF-8"),
    ],
)
def test_unusable_variable_has_a_reason_without_its_content(read: SecretReader, name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$"):
        read(Reference("env", name))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file must not be empty"),
        (b"\n", "the file must not be empty"),
        (b"\r\n", "the file must not be empty"),
        (b"hunter2\nX-Admin: 1\n", "the file must not contain a control character"),
        (b"hunter2\xff", "the file must be UTF-8"),
        (b"a" * (MAX_FILE_SIZE + 1), "the file must be at most 64 KiB"),
    ],
)
def test_unusable_file_has_a_reason_without_its_content(
    read: SecretReader, tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "crm").write_bytes(content)
    with pytest.raises(ValueError, match=f"^{reason}$"):
        read(Reference("file", "crm"))


def test_file_of_64_kib_is_read_and_a_larger_one_is_refused(read: SecretReader, tmp_path: Path) -> None:
    (tmp_path / "crm").write_bytes(b"a" * MAX_FILE_SIZE)
    assert len(read(Reference("file", "crm"))) == MAX_FILE_SIZE


def test_missing_relative_file_says_where_paths_start(read: SecretReader) -> None:
    with pytest.raises(ValueError, match="does not exist; a relative path starts at the config file's folder"):
        read(Reference("file", "crm"))


def test_folder_is_refused(read: SecretReader, tmp_path: Path) -> None:
    (tmp_path / "crm").mkdir()
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        read(Reference("file", "crm"))


def test_pipe_is_refused_without_waiting(read: SecretReader, tmp_path: Path) -> None:
    """An ordinary open waits for a writer."""
    os.mkfifo(tmp_path / "crm")
    with pytest.raises(ValueError, match="must be a regular file"):
        read(Reference("file", "crm"))


def test_loop_of_links_is_refused(read: SecretReader, tmp_path: Path) -> None:
    (tmp_path / "crm").symlink_to("crm")
    with pytest.raises(ValueError, match="cannot be read: Too many levels of symbolic links"):
        read(Reference("file", "crm"))


def test_missing_absolute_file_has_no_hint(read: SecretReader, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"/none does not exist$"):
        read(Reference("file", str(tmp_path / "none")))


def test_raw_returns_bytes_unchanged(tmp_path: Path) -> None:
    read = SecretReader(tmp_path, {"BYTES": os.fsdecode(b"\xe9\n")})
    (tmp_path / "der").write_bytes(b"0\x82\x00\n")
    assert read.raw(Reference("file", "der"), 4) == b"0\x82\x00\n"
    assert read.raw(Reference("env", "BYTES"), 4) == b"\xe9\n"
    assert read.raw(Reference("inline", "\u00e9"), 4) == b"\xc3\xa9"
    with pytest.raises(ValueError, match="the file must be at most"):
        read.raw(Reference("file", "der"), 3)
    with pytest.raises(ValueError, match="environment variable NONE is not set"):
        read.raw(Reference("env", "NONE"), 4)


def test_reader_records_the_files_of_each_reading(tmp_path: Path) -> None:
    """Missing files too."""
    (tmp_path / "crm").write_text("hunter2")
    read = RecordingReader(tmp_path, {"CRM": "hunter2"}, StampCache())
    read(Reference("file", "crm"))
    read(Reference("env", "CRM"))
    with pytest.raises(ValueError, match="does not exist"):
        read.raw(Reference("file", "none"), MAX_FILE_SIZE)
    assert read.pop_recorded().files == ((tmp_path / "crm", stamp(tmp_path / "crm")), (tmp_path / "none", None))
    read.record("ca.pem")
    assert read.pop_recorded().files == ((tmp_path / "ca.pem", None),)
    assert read.pop_recorded().files == ()


def test_recorded_stamp_is_from_before_the_read(tmp_path: Path) -> None:
    """The next check finds a change during the read."""
    (tmp_path / "crm").write_text("older")
    stamps = StampCache()
    before = stamps(tmp_path / "crm")
    (tmp_path / "crm").write_text("newer one")
    read = RecordingReader(tmp_path, {}, stamps)
    assert read(Reference("file", "crm")) == "newer one"
    assert read.pop_recorded().files == ((tmp_path / "crm", before),)
    assert stamp(tmp_path / "crm") != before


def test_name_that_is_too_long_is_refused(read: SecretReader) -> None:
    with pytest.raises(ValueError, match="the file cannot be read: File name too long"):
        read(Reference("file", "a" * 300))


def test_transient_error_is_recorded_with_a_stamp_that_no_file_has(tmp_path: Path) -> None:
    """The next load builds again what lacks the file, although the file has not changed."""
    path = tmp_path / "pw"
    path.write_text("x")
    stamps = StampCache()
    reader = RecordingReader(tmp_path, {}, stamps)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(Transient, match="Too many open files"):
            reader.content("pw", 10)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert reader.transient
    assert [(noted, state != stamps(noted)) for noted, state in reader.pop_recorded().files] == [(path, True)]
    assert reader.content("pw", 10) == b"x"
    assert reader.pop_recorded().files == ((path, stamps(path)),)


@pytest.mark.parametrize(
    ("source", "name", "shown"),
    [
        ("env", "CRM_PASSWORD", "environment variable CRM_PASSWORD"),
        ("env", "hunter2", "the environment variable"),
        *(
            ("file", path, path)
            for path in (
                "/run/secrets/crm",
                "crm.txt",
                "/no/such/file",
                "secrets/crm",
                "secrets/eu-1/crm_password",
                "tls.crt",
            )
        ),
        *(
            ("file", secret, "the file")
            for secret in (
                "crm",
                "hunter2",
                "/hunter2",
                "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
                "dGhpcyBpcyBhIHNlY3JldA/K3JlYWxseQ",
                "/9j/4AAQSkZJRgABAQ",
            )
        ),
    ],
)
def test_name_that_may_be_a_pasted_secret_is_not_shown(source: fields.Source, name: str, shown: str) -> None:
    """A secret in place of a path or variable would get into logs and responses."""
    assert describe_source(source, name) == shown
