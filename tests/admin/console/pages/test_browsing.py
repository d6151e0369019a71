"""admin/console/pages/browsing.py: lists go on in further pages, and keep what they are narrowed by."""

from __future__ import annotations

import html
import re

from admin.conftest import Named
from admin.console.conftest import LogIn
from support.api import Api, Running, basic


def test_a_list_goes_on_with_what_it_is_narrowed_by(log_in: LogIn, running: Running, named: Named, api: Api) -> None:
    """By links alone, there and back; what narrows it is in its fields."""
    pages, tag = log_in("viewer"), named("many")
    names = [f"{tag}-{number:02}" for number in range(51)]
    for name in names:
        api.make("/integrations", {"id": name, "tags": [tag], **basic(running.upstream)})
    first = pages.get(f"/?tag={tag}&kind=basic")
    assert re.findall(rf'href="/integrations/({tag}-\d\d)"', first.body) == names[:50]
    assert first.form("/").fields["tag"] == tag
    assert '<option value="basic" selected>' in first.body
    assert "First page" not in first.body
    (following,) = re.findall(r'href="([^"]*)" rel="next"', first.body)
    second = pages.get(html.unescape(following))
    assert re.findall(rf'href="/integrations/({tag}-\d\d)"', second.body) == names[50:]
    assert 'rel="next"' not in second.body
    (back,) = re.findall(r'href="([^"]*)">First page', second.body)
    assert f'href="/integrations/{names[0]}"' in pages.get(html.unescape(back)).body


def test_what_was_done_is_said_and_what_nothing_is_like(log_in: LogIn) -> None:
    """Of both lists; only an editor may add to them."""
    editor, viewer = log_in("editor"), log_in("viewer")
    for path, add in (("/", "/add"), ("/presets", "/add/preset")):
        assert "Deleted, with its secrets." in editor.get(f"{path}?done=deleted").text
        assert 'class="done"' not in editor.get(f"{path}?done=nonsense").body
        assert f'href="{add}" data-key="n"' in editor.get(path).body
        assert f'href="{add}" data-key="n"' not in viewer.get(path).body
        assert "is like that" in viewer.get(f"{path}?q=nothing-like-it").text
