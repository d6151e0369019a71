import os
import resource
from pathlib import Path

import pytest

from sidekey.config.file_stamps import StampCache
from sidekey.config.files import ConfigDocuments, default_config_path, read_config


def errors_of(joined: ConfigDocuments, folder: Path) -> list[str]:
    return [str(error).removeprefix(f"{folder}/") for error in joined.errors]


@pytest.mark.parametrize(
    ("environ", "path"),
    [({}, "/etc/sidekey"), ({"SIDEKEY_CONFIG": ""}, "/etc/sidekey"), ({"SIDEKEY_CONFIG": "crm.yaml"}, "crm.yaml")],
)
def test_the_config_is_found_without_being_named(environ: dict[str, str], path: str) -> None:
    """The environment says where, else it is the usual folder."""
    assert default_config_path(environ) == path


def test_a_folder_is_read_flat_and_by_name(tmp_path: Path) -> None:
    """Its *.yaml and *.yml, none beginning with a dot, no folders below: what Kubernetes mounts."""
    for name in ("b.yml", "a.yaml", "..data.yaml", ".hidden.yaml", "notes.txt", "c.yaml.bak"):
        (tmp_path / name).write_text("version: 1\n")
    (tmp_path / "d.yaml").mkdir()
    (tmp_path / "d.yaml" / "e.yaml").write_text("version: 1\n")
    joined = read_config(tmp_path)
    assert [Path(document.file).name for document in joined.documents] == ["a.yaml", "b.yml"]
    assert joined.errors == []


def test_paths_start_at_the_folder_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link is not resolved: what lies behind it may be swapped."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "sidekey.yaml").write_text("version: 1\n")
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    assert read_config(Path("link")).folder == tmp_path / "link"
    assert read_config(Path("link/sidekey.yaml")).folder == tmp_path / "link"


def test_a_global_key_is_in_one_file_only(tmp_path: Path) -> None:
    """But for version, which stands in each; the error names both places."""
    (tmp_path / "a.yaml").write_text("version: 1\nvia: true\n")
    (tmp_path / "b.yaml").write_text("version: 1\nlog: {}\nvia: true\n")
    joined = read_config(tmp_path)
    assert errors_of(joined, tmp_path) == [f"b.yaml:3:1: via: this is already in {tmp_path}/a.yaml:2: remove one"]
    assert {key: Path(owner.file).name for key, owner in joined.owners.items() if key != "version"} == {
        "via": "a.yaml",
        "log": "b.yaml",
    }


def test_an_integration_is_in_one_file_only(tmp_path: Path) -> None:
    """An ID given twice is an error that names both places; other IDs of the two files are joined."""
    (tmp_path / "a.yaml").write_text("version: 1\nintegrations:\n  crm: {}\n  sms: {}\n")
    (tmp_path / "b.yaml").write_text("version: 1\nintegrations: {web: {}, crm: {}}\n")
    joined = read_config(tmp_path)
    assert errors_of(joined, tmp_path) == [
        f"b.yaml:2:25: integrations.crm: this is already in {tmp_path}/a.yaml:3: remove one"
    ]
    assert list(joined.integrations) == ["crm", "sms", "web"]


def test_each_file_says_its_version(tmp_path: Path) -> None:
    """Also where another file of the folder says it."""
    (tmp_path / "a.yaml").write_text("version: 1\n")
    (tmp_path / "b.yaml").write_text("integrations:\n")
    assert errors_of(read_config(tmp_path), tmp_path) == [
        "b.yaml:1:1: version: this key is missing: begin each file with version: 1"
    ]


def test_a_file_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    """The rest is read, and the whole is known to be incomplete."""
    (tmp_path / "a.yaml").write_text("version: [")
    (tmp_path / "b.yaml").symlink_to("nowhere.yaml")
    (tmp_path / "c.yaml").write_text("version: 2\n")
    joined = read_config(tmp_path)
    assert len(joined.errors) == 3
    assert not joined.complete


def test_a_folder_without_files_is_an_error(tmp_path: Path) -> None:
    """It is a mount that failed rather than a wish for nothing."""
    assert (
        str(read_config(tmp_path).errors[0])
        == f"{tmp_path}:1:1: (file): the folder must contain a *.yaml or *.yml file"
    )


def test_a_path_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    """The message names the path."""
    path = tmp_path / "none.yaml"
    assert str(read_config(path).errors[0]) == f"{path}:1:1: (file): {path} does not exist"


def test_a_special_file_is_an_error() -> None:
    """A device has no end."""
    assert str(read_config(Path(os.devnull)).errors[0]) == "/dev/null:1:1: (file): /dev/null must be a regular file"


def test_all_that_is_read_is_looked_at(tmp_path: Path) -> None:
    """A folder, and each of its files; those that cannot be read as well."""
    (tmp_path / "a.yaml").write_text("version: 1\n")
    (tmp_path / "b.yaml").symlink_to("nowhere.yaml")
    looks = StampCache()
    read_config(tmp_path, stamp_of=looks)
    assert looks.stamps.keys() == {tmp_path, tmp_path / "a.yaml", tmp_path / "b.yaml"}
    looks = StampCache()
    read_config(tmp_path / "a.yaml", stamp_of=looks)
    assert looks.stamps.keys() == {tmp_path / "a.yaml"}


def test_a_path_that_is_too_long_is_an_error(tmp_path: Path) -> None:
    joined = read_config(tmp_path / ("a" * 300))
    assert [error.message for error in joined.errors] == [f"{tmp_path}/{'a' * 300} cannot be read: File name too long"]


@pytest.mark.parametrize("where", [".", "a.yaml"])
def test_what_cannot_be_opened_for_want_of_descriptors_is_an_error_that_passes(tmp_path: Path, where: str) -> None:
    """No stamp tells when there are some again."""
    (tmp_path / "a.yaml").write_text("version: 1\n")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        joined = read_config(tmp_path / where)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert joined.transient
    assert [error.message.rpartition(": ")[2] for error in joined.errors] == ["Too many open files"]
    assert not read_config(tmp_path / where).transient
    assert not read_config(tmp_path / "none.yaml").transient
