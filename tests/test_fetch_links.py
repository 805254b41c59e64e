"""`bionas fetch insects1m`: many images, a link each, and the table of those that failed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import bad_server
import pandas as pd
import pytest
from bad_server import announce, answer, names, noise, picture

from bionas.__main__ import main
from bionas.errors import SpecimenError
from bionas.specimens.fetch import disk, insect_image_name, insect_image_names, links
from bionas.specimens.fetch.hosts import Hosts, Link

site, waits = bad_server.site, bad_server.waits
pytestmark = pytest.mark.usefixtures("waits")


@pytest.fixture
def insects(site, tmp_path):
    """Twelve records as Insect-1M has them, with links to pictures on loopback."""
    records = []
    for number in range(12):
        url = site.put(f"/img/{number}.jpg", picture(seed=number))
        records.append(
            {
                "Order": "Beetles (Coleoptera)",
                "Family": "No Taxon",
                "id": 100_000 * number,
                "image_url": url,
                "description_ids": [0],
            }
        )
    content = {"insect_records": records, "description_records": [{"id": 0, "description": "A beetle."}]}
    path = tmp_path / "insect1m.json"
    path.write_text(json.dumps(content))
    return SimpleNamespace(
        path=path,
        content=content,
        data=tmp_path / "data",
        words=["fetch", "insects1m", "--records", str(path), "--data-dir", str(tmp_path / "data")],
    )


def failed(insects) -> pd.DataFrame:
    return pd.read_csv(insects.data / "failed.csv", dtype=str, keep_default_na=False)


def test_the_images_lie_in_folders_by_their_first_digits(insects, capsys):
    assert main(insects.words) == 0
    assert names(insects.data) == {f"images/{number:02}0/{number * 100_000}.jpg" for number in range(12)}
    for number in range(12):
        name = insect_image_name(number * 100_000)
        assert (insects.data / name).read_bytes() == picture(seed=number)
    assert "12 images fetched, 0 failed" in capsys.readouterr().out


def test_names_are_stable_safe_and_never_shared():
    assert insect_image_name(4711) == insect_image_name("4711") == "images/000/4711.jpg"
    assert insect_image_name(1234567) == "images/123/1234567.jpg"
    strange = ["../../x", "a/b", "a%2Fb", "", "..", "a", "A", "Käfer"]
    made = [insect_image_name(name) for name in strange if name]
    assert len(set(made)) == len(made) and all(
        re.fullmatch(r"images/[0-9a-f]{3}/[^/]+\.jpg", name) for name in made
    )
    for useless in ("", "x" * 300):
        with pytest.raises(SpecimenError, match="cannot name a file"):
            insect_image_name(useless)


def test_an_image_has_the_suffix_of_its_content_and_is_found_by_it(site, insects):
    site.files["/img/3.jpg"] = picture("PNG")
    assert main(insects.words) == 0
    assert insect_image_names(insects.data, [0, 300_000, 5]) == [
        "images/000/0.jpg",
        "images/030/300000.png",
        "images/000/5.jpg",
    ]
    asked = len(site.log)
    assert main(insects.words) == 0 and len(site.log) == asked  # all there: nothing is asked


def test_what_fails_is_in_the_table_and_is_asked_first_the_next_time(site, insects, capsys):
    whole = picture(size=200)
    site.files["/img/2.jpg"] = b"<html>sign in</html>"
    site.files["/img/5.jpg"] = whole[: len(whole) // 2]
    site.files.pop("/img/7.jpg")
    site.misdeeds["/img/9.jpg"].extend([answer(500)] * 4)
    site.misdeeds["/img/10.jpg"].append(announce(10**9 // 1000))
    insects.content["insect_records"][11]["image_url"] = ""
    insects.path.write_text(json.dumps(insects.content))
    assert main(insects.words) == 1
    table = failed(insects).set_index("id")
    assert list(table.columns) == ["url", "status", "reason", "attempts"]
    assert table["status"].to_dict() == {
        "200000": "200",
        "500000": "200",
        "700000": "404",
        "900000": "500",
        "1100000": "",
    }
    assert table["attempts"].to_dict() == {
        "200000": "1",
        "500000": "1",
        "700000": "1",
        "900000": "4",
        "1100000": "1",
    }
    assert table.reason["200000"].startswith("not an image") and "truncated" in table.reason["500000"]
    assert "7 images fetched, 5 failed" in capsys.readouterr().out
    assert len(names(insects.data / "images")) == 7  # a dropped connection was asked again

    for number in (2, 5, 7):
        site.put(f"/img/{number}.jpg", picture(seed=number))
    (insects.data / insect_image_name(0)).unlink()
    site.log.clear()
    assert main([*insects.words, "--parallel", "1"]) == 1
    order = [path for method, path, _ in site.log if method == "GET"]
    assert order == ["/img/2.jpg", "/img/5.jpg", "/img/7.jpg", "/img/9.jpg", "/img/0.jpg"]
    table = failed(insects)
    assert table["id"].tolist() == ["1100000"] and table["attempts"].tolist() == ["2"]


def test_the_table_is_gone_when_nothing_is_left_in_it(site, insects):
    site.misdeeds["/img/4.jpg"].append(answer(404))
    assert main(insects.words) == 1 and (insects.data / "failed.csv").exists()
    assert main(insects.words) == 0 and not (insects.data / "failed.csv").exists()


def test_a_limit_takes_the_first_records(insects):
    assert main([*insects.words, "--limit", "5"]) == 0
    assert len(names(insects.data)) == 5
    assert main([*insects.words, "--limit", "7"]) == 0
    assert len(names(insects.data)) == 7


def test_a_server_that_asks_for_a_pause_gets_it(site, insects, waits):
    site.misdeeds["/img/0.jpg"].append(answer(429, Retry_After="30"))
    assert main([*insects.words, "--parallel", "1"]) == 0
    assert waits == [pytest.approx(30)]
    assert [path for method, path, _ in site.log if method == "GET"][:2] == [
        "/img/0.jpg"
    ] * 2  # nobody else meanwhile


def test_a_server_that_asks_for_hours_ends_the_run(site, insects, capsys):
    site.misdeeds["/img/3.jpg"].append(answer(503, Retry_After="9000"))
    assert main([*insects.words, "--parallel", "1"]) == 2
    assert "asked to wait 9000 s" in capsys.readouterr().err
    assert len(names(insects.data)) == 3


def test_requests_are_bounded_and_fewer_to_one_server(site, insects):
    gate = threading.Semaphore(0)
    arrived = []

    def slow(handler, content):
        arrived.append(handler.path)
        gate.acquire(timeout=0.05)
        handler.behave(content)

    for number in range(12):
        site.misdeeds[f"/img/{number}.jpg"].append(slow)
    todo = links.read_links(insects.path).links
    assert links.fetch_images(todo, insects.data, parallel=8, per_host=3).fetched == 12
    assert len(arrived) == 12 and 1 < site.most <= 3


def test_hosts_take_turns_and_rest():
    hosts = Hosts(
        [Link("1", "http://a/1"), Link("2", "http://a/2"), Link("3", "http://b/3"), Link("4", "")], per_host=1
    )
    first, second, third = hosts.next(0), hosts.next(0), hosts.next(0)
    assert [task.link.id for task in (first, second, third)] == ["1", "3", "4"]
    assert (
        hosts.next(0) is None and hosts.waiting == 1 and hosts.seconds_to_next(0) is None
    )  # "2" waits for "1"
    hosts.later(first, ready=10, whole_host=True)
    hosts.finished(first)
    assert hosts.next(5) is None and hosts.seconds_to_next(5) == 5
    again = hosts.next(10)
    assert again is first and again.attempts == 2
    hosts.finished(again)
    assert hosts.next(10).link.id == "2" and hosts.waiting == 0


def test_a_dead_server_among_others_is_given_up(site, insects, monkeypatch, waits):
    monkeypatch.setattr(links, "ABANDON_AFTER", 3)
    for number in range(4):
        insects.content["insect_records"][number]["image_url"] = f"http://127.0.0.1:9/{number}.jpg"
    insects.path.write_text(json.dumps(insects.content))
    assert main([*insects.words, "--parallel", "2"]) == 1
    table = failed(insects)
    assert sorted(table["id"]) == ["0", "100000", "200000", "300000"]
    assert table["reason"].str.contains("127.0.0.1:9 left . requests in a row unanswered").all()


def test_no_network_ends_the_run_and_blames_no_link(insects, monkeypatch, capsys):
    monkeypatch.setattr(links, "ABANDON_AFTER", 3)
    for record in insects.content["insect_records"]:
        record["image_url"] = "http://127.0.0.1:9/a.jpg"
    insects.path.write_text(json.dumps(insects.content))
    assert main([*insects.words, "--parallel", "1"]) == 2
    assert "Is there a network?" in capsys.readouterr().err and not (insects.data / "failed.csv").exists()


def test_interrupting_keeps_images_and_table(site, insects, monkeypatch, capsys):
    site.misdeeds["/img/0.jpg"].append(answer(404))
    settle = links._Run.settle

    def interrupted(run, *words):
        settle(run, *words)
        if run.fetched == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(links._Run, "settle", interrupted)
    assert main([*insects.words, "--parallel", "1"]) == 130
    assert len(names(insects.data / "images")) >= 4 and failed(insects)["id"].tolist() == ["0"]
    monkeypatch.undo()
    assert not list(insects.data.rglob("*.part"))


def test_images_that_would_not_fit_are_refused_by_the_size_of_a_few(insects, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=1000))
    assert main(insects.words) == 2
    assert "--limit N" in capsys.readouterr().err and not insects.data.exists()
    assert main([*insects.words, "--dry-run"]) == 2


def test_a_dry_run_of_links_fetches_none(site, insects, capsys):
    assert main([*insects.words, "--dry-run"]) == 0
    assert all(method == "HEAD" for method, _, _ in site.log) and not insects.data.exists()
    size = sum(len(picture(seed=number)) for number in range(8))
    assert f"About {disk.text(size / 8 * 12)} needed" in capsys.readouterr().out


def test_records_may_be_a_mapping_and_repeat_an_id(insects):
    records = insects.content["insect_records"]
    by_id = {str(record.pop("id")): record for record in json.loads(json.dumps(records))}
    insects.path.write_text(json.dumps({"description_records": [], "insect_records": by_id}))
    assert links.read_links(insects.path) == ([Link(str(r["id"]), r["image_url"]) for r in records], 0)
    insects.path.write_text(
        json.dumps({"insect_records": [*records, {**records[0], "image_url": "http://other"}]})
    )
    listed, repeated = links.read_links(insects.path)
    assert repeated == 1 and len(listed) == 12 and listed[0].url == records[0]["image_url"]


def test_other_files_of_records_are_refused_in_words(tmp_path):
    for content, why in (
        ({"records": []}, "no 'insect_records'. Its keys: records"),
        ({"insect_records": [{"Order": "x"}]}, "record 1 of insect_records: no key 'id'"),
        ({"insect_records": [{"id": 1, "image_urls": "http://a"}]}, "Did the file rename it to 'image_urls'"),
    ):
        (tmp_path / "r.json").write_text(json.dumps(content))
        with pytest.raises(SpecimenError, match=re.escape(why)):
            links.read_links(tmp_path / "r.json")


def test_another_table_called_failed_is_not_overwritten(insects):
    insects.data.mkdir()
    (insects.data / "failed.csv").write_text("student,mark\n1,2\n")
    assert main(insects.words) == 2
    assert (insects.data / "failed.csv").read_text() == "student,mark\n1,2\n"


@pytest.mark.parametrize(
    ("kind", "suffix"), [("JPEG", ".jpg"), ("PNG", ".png"), ("WEBP", ".webp"), ("GIF", ".gif")]
)
def test_the_content_decides_what_it_is(kind, suffix):
    whole = picture(kind, size=120)
    assert links.image_suffix(whole) == suffix
    for spoilt in (whole[: len(whole) // 2], b"", b"<html>", noise(500)):
        with pytest.raises(ValueError, match="image"):
            links.image_suffix(spoilt)


def test_the_naming_rule_needs_nothing_of_the_network():
    package = Path(links.__file__).parent
    code = f"""
import sys, types
specimens = sys.modules["bionas.specimens"] = types.ModuleType("bionas.specimens")
specimens.__path__ = [{str(package.parent)!r}]
from bionas.specimens.fetch import insect_image_name
print(sorted({{name.split(".")[0] for name in sys.modules}} & {{"requests", "urllib3", "bioscan_dataset", "torch", "PIL"}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
