"""Create or update a report on W&B that compares methods.

tireid dashboard --project tireid --group like_for_like
tireid dashboard --entity team --dataset cuhk_pedes
tireid dashboard --dry-run dashboard.json
"""

from pathlib import Path

from tireid.comparison.dashboard import server
from tireid.comparison.dashboard.charts import seed_charts
from tireid.comparison.dashboard.report import build
from tireid.comparison.dashboard.scope import Scope
from tireid.comparison.published import read_published
from tireid.console import say
from tireid.files import write_json


def send(scope: Scope, url: str | None = None) -> str:
    """Create the report of a scope, or update the existing one.

    Args:
        scope: The runs that it compares.
        url: Address of the report to update; None: the project's report with the same title, or a
            new one.

    Returns:
        The address of the report.

    Raises:
        ValueError: If the project or the report at `url` does not exist.
    """
    url = url or server.find_report(scope.entity, scope.project, scope.title)
    published = read_published(scope.dataset)
    charts = []
    for chart in seed_charts(published):
        try:
            server.store_chart(scope.entity, chart)
            charts.append(chart)
        except server.FAILURES as error:
            say(
                f"left out: the chart {chart.title!r}, which the server refused: {error}",
                style="red",
            )
    saved = server.save_report(build(scope, published, charts), url)
    say(f"{'updated' if url else 'created'}: {saved}")
    return saved


def write(scope: Scope, path: Path) -> None:
    """Write what would be sent as JSON, without a key or the network.

    Args:
        scope: The runs that it compares.
        path: The file; its folder is created.
    """
    published = read_published(scope.dataset)
    charts = seed_charts(published)
    requests = [
        {"entity": scope.entity, "name": chart.name, "displayName": chart.title, "spec": chart.spec}
        for chart in charts
    ]
    report = server.request_of(build(scope, published, charts))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"report": report, "charts": requests})
    say(f"written, not sent: {path}: {scope.title!r} for {scope.entity}/{scope.project}")
