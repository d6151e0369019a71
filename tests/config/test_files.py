import os
import resource
from pathlib import Path

import pytest

from sidekey.config.file_stamps import StampCache
from sidekey.config.files import ConfigDocuments, default_config_path, read_config


def errors_of(documents: ConfigDocuments, folder: Path) -> list[str]:
    return [str(error).removeprefix(f"{folder}/") for error in documents.errors]


@pytest.mark.parametrize(
    ("environ", "path"),
    [({}, "/etc/sidekey"), ({"SIDEKEY_CONFIG": ""}, "/etc/sidekey"), ({"SIDEKEY_CONFIG": "crm.yaml"}, "crm.yaml")],
)
def test_default_path_is_from_the_environment_or_etc(environ: dict[str, str], path: str) -> None:
    assert default_config_path(environ) == path


def test_folder_is_read_by_name_without_subfolders_and_hidden_files(tmp_path: Path) -> None:
    """Kubernetes mounts hidden files and folders beside the files."""
    for name in ("b.yml", "a.yaml", "..data.yaml", ".hidden.yaml", "notes.txt", "c.yaml.bak"):
        (tmp_path / name).write_text("version: 1\n")
    (tmp_path / "d.yaml").mkdir()
    (tmp_path / "d.yaml" / "e.yaml").write_text("version: 1\n")
    joined = read_config(tmp_path)
    assert [Path(document.file).name for document in joined.documents] == ["a.yaml", "b.yml"]
    assert joined.errors == []


def test_config_folder_is_not_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The target of a link may be swapped."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "sidekey.yaml").write_text("version: 1\n")
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    assert read_config(Path("link")).folder == tmp_path / "link"
    assert read_config(Path("link/sidekey.yaml")).folder == tmp_path / "link"


def test_global_key_in_two_files_is_an_error_with_both_places(tmp_path: Path) -> None:
    """Every file needs `version`."""
    (tmp_path / "a.yaml").write_text("version: 1\nvia: true\n")
    (tmp_path / "b.yaml").write_text("version: 1\nlog: {}\nvia: true\n")
    joined = read_config(tmp_path)
    assert errors_of(joined, tmp_path) == [f"b.yaml:3:1: via: this is already in {tmp_path}/a.yaml:2: remove one"]
    assert {key: Path(owner.file).name for key, owner in joined.owners.items() if key != "version"} == {
        "via": "a.yaml",
        "log": "b.yaml",
    }


def test_integration_in_two_files_is_an_error_with_both_places(tmp_path: Path) -> None:
    """Other IDs of the two files are combined."""
    (tmp_path / "a.yaml").write_text("version: 1\nintegrations:\n  crm: {}\n  sms: {}\n")
    (tmp_path / "b.yaml").write_text("version: 1\nintegrations: {web: {}, crm: {}}\n")
    joined = read_config(tmp_path)
    assert errors_of(joined, tmp_path) == [
        f"b.yaml:2:25: integrations.crm: this is already in {tmp_path}/a.yaml:3: remove one"
    ]
    assert list(joined.integrations) == ["crm", "sms", "web"]


def test_each_file_needs_a_version(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("version: 1\n")
    (tmp_path / "b.yaml").write_text("integrations:\n")
    assert errors_of(read_config(tmp_path), tmp_path) == [
        "b.yaml:1:1: version: this key is missing: begin each file with version: 1"
    ]


def test_unreadable_file_hides_no_error_of_another(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("version: [")
    (tmp_path / "b.yaml").symlink_to("nowhere.yaml")
    (tmp_path / "c.yaml").write_text("version: 2\n")
    joined = read_config(tmp_path)
    assert len(joined.errors) == 3
    assert not joined.complete


def test_empty_folder_is_an_error(tmp_path: Path) -> None:
    """Usually a mount has failed."""
    assert (
        str(read_config(tmp_path).errors[0])
        == f"{tmp_path}:1:1: (file): the folder must contain a *.yaml or *.yml file"
    )


def test_missing_path_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    assert str(read_config(path).errors[0]) == f"{path}:1:1: (file): {path} does not exist"


def test_device_is_an_error() -> None:
    """Reading it might never end."""
    assert str(read_config(Path(os.devnull)).errors[0]) == "/dev/null:1:1: (file): /dev/null must be a regular file"


def test_folder_and_files_are_stamped_even_if_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("version: 1\n")
    (tmp_path / "b.yaml").symlink_to("nowhere.yaml")
    stamps = StampCache()
    read_config(tmp_path, stamp_of=stamps)
    assert stamps.stamps.keys() == {tmp_path, tmp_path / "a.yaml", tmp_path / "b.yaml"}
    stamps = StampCache()
    read_config(tmp_path / "a.yaml", stamp_of=stamps)
    assert stamps.stamps.keys() == {tmp_path / "a.yaml"}


def test_path_that_is_too_long_is_an_error(tmp_path: Path) -> None:
    joined = read_config(tmp_path / ("a" * 300))
    assert [error.message for error in joined.errors] == [f"{tmp_path}/{'a' * 300} cannot be read: File name too long"]


@pytest.mark.parametrize("where", [".", "a.yaml"])
def test_lack_of_descriptors_is_a_transient_error(tmp_path: Path, where: str) -> None:
    """No stamp shows when descriptors are available again."""
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
